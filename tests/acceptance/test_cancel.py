"""Cancel in each phase, by request and by deletion of the resource: soon over, nothing left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kube.api import POD
from tests.acceptance.cluster import (
    BACKUP,
    DATA_DOWNLOAD,
    DATA_UPLOAD,
    POD_VOLUME_BACKUP,
    POD_VOLUME_RESTORE,
    RESTORE,
)
from tests.acceptance.flows import back_up, start_backup, start_restore
from tests.acceptance.settings import configured, cordoned
from tests.acceptance.uploads import Move, stopwatch, upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from kube.api import Resource
    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")
_SOON_SECONDS = 15


def canceled_soon(wanted: Move, note: Callable[[str, object], None], phase: str) -> None:
    with stopwatch() as taken:
        wanted.cancel()
        status = wanted.wait("Canceled", seconds=_SOON_SECONDS)["status"]
    assert status["message"]
    note(f"Canceled from {phase}", f"{taken[0]} s")


@pytest.mark.item("9.3.9")
@pytest.mark.alone
def test_cancel_while_accepted(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    with cordoned(cluster):
        move = upload(cluster, source.namespace, "files")
        move.wait("Accepted")
        cluster.wait("the hosting pod is there", lambda: cluster.find(POD, move.name))
        canceled_soon(move, record_property, "Accepted")


@pytest.mark.item("9.3.9")
@pytest.mark.core
@pytest.mark.alone
def test_cancel_while_prepared_and_in_progress(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    first = upload(cluster, source.namespace, "files")
    with first.held() as process:
        first.wait("InProgress")
        second = upload(cluster, source.namespace, "files")
        second.wait("Prepared")
        canceled_soon(second, record_property, "Prepared")
        first.cancel()
        first.wait("Canceling", "Canceled", seconds=_SOON_SECONDS)
        first.cancel_reaches(process)
    with stopwatch() as taken:
        first.wait("Canceled", seconds=_SOON_SECONDS)
    record_property("Canceled from InProgress", f"{taken[0]} s")


@pytest.mark.item("9.3.9")
@pytest.mark.alone
def test_cancel_while_new(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    with configured(cluster, loadConcurrency={"prepareQueueLength": 1}), cordoned(cluster):
        first = upload(cluster, source.namespace, "files")
        first.wait("Accepted")
        second = upload(cluster, source.namespace, "files")
        second.wait_message("prepareQueueLength", seconds=_SOON_SECONDS)
        canceled_soon(second, record_property, "New")
        first.cancel()
        first.wait("Canceled", seconds=_SOON_SECONDS)


def canceled_in_progress(move: Move, note: Callable[[str, object], None]) -> None:
    """Cancels a move whose mover is at work, and lets it hear of it."""
    with move.held() as process:
        move.wait("InProgress")
        move.cancel()
        move.cancel_reaches(process)
    with stopwatch() as taken:
        move.wait("Canceled", seconds=_SOON_SECONDS)
    note(f"{move.kind.kind} Canceled after", f"{taken[0]} s")


@pytest.mark.item("9.3.10")
def test_canceled_pod_volume_backup_ends_its_backup_soon(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    """A server that did not count `Canceled` as an end would wait for four hours."""
    backup = start_backup(cluster, source.namespace, "--default-volumes-to-fs-backup")
    canceled_in_progress(Move.first_of(cluster, POD_VOLUME_BACKUP, backup), record_property)
    with stopwatch() as taken:
        cluster.wait_phase(BACKUP, backup, "PartiallyFailed", seconds=60)
    record_property("backup PartiallyFailed after", f"{taken[0]} s")


@pytest.mark.item("9.3.9")
@pytest.mark.parametrize("kind", [DATA_DOWNLOAD, POD_VOLUME_RESTORE], ids=lambda kind: kind.kind)
def test_canceled_restore_is_partially_failed(
    cluster: Cluster, source: App, target: App, kind: Resource, record_property: Callable[[str, object], None]
) -> None:
    flag = "--snapshot-move-data" if kind is DATA_DOWNLOAD else "--default-volumes-to-fs-backup"
    backup = back_up(cluster, source.namespace, flag)
    name = start_restore(cluster, backup, source.namespace, target.namespace)
    canceled_in_progress(Move.first_of(cluster, kind, name), record_property)
    cluster.wait_phase(RESTORE, name, "PartiallyFailed", seconds=60)


@pytest.mark.item("9.3.9")
def test_timeout_of_the_item_operation_cancels_the_move(cluster: Cluster, source: App) -> None:
    backup = start_backup(
        cluster, source.namespace, "--snapshot-move-data", "--item-operation-timeout", "10s"
    )
    move = Move.first_of(cluster, DATA_UPLOAD, backup)
    with move.held() as process:
        move.wait("Canceling")
        move.cancel_reaches(process)
    move.wait("Canceled", seconds=_SOON_SECONDS)
    cluster.wait_phase(BACKUP, backup, "PartiallyFailed")
    assert "timed out" in cluster.velero("backup", "describe", backup, "--details")


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
@pytest.mark.alone
def test_server_restart_cancels_what_its_backup_has_begun(cluster: Cluster, source: App) -> None:
    """The server fails a backup that it finds InProgress, and cancels its moves; one that waits for moves goes on."""
    backup = start_backup(cluster, source.namespace, "--snapshot-move-data")
    move = Move.first_of(cluster, DATA_UPLOAD, backup)
    with move.held():
        cluster.wait_phase(BACKUP, backup, "WaitingForPluginOperations")
        cluster.kubectl("delete", "pod", "-n", "velero", "-l", "deploy=velero", "--grace-period=0", "--force")
        cluster.kubectl("rollout", "status", "deployment/velero", "-n", "velero", "--timeout=120s")
    move.wait("Completed")
    cluster.wait_phase(BACKUP, backup, "Completed")
