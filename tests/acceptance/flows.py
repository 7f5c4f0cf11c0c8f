"""Velero's flows as tests use them: backup, restore and deletion by Velero's own CLI, and data in an application."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tests.acceptance import applications
from tests.acceptance.cluster import (
    BACKUP,
    DATA_UPLOAD,
    POD_VOLUME_BACKUP,
    RESTORE,
)

if TYPE_CHECKING:
    from kube.api import Resource
    from tests.acceptance.cluster import Cluster, Json

# Unchanged symlinks count as unchanged bytes, but not into the total: as with Kopia. The trees of tests have two.
LINK_BYTES = 32
_COUNTER = itertools.count(1)
_STARTED = format(int(time.time()) % 1_000_000, "x") + os.environ.get("PYTEST_XDIST_WORKER", "")


def unique(prefix: str) -> str:
    """A name that no earlier run has used."""
    return f"{prefix}-{_STARTED}-{next(_COUNTER)}"


@dataclass
class App:
    """An application of a test: one namespace, one pod called `app`."""

    cluster: Cluster
    namespace: str

    def start(self, *documents: Json, seconds: float = 120) -> None:
        self.cluster.apply(applications.namespace(self.namespace), *documents)
        self.cluster.wait_pod(self.namespace, "app", seconds)

    def write_tree(self, path: str, *, seed: int = 1, count: int = 40, size: int = 20_000) -> str:
        self.run(applications.TREE, path, str(seed), str(count), str(size))
        return self.digest(path)

    def digest(self, path: str, pod: str = "app") -> str:
        return self.run(applications.DIGEST, path, pod=pod).strip()

    def blocks(self, path: str, seed: int = 0) -> str:
        return self.run(applications.BLOCKS, path, str(seed)).strip()

    def run(self, program: str, *arguments: str, pod: str = "app") -> str:
        return self.cluster.exec(self.namespace, pod, "python3", "-c", program, *arguments)


def back_up(
    cluster: Cluster, namespace: str, *flags: str, seconds: float = 180, phase: str = "Completed"
) -> str:
    """Backs a namespace up and gives the backup's name."""
    name = start_backup(cluster, namespace, *flags)
    cluster.wait_phase(BACKUP, name, phase, seconds=seconds)
    return name


def start_backup(cluster: Cluster, namespace: str, *flags: str) -> str:
    name = unique("b")
    cluster.velero("backup", "create", name, "--include-namespaces", namespace, *flags)
    return name


def move_data(cluster: Cluster, namespace: str, *flags: str, seconds: float = 180) -> str:
    """A backup by CSI snapshots whose data is moved."""
    return back_up(cluster, namespace, "--snapshot-move-data", *flags, seconds=seconds)


def restore(
    cluster: Cluster,
    backup: str,
    source: str,
    target: str,
    *flags: str,
    seconds: float = 240,
    phase: str = "Completed",
) -> str:
    """Restores a backup of namespace `source` into `target` and gives the restore's name."""
    name = start_restore(cluster, backup, source, target, *flags)
    cluster.wait_phase(RESTORE, name, phase, seconds=seconds)
    return name


def start_restore(cluster: Cluster, backup: str, source: str, target: str, *flags: str) -> str:
    name = unique("r")
    mapping = [] if source == target else ["--namespace-mappings", f"{source}:{target}"]
    cluster.velero("restore", "create", name, "--from-backup", backup, *mapping, *flags)
    return name


def moves_of(cluster: Cluster, resource: Resource, owner: str) -> list[Json]:
    """The moves that a backup or restore asked for."""
    label = (
        "velero.io/backup-name" if resource in (DATA_UPLOAD, POD_VOLUME_BACKUP) else "velero.io/restore-name"
    )
    return cluster.select(resource, labels=f"{label}={owner}")


def first_move(cluster: Cluster, resource: Resource, owner: str, seconds: float = 60) -> Json:
    """The first move of a backup or restore, once there is one."""
    return cluster.wait(f"{resource.kind} of {owner}", lambda: moves_of(cluster, resource, owner), seconds)[0]


def by_claim(moves: list[Json]) -> dict[str, Json]:
    """Data moves by the PVC that they are for."""
    return {move["spec"].get("sourcePVC") or move["spec"]["targetVolume"]["pvc"]: move for move in moves}


def seconds_of(move: Json) -> float:
    """From created to its final phase, by the API's clock, which knows whole seconds."""
    begun, ended = move["metadata"]["creationTimestamp"], move["status"]["completionTimestamp"]
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()


def delete_backup(cluster: Cluster, name: str) -> None:
    cluster.velero("backup", "delete", name, "--confirm")
    cluster.wait(f"backup {name} is deleted", lambda: cluster.find(BACKUP, name) is None, 120)
