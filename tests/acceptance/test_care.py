"""The server's own care of our repositories: maintenance Jobs with the unmodified image, deletion, listing by the real kopia."""

from __future__ import annotations

import json
import os
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from tests import programs
from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import BACKUP_REPOSITORY, DATA_UPLOAD, run_command
from tests.acceptance.flows import delete_backup, move_data, moves_of, restore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.cluster import Cluster, Json
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")


def kopia(namespace: str, *command: str) -> str:
    """What a command of the real kopia says of a namespace's repository."""
    program = str(programs.program(programs.KOPIA))
    with tempfile.TemporaryDirectory() as scratch:
        given = [
            "env", "KOPIA_PASSWORD=static-passw0rd", "KOPIA_CHECK_FOR_UPDATES=false", f"HOME={scratch}",
            f"PATH={os.environ['PATH']}", program, f"--config-file={scratch}/config", f"--log-dir={scratch}/log",
        ]  # fmt: skip
        run_command(
            *given, "repository", "connect", "s3", "--bucket=bucket", f"--prefix=kopia/{namespace}/",
            "--endpoint=10.244.0.1:7070", "--disable-tls", "--access-key=ak", "--secret-access-key=sksksksk",
            f"--cache-directory={scratch}/cache",
        )  # fmt: skip
        return run_command(*given, *command)


def kopia_snapshots(namespace: str) -> list[str]:
    """The IDs of all snapshots of a namespace's repository."""
    return [line["id"] for line in json.loads(kopia(namespace, "snapshot", "list", "--all", "--json"))]


def maintenance_runs(namespace: str) -> dict[str, int]:
    """How often each task of maintenance has run and succeeded, as the repository remembers it."""
    runs = json.loads(kopia(namespace, "maintenance", "info", "--json"))["schedule"]["runs"]
    return {task: sum(run["success"] for run in entries) for task, entries in runs.items()}


def maintain(cluster: Cluster, namespace: str) -> Json:
    """Lets the server run one maintenance Job now and gives its entry of `recentMaintenance`."""
    label = f"velero.io/volume-namespace={namespace}"
    repository = cluster.select(BACKUP_REPOSITORY, labels=label)[0]
    name, before = repository["metadata"]["name"], repository["status"].get("recentMaintenance") or []
    patch = {
        "spec": {"maintenanceFrequency": "1s"},
        "status": {"lastMaintenanceTime": "2020-01-01T00:00:00Z"},
    }
    cluster.patch(BACKUP_REPOSITORY, name, patch)

    def latest() -> Json | None:
        entries = cluster.get(BACKUP_REPOSITORY, name)["status"].get("recentMaintenance") or []
        return entries[-1] if entries[-1:] != before[-1:] else None

    entry = cluster.wait("the maintenance Job has ended", latest, 400)
    cluster.patch(BACKUP_REPOSITORY, name, {"spec": {"maintenanceFrequency": "1h0m0s"}})
    return entry


@pytest.mark.item("9.3.4")
def test_maintenance_jobs_of_the_server_keep_what_we_have_written(
    cluster: Cluster, app: App, target: App, record_property: Callable[[str, object], None]
) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    app.write_tree("/files")
    first = move_data(cluster, ns)
    app.run("open('/files/new', 'wb').write(b'n' * 5000)")
    digest, second = app.digest("/files"), move_data(cluster, ns)
    delete_backup(cluster, first)
    assert maintain(cluster, ns)["result"] == "Succeeded"
    full = maintenance_runs(ns)
    assert full["snapshot-gc"] == 1, full  # full maintenance alone collects contents
    kopia(ns, "maintenance", "set", "--pause-quick=1s")  # the next quick one would be an hour away
    time.sleep(1)
    assert maintain(cluster, ns)["result"] == "Succeeded"
    quick = maintenance_runs(ns)
    assert quick["snapshot-gc"] == 1, quick
    assert sum(quick.values()) > sum(full.values()), quick
    record_property("tasks of the full Job", ", ".join(sorted(full)))
    restore(cluster, second, ns, target.namespace)
    cluster.wait_pod(target.namespace, "app")
    assert target.digest("/files") == digest


@pytest.mark.item("9.3.5")
@pytest.mark.core
def test_deletion_of_a_backup_removes_its_snapshot_and_no_other(
    cluster: Cluster, app: App, target: App, record_property: Callable[[str, object], None]
) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    digest = app.write_tree("/files")
    backups = [move_data(cluster, ns) for _ in range(2)]
    ids = [moves_of(cluster, DATA_UPLOAD, backup)[0]["status"]["snapshotID"] for backup in backups]
    assert sorted(kopia_snapshots(ns)) == sorted(ids)
    delete_backup(cluster, backups[0])
    assert kopia_snapshots(ns) == ids[1:]
    assert not moves_of(cluster, DATA_UPLOAD, backups[0])
    restore(cluster, backups[1], ns, target.namespace)
    cluster.wait_pod(target.namespace, "app")
    assert target.digest("/files") == digest
    record_property("listed by", "kopia 0.22.3")
