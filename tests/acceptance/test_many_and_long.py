"""Many volumes at once under a raised concurrency, names longer than labels, a foreign data mover's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import BACKUP, DATA_DOWNLOAD, DATA_UPLOAD, POD
from tests.acceptance.flows import (
    first_move,
    move_data,
    moves_of,
    restore,
    seconds_of,
    start_backup,
    unique,
)
from tests.acceptance.settings import configured
from tests.acceptance.uploads import Upload, stopwatch, upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")
_VOLUMES = 30


@pytest.mark.item("9.3.11")
@pytest.mark.timeout(900)
def test_thirty_volumes_in_one_backup_with_four_slots(
    cluster: Cluster, app: App, target: App, record_property: Callable[[str, object], None]
) -> None:
    ns, names = app.namespace, tuple(f"v{place:02}" for place in range(_VOLUMES))
    app.start(*(claim(ns, name, size="8Mi") for name in names), pod(ns, "app", claims=names), seconds=240)
    app.run(
        "import os\n" + "\n".join(f"open('/{name}/f', 'wb').write(os.urandom(300_000))" for name in names)
    )
    digests = [app.digest(f"/{name}") for name in names[:3]]
    cluster.delete(POD, "app", ns, grace_seconds=0)  # volumes of one pod would come one after the other
    with configured(cluster, loadConcurrency={"globalConfig": 4}):
        with stopwatch() as taken:
            backup = move_data(cluster, ns, seconds=600)
        record_property("backup", f"{taken[0]} s")
        uploads = moves_of(cluster, DATA_UPLOAD, backup)
        assert [move["status"]["phase"] for move in uploads] == ["Completed"] * _VOLUMES
        record_property("slowest upload", f"{max(seconds_of(move) for move in uploads):g} s")
        with stopwatch() as taken:
            name = restore(cluster, backup, ns, target.namespace, seconds=600)
        record_property("restore", f"{taken[0]} s")
    downloads = moves_of(cluster, DATA_DOWNLOAD, name)
    assert [move["status"]["phase"] for move in downloads] == ["Completed"] * _VOLUMES
    cluster.apply(pod(target.namespace, "app", claims=names[:3]))
    cluster.wait_pod(target.namespace, "app")
    assert [target.digest(f"/{name}") for name in names[:3]] == digests


@pytest.mark.item("9.3.11")
def test_uploads_asked_for_at_once_run_in_the_order_of_their_creation(cluster: Cluster, app: App) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    app.write_tree("/files", count=5)
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
def test_move_of_a_foreign_data_mover_is_left_alone(cluster: Cluster, app: App) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    backup = start_backup(cluster, ns, "--snapshot-move-data", "--data-mover", "somebody-else")
    foreign = first_move(cluster, DATA_UPLOAD, backup)
    own = upload(cluster, ns, "files")
    own.wait("Completed")
    move = cluster.get(DATA_UPLOAD, foreign["metadata"]["name"])
    assert not move.get("status", {}).get("phase")
    assert not move["metadata"].get("finalizers")
    # the other mover gives up, so that the backup and its snapshot end
    cluster.patch(DATA_UPLOAD, foreign["metadata"]["name"], {"spec": {"datamover": "", "cancel": True}})
    Upload(cluster, foreign["metadata"]["name"]).wait("Canceled")
    cluster.wait_phase(BACKUP, backup, "PartiallyFailed")
