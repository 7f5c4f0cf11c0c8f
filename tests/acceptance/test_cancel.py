"""Cancel in each phase, by request and by deletion of the resource: soon over, nothing left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import BACKUP, DATA_UPLOAD, POD
from tests.acceptance.flows import first_move, start_backup
from tests.acceptance.settings import cordoned
from tests.acceptance.uploads import Upload, stopwatch, upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")
_SOON_SECONDS = 15


@pytest.fixture
def source(app: App) -> App:
    app.start(claim(app.namespace, "files"), pod(app.namespace, "app", claims=("files",)))
    app.write_tree("/files", count=10)
    return app


def canceled_soon(wanted: Upload, note: Callable[[str, object], None], phase: str) -> None:
    with stopwatch() as taken:
        wanted.cancel()
        status = wanted.wait("Canceled", seconds=_SOON_SECONDS)["status"]
    assert status["message"]
    note(f"Canceled from {phase}", f"{taken[0]} s")


@pytest.mark.item("9.3.9")
def test_cancel_while_accepted(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    with cordoned(cluster):
        move = upload(cluster, source.namespace, "files")
        move.wait("Accepted")
        cluster.wait("the hosting pod is there", lambda: cluster.find(POD, move.name))
        canceled_soon(move, record_property, "Accepted")


@pytest.mark.item("9.3.9")
def test_cancel_while_prepared_and_in_progress(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    first = upload(cluster, source.namespace, "files")
    with first.held():
        first.wait("InProgress")
        second = upload(cluster, source.namespace, "files")
        second.wait("Prepared")
        canceled_soon(second, record_property, "Prepared")
        first.cancel()
        first.wait("Canceling", "Canceled", seconds=_SOON_SECONDS)
    with stopwatch() as taken:
        status = first.wait("Canceled", "Completed", seconds=_SOON_SECONDS)["status"]
    record_property(f"{status['phase']} from InProgress", f"{taken[0]} s")


@pytest.mark.item("9.3.9")
def test_deletion_of_a_data_upload_while_in_progress(cluster: Cluster, source: App) -> None:
    move = upload(cluster, source.namespace, "files")
    with move.held():
        move.wait("InProgress")
        cluster.kubectl("delete", "dataupload", move.name, "-n", "velero", "--wait=false")
        cluster.wait(
            "it is being canceled", lambda: move.status().get("phase") in ("Canceling", "Canceled", None), 30
        )
    cluster.wait("it is gone", lambda: cluster.find(DATA_UPLOAD, move.name) is None, 60)


@pytest.mark.item("9.3.9")
def test_server_restart_cancels_what_its_backup_has_begun(cluster: Cluster, source: App) -> None:
    """The server fails a backup that it finds InProgress, and cancels its moves; one that waits for moves goes on."""
    backup = start_backup(cluster, source.namespace, "--snapshot-move-data")
    move = Upload(cluster, first_move(cluster, DATA_UPLOAD, backup)["metadata"]["name"])
    with move.held():
        cluster.wait_phase(BACKUP, backup, "WaitingForPluginOperations")
        cluster.kubectl("delete", "pod", "-n", "velero", "-l", "deploy=velero", "--grace-period=0", "--force")
        cluster.kubectl("rollout", "status", "deployment/velero", "-n", "velero", "--timeout=120s")
    move.wait("Completed")
    cluster.wait_phase(BACKUP, backup, "Completed")
