"""A second cluster, with an API server, node and Velero of its own, on the same bucket: it finds the backup and restores it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.applications import DIGEST, claim, pod
from tests.acceptance.cluster import SCRIPTS, STATE
from tests.acceptance.flows import move_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")


@dataclass
class SecondCluster:
    """The scripts of tests/cluster with another directory and network; its S3 server serves the first one's bucket."""

    directory: Path

    def run(self, name: str, *arguments: str) -> str:
        given = {
            "CLUSTER_DIR": str(self.directory),
            "CLUSTER_NETNS": "kdmother",
            "CLUSTER_S3_ROOT": str(STATE / "var" / "s3"),
        }
        command = [str(SCRIPTS / name), *arguments]
        done = subprocess.run(
            command, env=os.environ | given, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, (
            f"{name} {' '.join(arguments[:5])}: {done.stdout[-1000:]}{done.stderr[-1500:]}"
        )
        return done.stdout

    def phase(self, kind: str, name: str) -> str:
        found = self.run(
            "k", "-n", "velero", "get", kind, name, "--ignore-not-found", "-o", "jsonpath={.status.phase}"
        )
        assert found not in ("Failed", "PartiallyFailed", "FailedValidation"), f"{kind} {name} is {found}"
        return found


@pytest.fixture
def second(cluster: Cluster) -> Iterator[SecondCluster]:
    made = SecondCluster(STATE.with_name("second-cluster"))
    made.directory.mkdir(exist_ok=True)
    for name in ("bin", "images", "crds"):
        if not (made.directory / name).exists():
            (made.directory / name).symlink_to(STATE / name)
    try:
        made.run("up.sh")
        made.run("agent.sh", "ours")
        yield made
    finally:
        made.run("down.sh")


@pytest.mark.item("9.3.15")
@pytest.mark.trial
def test_backup_is_restored_in_a_second_cluster_on_the_same_bucket(
    cluster: Cluster, app: App, second: SecondCluster
) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    digest, backup = app.write_tree("/files", count=20), move_data(cluster, ns)
    cluster.wait("the backup is synced", lambda: second.phase("backup", backup) == "Completed", 150)
    restore = {
        "apiVersion": "velero.io/v1",
        "kind": "Restore",
        "metadata": {"name": backup, "namespace": "velero"},
        "spec": {"backupName": backup, "includedNamespaces": [ns]},
    }
    manifest = second.directory / "run" / "restore.json"
    manifest.write_text(json.dumps(restore))
    second.run("k", "apply", "-f", str(manifest))
    cluster.wait("it is restored there", lambda: second.phase("restore", backup) == "Completed", 150)
    second.run("k", "-n", ns, "wait", "--for=condition=Ready", "pod/app", "--timeout=120s")
    assert second.run("k", "-n", ns, "exec", "app", "--", "python3", "-c", DIGEST, "/files").strip() == digest
