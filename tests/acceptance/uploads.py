"""Moves, also DataUploads made by hand as the server makes them, so that a test can look at each phase; movers held still.

A mover is held by SIGSTOP before it hears its start signal: its move then stays where a test wants it, for as long as
it wants, and goes on with SIGCONT.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from exposer.hosting_pod_manifest import REQUEST_DIRECTORY
from kube.api import POD, VOLUME_SNAPSHOT
from tests.acceptance.cluster import DATA_UPLOAD, VELERO
from tests.acceptance.flows import first_move, unique

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kube.api import Resource
    from tests.acceptance.cluster import Cluster, Json

MOVER_WORDS = (b"mover-pod", b"data-mover")


@dataclass
class Move:
    """One move: a DataUpload unless `kind` says another."""

    cluster: Cluster
    name: str
    kind: Resource = DATA_UPLOAD

    @classmethod
    def first_of(cls, cluster: Cluster, kind: Resource, owner: str) -> Self:
        """The first move of a backup or restore, once there is one."""
        return cls(cluster, first_move(cluster, kind, owner)["metadata"]["name"], kind)

    def status(self) -> Json:
        status: Json = (self.cluster.find(self.kind, self.name) or {}).get("status") or {}
        return status

    def wait(self, *phases: str, seconds: float = 60) -> Json:
        return self.cluster.wait_phase(self.kind, self.name, *phases, seconds=seconds)

    def wait_message(self, *parts: str, seconds: float) -> str:
        """Waits until `status.message` holds one of the parts."""

        def probe() -> str:
            message = str(self.status().get("message", ""))
            return message if any(part in message for part in parts) else ""

        return self.cluster.wait(
            lambda: f"message of {self.name} holds one of {parts} (now {self.status()})", probe, seconds
        )

    def cancel(self) -> None:
        self.cluster.patch(self.kind, self.name, {"spec": {"cancel": True}})

    def mover(self, seconds: float = 60) -> int:
        """The process of the mover on this machine, once it is there."""

        def probe() -> int:
            pod = self.cluster.find(POD, self.name)
            return mover_process(pod["metadata"]["uid"]) if pod is not None else 0

        return self.cluster.wait(f"a mover process for {self.name}", probe, seconds)

    def cancel_reaches(self, process: int) -> None:
        """Waits until the mover, held still, could read that it is canceled."""
        wish = Path(f"/proc/{process}/root{REQUEST_DIRECTORY}/cancel")
        self.cluster.wait(f"{self.name} hears that it is canceled", wish.read_text, 120)

    def listens(self) -> None:
        """Waits until the mover would hear SIGTERM: before, the kernel keeps it from the first process of a container."""
        process = self.mover()
        self.cluster.wait("the mover handles SIGTERM", lambda: _has_signal(process, "SigCgt", signal.SIGTERM))

    def terminate_reaches(self, process: int) -> None:
        """Waits until the kubelet's SIGTERM has come for a mover that is held still."""
        self.cluster.wait("SIGTERM has come", lambda: _has_signal(process, "ShdPnd", signal.SIGTERM))

    @contextmanager
    def held(self) -> Iterator[int]:
        """Holds the mover still from before its start; gives its process."""
        process = self.mover()
        os.kill(process, signal.SIGSTOP)
        try:
            yield process
        finally:
            if Path(f"/proc/{process}").exists():
                os.kill(process, signal.SIGCONT)


def _has_signal(process: int, mask: str, number: int) -> bool:
    """Whether a mask of `/proc/PID/status` has a signal."""
    status = Path(f"/proc/{process}/status").read_text()
    words = next(line.split() for line in status.splitlines() if line.startswith(mask))
    return bool(int(words[1], 16) >> (number - 1) & 1)


def mover_process(pod_uid: str) -> int:
    """The mover of a pod by its cgroup, 0 if there is none."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and pod_uid in (entry / "cgroup").read_text():
                words = (entry / "cmdline").read_bytes()
                if any(word in words for word in MOVER_WORDS):
                    return int(entry.name)
        except OSError:
            continue
    return 0


def upload(
    cluster: Cluster, namespace: str, claim: str, *, location: str = "default", name: str = "",
    snapshot_class: str = "bench", wait_ready: bool = True,
) -> Move:  # fmt: skip
    """Takes a snapshot and asks for its upload."""
    name = name or unique("du")
    meta = {"name": name, "namespace": namespace}
    spec = {"volumeSnapshotClassName": snapshot_class, "source": {"persistentVolumeClaimName": claim}}
    cluster.apply(
        {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": meta, "spec": spec}
    )
    if wait_ready:
        cluster.wait(f"snapshot {name} is ready", lambda: _is_ready(cluster, name, namespace), 60)
    cluster.apply(data_upload(name, namespace, claim, name, location=location))
    return Move(cluster, name)


def data_upload(name: str, namespace: str, claim: str, snapshot: str, *, location: str = "default") -> Json:
    return {
        "apiVersion": "velero.io/v2alpha1",
        "kind": "DataUpload",
        "metadata": {
            "name": name,
            "namespace": VELERO,
            "labels": {"velero.io/async-operation-id": f"du-{name}"[:63]},
        },
        "spec": {
            "snapshotType": "CSI",
            "csiSnapshot": {"volumeSnapshot": snapshot, "storageClass": "bench", "snapshotClass": "bench"},
            "sourcePVC": claim,
            "sourceNamespace": namespace,
            "backupStorageLocation": location,
            "operationTimeout": "10m0s",
        },
    }


def _is_ready(cluster: Cluster, name: str, namespace: str) -> bool:
    body = cluster.find(VOLUME_SNAPSHOT, name, namespace)
    return bool(((body or {}).get("status") or {}).get("readyToUse"))


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Gives a list that holds the seconds that the block took."""
    begun, taken = time.monotonic(), [0.0]
    yield taken
    taken[0] = round(time.monotonic() - begun, 1)
