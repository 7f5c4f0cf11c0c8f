"""DataUpload and DataDownload: Filesystem and Block volumes, both binding modes, increments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent.moves.status_patch import RECORD_ANNOTATION
from kube.api import PV, PVC
from tests.acceptance.applications import IMMEDIATE, WAIT, claim, pod
from tests.acceptance.cluster import DATA_DOWNLOAD, DATA_UPLOAD
from tests.acceptance.flows import LINK_BYTES, by_claim, move_data, moves_of, restore, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")


@pytest.mark.item("9.3.1, 9.3.2")
@pytest.mark.parametrize("storage_class", [IMMEDIATE, WAIT])
@pytest.mark.core
def test_filesystem_and_block_volumes_are_uploaded_and_downloaded(
    cluster: Cluster,
    app: App,
    target: App,
    storage_class: str,
    record_property: Callable[[str, object], None],
) -> None:
    ns = app.namespace
    app.start(
        claim(ns, "files", storage_class=storage_class),
        claim(ns, "blocks", storage_class=storage_class, block=True, size="24Mi"),
        pod(ns, "app", claims=("files",), devices=("blocks",)),
    )
    files, blocks = app.write_tree("/files"), app.blocks("/dev/blocks", seed=3)
    backup = move_data(cluster, ns)
    uploads = by_claim(moves_of(cluster, DATA_UPLOAD, backup))
    for name in ("files", "blocks"):
        status = uploads[name]["status"]
        assert status["phase"] == "Completed"
        assert len(status["snapshotID"]) == 32
        assert status["nodeOS"] == "linux"
        assert status["progress"]["totalBytes"] == status["progress"]["bytesDone"] > 0
        record_property(f"upload of {name}", f"{seconds_of(uploads[name]):g} s")
    assert uploads["blocks"]["status"]["progress"]["totalBytes"] == 24 << 20
    described = cluster.velero("backup", "describe", backup, "--details")
    assert str(uploads["files"]["status"]["progress"]["totalBytes"]) in described
    name = restore(cluster, backup, ns, target.namespace)
    cluster.wait_pod(target.namespace, "app")
    assert target.digest("/files") == files
    assert target.blocks("/dev/blocks") == blocks
    downloads = by_claim(moves_of(cluster, DATA_DOWNLOAD, name))
    for name in ("files", "blocks"):
        assert downloads[name]["status"]["phase"] == "Completed"
        record_property(f"download of {name}", f"{seconds_of(downloads[name]):g} s")
        bound = cluster.get(PVC, name, target.namespace)
        volume = cluster.get(PV, bound["spec"]["volumeName"])
        assert bound["status"]["phase"] == "Bound"
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        assert volume["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]


@pytest.mark.item("9.3.6")
def test_second_backup_reads_only_what_has_changed(
    cluster: Cluster, app: App, record_property: Callable[[str, object], None]
) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    app.write_tree("/files", count=60, size=40_000)
    first = moves_of(cluster, DATA_UPLOAD, move_data(cluster, ns))[0]
    app.run("open('/files/new', 'wb').write(b'n' * 12345)")
    second = moves_of(cluster, DATA_UPLOAD, move_data(cluster, ns))[0]
    assert abs(second["status"]["incrementalBytes"] - 12345) <= LINK_BYTES
    record = json.loads(second["metadata"]["annotations"][RECORD_ANNOTATION])
    assert record["parents"] == [first["status"]["snapshotID"]]
    record_property("unchanged bytes", record["unchangedBytes"])
