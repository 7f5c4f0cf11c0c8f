"""What goes wrong: what cannot heal is final within seconds and says why, what can heal shows its reason and heals.

Upstream, on this cluster: `Accepted` for ever after an agent's restart, `InProgress` for ever after the mover pod is
deleted, one minute for a killed mover or a wrong credential.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exposer.hosting_pod_manifest import REQUEST_DIRECTORY, SIGNAL_DIRECTORY
from kube.api import POD, SECRET
from tests.acceptance.cluster import BACKUP, DATA_DOWNLOAD, DATA_UPLOAD, LOCATION, RESTORE, STATE, VELERO
from tests.acceptance.flows import move_data, start_backup, start_restore
from tests.acceptance.settings import (
    agent_flags,
    configured,
    cordoned,
    hosting_image,
    kill_agent,
    secret_says,
    stopped,
)
from tests.acceptance.uploads import Move, data_upload, stopwatch, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")
_SOON_SECONDS = 15  # ten, and what a loaded machine adds
PASSWORD = "velero-repo-credentials"


def failed_soon(wanted: Move, note: Callable[[str, object], None], *parts: str) -> None:
    with stopwatch() as taken:
        status = wanted.wait("Failed", seconds=_SOON_SECONDS)["status"]
    assert all(part in status["message"] for part in parts), status["message"]
    note("Failed after", f"{taken[0]} s")
    note("message", status["message"][:160])


@pytest.mark.item("9.3.8")
@pytest.mark.core
@pytest.mark.alone
def test_agent_killed_while_accepted(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    with cordoned(cluster):
        move = upload(cluster, source.namespace, "files")
        move.wait("Accepted")
        move.wait_message("Unschedulable", "unschedulable", seconds=_SOON_SECONDS)
        kill_agent(cluster)
    with stopwatch() as taken:
        move.wait("Completed", seconds=60)
    record_property("Completed after the node came back", f"{taken[0]} s")


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_agent_killed_while_prepared_and_in_progress(cluster: Cluster, source: App) -> None:
    first = upload(cluster, source.namespace, "files")
    with first.held():
        first.wait("InProgress")
        second = upload(cluster, source.namespace, "files")
        second.wait("Prepared")
        second.wait_message("slot", seconds=_SOON_SECONDS)
        kill_agent(cluster)
        assert first.status()["phase"] == "InProgress"
        assert second.status()["phase"] == "Prepared"
    first.wait("Completed")
    second.wait("Completed")


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_agent_killed_while_new_and_canceling(cluster: Cluster, source: App) -> None:
    with configured(cluster, loadConcurrency={"prepareQueueLength": 1}):
        first = upload(cluster, source.namespace, "files")
        with first.held():
            first.wait("InProgress")
            with cordoned(cluster):
                second, third = (upload(cluster, source.namespace, "files") for _ in range(2))
                second.wait("Accepted")
                third.wait_message("prepareQueueLength", seconds=_SOON_SECONDS)
                first.cancel()
                first.wait("Canceling", "Canceled")
                kill_agent(cluster)
        first.wait("Canceled")
        second.wait("Completed")
        third.wait("Completed")


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_what_does_not_heal_fails_at_the_prepare_timeout_with_its_reason(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    with agent_flags(cluster, "--data-mover-prepare-timeout=10s"), cordoned(cluster):
        move = upload(cluster, source.namespace, "files")
        with stopwatch() as taken:
            message = move.wait("Failed", seconds=30)["status"]["message"]
    assert "nschedulable" in message
    record_property("Failed after", f"{taken[0]} s of a prepare timeout of 10 s")
    record_property("message", message[:160])


@pytest.mark.item("9.3.8")
def test_mover_pod_deleted_while_in_progress(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    move = upload(cluster, source.namespace, "files")
    with move.held():
        move.wait("InProgress")
        cluster.delete(POD, move.name, grace_seconds=0)
        failed_soon(move, record_property, "deleted")


@pytest.mark.item("9.3.8")
def test_mover_pod_evicted_while_in_progress(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    """What a drained node does: the eviction API, the pod's own grace."""
    move = upload(cluster, source.namespace, "files")
    move.listens()
    with move.held() as process:
        move.wait("InProgress")
        cluster.evict(move.name)
        move.terminate_reaches(process)
    failed_soon(move, record_property, "evicted")


@pytest.mark.item("9.3.8")
def test_mover_killed_while_restoring_fails_the_restore_with_a_message(
    cluster: Cluster, source: App, target: App, record_property: Callable[[str, object], None]
) -> None:
    backup = move_data(cluster, source.namespace)
    name = start_restore(cluster, backup, source.namespace, target.namespace)
    move = Move.first_of(cluster, DATA_DOWNLOAD, name)
    with move.held() as process:
        move.wait("InProgress")
        os.kill(process, signal.SIGKILL)
        failed_soon(move, record_property, "137")
    cluster.wait_phase(RESTORE, name, "PartiallyFailed")


@pytest.mark.item("9.3.8")
@pytest.mark.core
def test_mover_process_killed_fails_the_backup_with_a_message(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    backup = start_backup(cluster, source.namespace, "--snapshot-move-data")
    move = Move.first_of(cluster, DATA_UPLOAD, backup)
    with move.held() as process:
        move.wait("InProgress")
        os.kill(process, signal.SIGKILL)
        failed_soon(move, record_property, "137")
    cluster.wait_phase(BACKUP, backup, "PartiallyFailed")
    assert "137" in cluster.velero("backup", "describe", backup, "--details")


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_mover_out_of_memory_says_so(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    with configured(cluster, podResources={"memoryLimit": "20Mi"}):
        failed_soon(upload(cluster, source.namespace, "files"), record_property, "memoryLimit")


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_wrong_password(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    upload(cluster, source.namespace, "files").wait("Completed")  # the server has made the repository
    with secret_says(cluster, PASSWORD, "repository-password", "not the password"):
        failed_soon(upload(cluster, source.namespace, "files"), record_property, "password")


@pytest.fixture
def other_location(cluster: Cluster) -> Iterator[str]:
    """A second BackupStorageLocation with a Secret of its own, in another bucket."""
    (STATE / "var" / "s3" / "other").mkdir(exist_ok=True)
    spec = cluster.get(LOCATION, "default")["spec"]
    credentials = "[default]\naws_access_key_id=ak\naws_secret_access_key=sksksksk\n"
    secret = {"metadata": {"name": "other", "namespace": VELERO}, "stringData": {"cloud": credentials}}
    location = {
        "metadata": {"name": "other", "namespace": VELERO},
        "spec": {
            "provider": "aws", "config": spec["config"], "objectStorage": {"bucket": "other"},
            "credential": {"name": "other", "key": "cloud"},
        },
    }  # fmt: skip
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", **secret},
        {"apiVersion": "velero.io/v1", "kind": "BackupStorageLocation", **location},
    )
    cluster.wait("location other is Available", lambda: cluster.phase(LOCATION, "other") == "Available")
    yield "other"
    cluster.delete(LOCATION, "other")
    cluster.delete(SECRET, "other")


@pytest.mark.item("9.3.8")
def test_wrong_credentials(
    cluster: Cluster, source: App, other_location: str, record_property: Callable[[str, object], None]
) -> None:
    upload(cluster, source.namespace, "files", location=other_location).wait("Completed")
    wrong = "[default]\naws_access_key_id=ak\naws_secret_access_key=wrong\n"
    with secret_says(cluster, "other", "cloud", wrong):
        move = upload(cluster, source.namespace, "files", location=other_location)
        failed_soon(move, record_property, "credentials")


@pytest.mark.item("9.3.8")
def test_storage_location_and_source_volume_that_do_not_exist(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    failed_soon(upload(cluster, source.namespace, "files", location="nowhere"), record_property, "nowhere")
    cluster.apply(data_upload(f"{source.namespace}-x", source.namespace, "no-such-claim", "no-such-snapshot"))
    failed_soon(Move(cluster, f"{source.namespace}-x"), record_property, "no-such-claim")


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_image_missing_is_shown_and_can_be_canceled(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    with hosting_image(cluster, "bench.local/no-such-image:1"):
        move = upload(cluster, source.namespace, "files")
        with stopwatch() as taken:
            message = move.wait_message("ImagePull", "ErrImage", seconds=30)
        record_property(f"shown after {taken[0]} s", message[:120])
        move.cancel()
        move.wait("Canceled", seconds=_SOON_SECONDS)


@pytest.mark.item("9.3.8")
def test_snapshot_class_missing_is_shown_and_can_be_canceled(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    move = upload(cluster, source.namespace, "files", snapshot_class="no-such-class", wait_ready=False)
    with stopwatch() as taken:
        message = move.wait_message("no-such-class", seconds=_SOON_SECONDS)
    record_property(f"shown after {taken[0]} s", message[:160])
    move.cancel()
    move.wait("Canceled", seconds=_SOON_SECONDS)


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_driver_that_never_becomes_ready_is_shown_and_can_be_canceled(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    with stopped("benchcsi"):
        move = upload(cluster, source.namespace, "files", wait_ready=False)
        with stopwatch() as taken:
            message = move.wait_message("is not ready", seconds=_SOON_SECONDS)
        record_property(f"shown after {taken[0]} s", message[:160])
        move.cancel()
        move.wait("Canceled", seconds=_SOON_SECONDS)


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_storage_that_stands_still_for_a_while_is_waited_for(cluster: Cluster, source: App) -> None:
    move = upload(cluster, source.namespace, "files")
    with move.held() as process:
        move.wait("InProgress")
        with stopped("s3"):
            os.kill(process, signal.SIGCONT)
            cluster.wait("a while", _after(8))
            assert move.status()["phase"] == "InProgress"
    move.wait("Completed", seconds=90)


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_api_server_away_while_in_progress(cluster: Cluster, source: App) -> None:
    move = upload(cluster, source.namespace, "files")
    with move.held() as process:
        move.wait("InProgress")
        with stopped("kube-apiserver"):
            os.kill(process, signal.SIGCONT)
            cluster.wait("a minute", _after(60))
    move.wait("Completed", seconds=90)


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_kubelet_away_while_in_progress(cluster: Cluster, source: App) -> None:
    move = upload(cluster, source.namespace, "files")
    with move.held() as process:
        move.wait("InProgress")
        request = Path(f"/proc/{process}/root{REQUEST_DIRECTORY}/request")
        cluster.wait("the mover has its request", request.read_text)
        sent_at_once = Path(f"/proc/{process}/root{SIGNAL_DIRECTORY}/request")
        cluster.wait("so it has from the agent", sent_at_once.exists)
        assert sent_at_once.read_text() == request.read_text()
        with stopped("kubelet"):
            os.kill(process, signal.SIGCONT)
            cluster.wait("the mover has ended", lambda: not Path(f"/proc/{process}").exists(), 60)
    move.wait("Completed", seconds=90)


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
