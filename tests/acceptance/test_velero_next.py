"""Velero 1.19's moves on the whole cluster: its CRDs over those of 1.18.3, whose server passes `spec.datamover` on as it is."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.moves.status_patch import RECORD_ANNOTATION
from tests.acceptance.applications import IMMEDIATE, WAIT, claim, pod
from tests.acceptance.cluster import DATA_DOWNLOAD, DATA_UPLOAD
from tests.acceptance.flows import by_claim, first_move, move_data, moves_of, restore, start_backup
from tests.fakes import scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = [pytest.mark.usefixtures("ours", "next_crds"), pytest.mark.alone, pytest.mark.trial]

_CHANGED = ("datauploads", "datadownloads", "podvolumebackups", "podvolumerestores")
_FILE_SYSTEM = ("--data-mover", "velero-fs")


@pytest.fixture(scope="module")
def next_crds(cluster: Cluster) -> Iterator[None]:
    """The schemas of 1.19, and those that were there again."""
    for version in ("1.19", "1.18"):
        for name in _CHANGED:
            cluster.kubectl(
                "apply",
                "--server-side",
                "--force-conflicts",
                "-f",
                str(scene.CRDS / version / f"{name}.json"),
            )
        cluster.wait("the API server to serve the changed schemas", lambda: _served(cluster))
        if version == "1.19":
            yield


def _served(cluster: Cluster) -> bool:
    """Whether the changed resources can be listed: their storage is made anew, and answers 429 meanwhile."""
    try:
        for name in _CHANGED:
            cluster.kubectl("get", f"{name}.velero.io", "--all-namespaces")
    except (AssertionError, subprocess.CalledProcessError):
        return False
    return True


@pytest.mark.item("9.3.1, 9.3.2")
@pytest.mark.parametrize("storage_class", [IMMEDIATE, WAIT])
def test_b1_volumes_are_moved_under_the_name_that_1_19_writes(
    cluster: Cluster, app: App, target: App, storage_class: str
) -> None:
    ns = app.namespace
    app.start(
        claim(ns, "files", storage_class=storage_class),
        claim(ns, "blocks", storage_class=storage_class, block=True, size="24Mi"),
        pod(ns, "app", claims=("files",), devices=("blocks",)),
    )
    files, blocks = app.write_tree("/files"), app.blocks("/dev/blocks", seed=3)
    backup = move_data(cluster, ns, *_FILE_SYSTEM)
    uploads = by_claim(moves_of(cluster, DATA_UPLOAD, backup))
    assert {upload["spec"]["datamover"] for upload in uploads.values()} == {"velero-fs"}
    name = restore(cluster, backup, ns, target.namespace)
    cluster.wait_pod(target.namespace, "app")
    assert target.digest("/files") == files
    assert target.blocks("/dev/blocks") == blocks
    for download in moves_of(cluster, DATA_DOWNLOAD, name):
        assert (download["spec"]["datamover"], download["status"]["phase"]) == ("velero-fs", "Completed")


@pytest.mark.item("9.3.6")
def test_b1_chain_of_1_18_goes_on_under_the_name_of_1_19(cluster: Cluster, app: App) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    app.write_tree("/files", count=60, size=40_000)
    [first] = moves_of(cluster, DATA_UPLOAD, move_data(cluster, ns))
    [second] = moves_of(cluster, DATA_UPLOAD, move_data(cluster, ns, *_FILE_SYSTEM))
    record = json.loads(second["metadata"]["annotations"][RECORD_ANNOTATION])
    assert (record["parents"], record["readBytes"]) == ([first["status"]["snapshotID"]], 0)


@pytest.mark.item("9.3.6")
def test_b3_full_backup_is_full(cluster: Cluster, app: App) -> None:
    """The server of 1.18.3 writes no parent: the test does, in the seconds before the mover is told what to do."""
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    app.write_tree("/files", count=60, size=40_000)
    move_data(cluster, ns, *_FILE_SYSTEM)
    backup = start_backup(cluster, ns, "--snapshot-move-data", *_FILE_SYSTEM)
    name = first_move(cluster, DATA_UPLOAD, backup)["metadata"]["name"]
    cluster.patch(DATA_UPLOAD, name, {"spec": {"parentSnapshot": "none"}})
    full = cluster.wait_phase(DATA_UPLOAD, name, "Completed", seconds=180)
    record = json.loads(full["metadata"]["annotations"][RECORD_ANNOTATION])
    assert (record["parents"], record["fullBecause"]) == ([], "full backup asked for")
    assert record["readBytes"] >= 60 * 40_000
