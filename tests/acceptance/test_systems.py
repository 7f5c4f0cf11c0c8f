"""Velero's own systems stay right with our agent in place: one test per system, so that each has its line in the report."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from exposer.kube import CONFIG_MAP
from tests.acceptance.applications import WAIT, claim, pod
from tests.acceptance.cluster import (
    BACKUP,
    DATA_UPLOAD,
    POD_VOLUME_BACKUP,
    PVC,
    STATE,
    VELERO,
)
from tests.acceptance.flows import (
    back_up,
    by_claim,
    move_data,
    moves_of,
    restore,
    unique,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")
BUCKET = STATE / "var" / "s3" / "bucket"


def hook(when: str, command: list[str], **more: str) -> dict[str, str]:
    texts = {"command": json.dumps(command)} | more
    return {f"{when}.hook.backup.velero.io/{key}": value for key, value in texts.items()}


@pytest.mark.item("9.1.hooks")
def test_backup_hooks_run_before_and_after(cluster: Cluster, app: App) -> None:
    ns = app.namespace
    hooks = hook("pre", ["sh", "-c", "echo frozen >/files/state"]) | hook(
        "post", ["sh", "-c", "echo thawed >/tmp/state"]
    )
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",), annotations=hooks))
    backup = back_up(cluster, ns, "--default-volumes-to-fs-backup")
    assert cluster.exec(ns, "app", "cat", "/files/state", "/tmp/state").split() == ["frozen", "thawed"]
    status = cluster.get(BACKUP, backup)["status"]["hookStatus"]
    assert status["hooksAttempted"] == 2
    assert not status.get("hooksFailed")


@pytest.mark.item("9.1.hooks")
def test_post_hook_runs_after_a_failing_pre_hook(cluster: Cluster, app: App) -> None:
    ns = app.namespace
    failing = hook("pre", ["sh", "-c", "exit 1"], **{"on-error": "Continue"})
    hooks = failing | hook("post", ["sh", "-c", "echo thawed >/tmp/state"])
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",), annotations=hooks))
    backup = back_up(cluster, ns, "--default-volumes-to-fs-backup", phase="PartiallyFailed")
    assert cluster.exec(ns, "app", "cat", "/tmp/state").strip() == "thawed"
    moves = moves_of(cluster, POD_VOLUME_BACKUP, backup)
    assert [move["status"]["phase"] for move in moves] == ["Completed"]


@pytest.mark.item("9.1.schedules")
def test_schedule_makes_backups_with_data_movement(cluster: Cluster, app: App) -> None:
    ns, name = app.namespace, unique("s")
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    app.write_tree("/files", count=3)
    cluster.velero(
        "schedule",
        "create",
        name,
        "--schedule",
        "@every 1h",
        "--include-namespaces",
        ns,
        "--snapshot-move-data",
    )
    cluster.velero("backup", "create", "--from-schedule", name)
    made = cluster.wait("a backup", lambda: cluster.select(BACKUP, labels=f"velero.io/schedule-name={name}"))
    backup = made[0]["metadata"]["name"]
    cluster.wait_phase(BACKUP, backup, "Completed")
    assert moves_of(cluster, DATA_UPLOAD, backup)[0]["status"]["phase"] == "Completed"
    cluster.velero("schedule", "delete", name, "--confirm")


@pytest.mark.item("9.1.policies")
def test_volume_policies_skip_snapshot_and_fs_backup(cluster: Cluster, app: App) -> None:
    ns, name = app.namespace, unique("policy")
    policies = {
        "version": "v1",
        "volumePolicies": [
            {"conditions": {"pvcLabels": {"kind": action}}, "action": {"type": action}}
            for action in ("skip", "snapshot", "fs-backup")
        ],
    }
    claims = [claim(ns, action) for action in ("skip", "snapshot", "fs-backup")]
    for body in claims:
        body["metadata"]["labels"] = {"kind": body["metadata"]["name"]}
    app.start(*claims, pod(ns, "app", claims=("skip", "snapshot", "fs-backup")))
    config = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": VELERO}}
    cluster.apply(config | {"data": {"policies.yaml": json.dumps(policies)}})
    backup = move_data(cluster, ns, "--resource-policies-configmap", name)
    assert set(by_claim(moves_of(cluster, DATA_UPLOAD, backup))) == {"snapshot"}
    assert [move["spec"]["volume"] for move in moves_of(cluster, POD_VOLUME_BACKUP, backup)] == ["fs-backup"]
    cluster.delete(CONFIG_MAP, name)


@pytest.mark.item("9.1.annotations")
def test_volumes_excluded_by_annotation_are_left_out(cluster: Cluster, app: App) -> None:
    ns = app.namespace
    out = {"backup.velero.io/backup-volumes-excludes": "left-out"}
    app.start(
        claim(ns, "files"),
        claim(ns, "left-out"),
        pod(ns, "app", claims=("files", "left-out"), annotations=out),
    )
    backup = back_up(cluster, ns, "--default-volumes-to-fs-backup", "--snapshot-volumes=false")
    assert [move["spec"]["volume"] for move in moves_of(cluster, POD_VOLUME_BACKUP, backup)] == ["files"]


@pytest.mark.item("9.1.mapping")
def test_storage_class_is_mapped_and_modifiers_apply_to_the_restored_claim(
    cluster: Cluster, app: App, target: App
) -> None:
    ns, name = app.namespace, unique("map")
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    digest, backup = app.write_tree("/files", count=5), move_data(cluster, ns)
    labels = {"velero.io/plugin-config": "", "velero.io/change-storage-class": "RestoreItemAction"}
    meta = {"name": name, "namespace": VELERO}
    mapping = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta | {"labels": labels},
        "data": {"bench": WAIT},
    }
    rules = {
        "version": "v1",
        "resourceModifierRules": [
            {
                "conditions": {"groupResource": "persistentvolumeclaims"},
                "mergePatches": [{"patchData": json.dumps({"metadata": {"labels": {"changed": "yes"}}})}],
            }
        ],
    }
    modifiers = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta | {"name": f"{name}-rules"},
        "data": {"rules.yaml": json.dumps(rules)},
    }
    cluster.apply(mapping, modifiers)
    try:
        restore(cluster, backup, ns, target.namespace, "--resource-modifier-configmap", f"{name}-rules")
    finally:
        cluster.delete(CONFIG_MAP, name)
        cluster.delete(CONFIG_MAP, f"{name}-rules")
    cluster.wait_pod(target.namespace, "app")
    bound = cluster.get(PVC, "files", target.namespace)
    assert bound["spec"]["storageClassName"] == WAIT
    assert bound["metadata"]["labels"]["changed"] == "yes"
    assert target.digest("/files") == digest


@pytest.mark.item("9.1.layout")
def test_object_store_layout_describe_and_debug(cluster: Cluster, app: App, tmp_path: Path) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    app.write_tree("/files", count=5)
    backup = move_data(cluster, ns)
    upload = moves_of(cluster, DATA_UPLOAD, backup)[0]
    kept = {path.name for path in (BUCKET / "backups" / backup).iterdir()}
    wanted = {
        "velero-backup.json",
        f"{backup}.tar.gz",
        f"{backup}-volumeinfo.json.gz",
        f"{backup}-itemoperations.json.gz",
    }
    assert wanted <= kept
    folders = {path.name for path in BUCKET.iterdir() if not path.name.startswith(".")}  # the S3 server's own
    assert folders <= {"backups", "restores", "kopia"}
    assert (BUCKET / "kopia" / ns / "kopia.repository").exists()
    described = cluster.velero("backup", "describe", backup, "--details")
    assert str(upload["status"]["progress"]["totalBytes"]) in described
    bundle = tmp_path / "debug.tar.gz"
    cluster.velero("debug", "--backup", backup, "--output", str(bundle))
    with tarfile.open(bundle) as tar:
        assert any("node-agent" in member.name for member in tar.getmembers())


@pytest.mark.item("9.3.15")
def test_backup_known_only_from_the_bucket_is_synced_and_restored(
    cluster: Cluster, app: App, target: App
) -> None:
    """What a second cluster on the same bucket does: the objects are gone, the bucket is all there is."""
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    digest, backup = app.write_tree("/files", count=5), move_data(cluster, ns)
    cluster.kubectl("delete", "backup", backup, "-n", VELERO)
    cluster.kubectl("delete", "backuprepository", "-n", VELERO, "-l", f"velero.io/volume-namespace={ns}")
    cluster.wait("the data upload went with it", lambda: not moves_of(cluster, DATA_UPLOAD, backup), 60)
    cluster.wait("the backup is synced", lambda: cluster.find(BACKUP, backup) is not None, 150)
    restore(cluster, backup, ns, target.namespace)
    cluster.wait_pod(target.namespace, "app")
    assert target.digest("/files") == digest


@pytest.mark.item("9.1.ttl")
@pytest.mark.timeout(600)
def test_expired_backup_is_collected_with_its_data_upload(cluster: Cluster, app: App) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    backup = move_data(cluster, ns)
    cluster.patch(BACKUP, backup, {"status": {"expiration": "2020-01-01T00:00:00Z"}})
    cluster.wait("the backup is collected", lambda: cluster.find(BACKUP, backup) is None, 300)
    cluster.wait("and its data upload", lambda: not moves_of(cluster, DATA_UPLOAD, backup), 30)
