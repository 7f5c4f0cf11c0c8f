"""Many volumes at once under a raised concurrency, names longer than labels, a foreign data mover's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kube.api import POD
from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import BACKUP, DATA_DOWNLOAD, DATA_UPLOAD
from tests.acceptance.flows import (
    App,
    first_move,
    moves_of,
    restore,
    seconds_of,
    start_backup,
    unique,
)
from tests.acceptance.settings import configured
from tests.acceptance.uploads import Move, stopwatch, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.cluster import Cluster

pytestmark = pytest.mark.usefixtures("ours")
_VOLUMES = 30


_NAMES = tuple(f"v{place:02}" for place in range(_VOLUMES))


@pytest.fixture(scope="module")
def thirty(cluster: Cluster) -> Iterator[App]:
    """An application with thirty small volumes, its pod gone: volumes of one pod would come one after the other."""
    cluster.use_agent("ours")
    app = App(cluster, unique("app"))
    ns = app.namespace
    app.start(*(claim(ns, name, size="8Mi") for name in _NAMES), pod(ns, "app", claims=_NAMES), seconds=240)
    app.run("import os\n" + "\n".join(f"open('/{n}/f', 'wb').write(os.urandom(300_000))" for n in _NAMES))
    cluster.delete(POD, "app", ns, grace_seconds=0)
    yield app
    cluster.delete_namespace(ns)


def back_thirty_up(cluster: Cluster, app: App, slots: int, note: Callable[[str, object], None]) -> str:
    """Backs all up, `slots` at a time: a move whose data is safe is InProgress for a moment without its slot."""
    backup, most = start_backup(cluster, app.namespace, "--snapshot-move-data"), 0

    def over() -> bool:
        nonlocal most
        phases = [(m.get("status") or {}).get("phase") for m in moves_of(cluster, DATA_UPLOAD, backup)]
        most = max(most, phases.count("InProgress"))
        return "completionTimestamp" in cluster.get(BACKUP, backup)["status"]

    with stopwatch() as taken:
        cluster.wait(f"backup {backup} is over", over, 600)
    uploads = moves_of(cluster, DATA_UPLOAD, backup)
    assert [move["status"]["phase"] for move in uploads] == ["Completed"] * _VOLUMES
    assert cluster.phase(BACKUP, backup) == "Completed"
    assert most <= 2 * slots
    note(f"backup, {slots} at a time", f"{taken[0]} s")
    note("slowest upload", f"{max(seconds_of(move) for move in uploads):g} s")
    return backup


@pytest.mark.item("9.3.11")
@pytest.mark.alone
def test_thirty_volumes_in_one_backup_one_at_a_time(
    cluster: Cluster, thirty: App, record_property: Callable[[str, object], None]
) -> None:
    back_thirty_up(cluster, thirty, 1, record_property)


@pytest.mark.item("9.3.11")
@pytest.mark.alone
@pytest.mark.trial
def test_thirty_volumes_in_one_backup_and_restore_four_at_a_time(
    cluster: Cluster, thirty: App, target: App, record_property: Callable[[str, object], None]
) -> None:
    with configured(cluster, loadConcurrency={"globalConfig": 4}):
        backup = back_thirty_up(cluster, thirty, 4, record_property)
        with stopwatch() as taken:
            name = restore(cluster, backup, thirty.namespace, target.namespace, seconds=600)
        record_property("restore", f"{taken[0]} s")
    downloads = moves_of(cluster, DATA_DOWNLOAD, name)
    assert [move["status"]["phase"] for move in downloads] == ["Completed"] * _VOLUMES
    for app in (thirty, target):
        cluster.apply(pod(app.namespace, "app", claims=_NAMES[:3]))
        cluster.wait_pod(app.namespace, "app")
    for name in _NAMES[:3]:
        assert target.digest(f"/{name}") == thirty.digest(f"/{name}")


@pytest.mark.item("9.3.11")
@pytest.mark.alone
def test_uploads_asked_for_at_once_run_in_the_order_of_their_creation(cluster: Cluster, source: App) -> None:
    ns = source.namespace
    moves = [upload(cluster, ns, "files") for _ in range(5)]
    started = [move.wait("Completed", seconds=120)["status"]["startTimestamp"] for move in moves]
    assert started == sorted(started)


@pytest.mark.item("9.3.16")
def test_names_longer_than_63_characters(cluster: Cluster, app: App, target: App) -> None:
    ns, long_claim = app.namespace, "claim-" + "c" * 80
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": long_claim}}
    app.start(claim(ns, long_claim), pod(ns, "app", volumes=(volume,)))
    digest = app.write_tree("/data", count=5)
    backup = unique("backup-with-a-very-long-name-that-exceeds-what-a-label-may-hold-by-far")
    cluster.velero("backup", "create", backup, "--include-namespaces", ns, "--snapshot-move-data")
    cluster.wait_phase(BACKUP, backup, "Completed", seconds=180)
    restore(cluster, backup, ns, target.namespace)
    cluster.wait_pod(target.namespace, "app")
    assert target.digest("/data") == digest


@pytest.mark.item("9.3.14")
def test_move_of_a_foreign_data_mover_is_left_alone(cluster: Cluster, source: App) -> None:
    ns = source.namespace
    backup = start_backup(cluster, ns, "--snapshot-move-data", "--data-mover", "somebody-else")
    foreign = first_move(cluster, DATA_UPLOAD, backup)
    own = upload(cluster, ns, "files")
    own.wait("Completed")
    move = cluster.get(DATA_UPLOAD, foreign["metadata"]["name"])
    assert not move.get("status", {}).get("phase")
    assert not move["metadata"].get("finalizers")
    # the other mover gives up, so that the backup and its snapshot end
    cluster.patch(DATA_UPLOAD, foreign["metadata"]["name"], {"spec": {"datamover": "", "cancel": True}})
    Move(cluster, foreign["metadata"]["name"]).wait("Canceled")
    cluster.wait_phase(BACKUP, backup, "PartiallyFailed")
