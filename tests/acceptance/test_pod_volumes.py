"""PodVolumeBackup and PodVolumeRestore: CSI, emptyDir and projected volumes, the server's restore-wait container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kube.api import POD
from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import POD_VOLUME_BACKUP, POD_VOLUME_RESTORE, VELERO
from tests.acceptance.flows import LINK_BYTES, back_up, moves_of, restore, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")


@pytest.mark.item("9.3.7")
@pytest.mark.core
def test_csi_emptydir_and_projected_volumes_of_a_running_pod(
    cluster: Cluster, app: App, target: App, record_property: Callable[[str, object], None]
) -> None:
    ns = app.namespace
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": ns},
        "data": {"a": "1"},
    }
    volumes = (
        {"name": "scratch", "emptyDir": {}},
        {"name": "mixed", "projected": {"sources": [{"configMap": {"name": "settings"}}]}},
    )
    chosen = {"backup.velero.io/backup-volumes": "files,scratch,mixed"}
    app.start(
        claim(ns, "files"), settings, pod(ns, "app", claims=("files",), volumes=volumes, annotations=chosen)
    )
    files, scratch = app.write_tree("/files"), app.write_tree("/scratch", seed=2, count=10)
    backup = back_up(cluster, ns)
    backups = {move["spec"]["volume"]: move for move in moves_of(cluster, POD_VOLUME_BACKUP, backup)}
    assert set(backups) == {"files", "scratch"}  # the server asks for no projected volume: see below
    assert {move["status"]["phase"] for move in backups.values()} == {"Completed"}
    name = restore(cluster, backup, ns, target.namespace)
    cluster.wait_pod(target.namespace, "app")
    restores = {move["spec"]["volume"]: move for move in moves_of(cluster, POD_VOLUME_RESTORE, name)}
    assert set(restores) == {
        "files",
        "scratch",
    }
    for move in (*backups.values(), *restores.values()):
        record_property(f"{move['kind']} of {move['spec']['volume']}", f"{seconds_of(move):g} s")
    assert (target.digest("/files"), target.digest("/scratch")) == (files, scratch)
    # The server's restore-wait container runs as user 1000 and so cannot remove the `.velero` that it waited for.
    assert target.run("print(open('/mixed/a').read())").strip() == "1"


@pytest.mark.item("9.3.7")
def test_projected_volume_that_somebody_else_asks_for(cluster: Cluster, app: App) -> None:
    """Velero 1.18.3 leaves projected volumes out, older ones did not: a PodVolumeBackup as they made it."""
    ns = app.namespace
    settings = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "settings", "namespace": ns}}
    volume = {"name": "mixed", "projected": {"sources": [{"configMap": {"name": "settings"}}]}}
    app.start(settings | {"data": {"a": "1"}}, pod(ns, "app", volumes=(volume,)))
    spec = {
        "node": "bench-node",
        "pod": {
            "kind": "Pod",
            "namespace": ns,
            "name": "app",
            "uid": cluster.get(POD, "app", ns)["metadata"]["uid"],
        },
        "volume": "mixed",
        "backupStorageLocation": "default",
        "repoIdentifier": "",
        "uploaderType": "kopia",
    }
    meta = {"name": ns, "namespace": VELERO}
    cluster.apply({"apiVersion": "velero.io/v1", "kind": "PodVolumeBackup", "metadata": meta, "spec": spec})
    status = cluster.wait_phase(POD_VOLUME_BACKUP, ns, "Completed")["status"]
    assert status["progress"]["totalBytes"] == 1


@pytest.mark.item("9.3.6")
def test_second_backup_of_a_pod_volume_reads_only_what_has_changed(cluster: Cluster, app: App) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    app.write_tree("/files")
    back_up(cluster, ns, "--default-volumes-to-fs-backup")
    app.run("open('/files/new', 'wb').write(b'n' * 777)")
    second = moves_of(cluster, POD_VOLUME_BACKUP, back_up(cluster, ns, "--default-volumes-to-fs-backup"))[0]
    assert abs(second["status"]["incrementalBytes"] - 777) <= LINK_BYTES
