"""Velero's own systems stay right with our agent in place: one test per system, so that each has its line in the report."""

from __future__ import annotations

import gzip
import json
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from kube.api import CONFIG_MAP, PVC
from tests.acceptance.applications import WAIT, claim, pod
from tests.acceptance.cluster import (
    BACKUP,
    DATA_DOWNLOAD,
    DATA_UPLOAD,
    POD_VOLUME_BACKUP,
    RESTORE,
    STATE,
    VELERO,
)
from tests.acceptance.flows import (
    App,
    back_up,
    by_claim,
    move_data,
    moves_of,
    restore,
    unique,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.cluster import Cluster

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


@pytest.mark.item("9.1.hooks")
def test_failing_pre_hook_with_on_error_fail_keeps_its_pod_and_post_hook_out(
    cluster: Cluster, app: App
) -> None:
    ns = app.namespace
    failing = hook("pre", ["sh", "-c", "exit 1"], **{"on-error": "Fail"})
    hooks = failing | hook("post", ["sh", "-c", "echo thawed >/tmp/state"])
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",), annotations=hooks))
    backup = back_up(cluster, ns, "--default-volumes-to-fs-backup", phase="PartiallyFailed")
    assert not moves_of(cluster, POD_VOLUME_BACKUP, backup)
    assert "No such file" in cluster.exec(ns, "app", "sh", "-c", "cat /tmp/state 2>&1 || true")


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


@dataclass
class Moved:
    """An application and one backup of it with its data moved, for tests that only look or restore."""

    app: App
    digest: str
    backup: str


@pytest.fixture(scope="module")
def moved(cluster: Cluster) -> Iterator[Moved]:
    cluster.use_agent("ours")
    app = App(cluster, unique("app"))
    hooks = {
        "post.hook.restore.velero.io/command": json.dumps(["sh", "-c", "cp /files/link /tmp/after-restore"]),
        "post.hook.restore.velero.io/container": "app",
    }
    app.start(claim(app.namespace, "files"), pod(app.namespace, "app", claims=("files",), annotations=hooks))
    digest = app.write_tree("/files", count=5)
    yield Moved(app, digest, move_data(cluster, app.namespace))
    cluster.delete_namespace(app.namespace)


@pytest.mark.item("9.1.mapping")
@pytest.mark.xdist_group("moved")
def test_namespace_is_mapped_and_hooks_run_after_the_restored_data_is_there(
    cluster: Cluster, moved: Moved, target: App
) -> None:
    name = restore(cluster, moved.backup, moved.app.namespace, target.namespace)
    cluster.wait_pod(target.namespace, "app")
    assert target.digest("/files") == moved.digest
    assert moves_of(cluster, DATA_DOWNLOAD, name)[0]["spec"]["targetVolume"]["namespace"] == target.namespace
    cluster.wait("the hook has run", lambda: "hookStatus" in cluster.get(RESTORE, name)["status"])
    hooks = cluster.get(RESTORE, name)["status"]["hookStatus"]
    assert (hooks["hooksAttempted"], hooks.get("hooksFailed", 0)) == (1, 0)
    assert target.run("import os; print(os.path.getsize('/tmp/after-restore'))").strip().isdigit()


@contextmanager
def config_map(
    cluster: Cluster, name: str, data: dict[str, str], labels: dict[str, str] | None = None
) -> Iterator[str]:
    meta = {"name": name, "namespace": VELERO, "labels": labels or {}}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
    try:
        yield name
    finally:
        cluster.delete(CONFIG_MAP, name)


@pytest.mark.item("9.1.mapping")
@pytest.mark.core
@pytest.mark.xdist_group("moved")
def test_storage_class_is_mapped(cluster: Cluster, moved: Moved, target: App) -> None:
    labels = {"velero.io/plugin-config": "", "velero.io/change-storage-class": "RestoreItemAction"}
    with config_map(cluster, unique("map"), {"bench": WAIT}, labels):
        restore(cluster, moved.backup, moved.app.namespace, target.namespace)
    cluster.wait_pod(target.namespace, "app")
    assert cluster.get(PVC, "files", target.namespace)["spec"]["storageClassName"] == WAIT
    assert target.digest("/files") == moved.digest


@pytest.mark.item("9.1.modifiers")
@pytest.mark.xdist_group("moved")
def test_resource_modifiers_apply_to_the_restored_claim(cluster: Cluster, moved: Moved, target: App) -> None:
    patch = json.dumps({"metadata": {"labels": {"changed": "yes"}}})
    rule = {
        "conditions": {"groupResource": "persistentvolumeclaims"},
        "mergePatches": [{"patchData": patch}],
    }
    rules = {"rules.yaml": json.dumps({"version": "v1", "resourceModifierRules": [rule]})}
    with config_map(cluster, unique("rules"), rules) as name:
        flags = ("--resource-modifier-configmap", name)
        restore(cluster, moved.backup, moved.app.namespace, target.namespace, *flags)
    cluster.wait_pod(target.namespace, "app")
    assert cluster.get(PVC, "files", target.namespace)["metadata"]["labels"]["changed"] == "yes"
    assert target.digest("/files") == moved.digest


@pytest.mark.item("9.1.layout")
@pytest.mark.xdist_group("moved")
def test_object_store_layout(moved: Moved) -> None:
    kept = {path.name for path in (BUCKET / "backups" / moved.backup).iterdir()}
    parts = ("volumeinfo", "itemoperations", "volumesnapshots", "podvolumebackups", "resource-list")
    wanted = {f"{moved.backup}-{part}.json.gz" for part in parts}
    assert wanted | {"velero-backup.json", f"{moved.backup}.tar.gz", f"{moved.backup}-results.gz"} <= kept
    folders = {path.name for path in BUCKET.iterdir() if not path.name.startswith(".")}  # the S3 server's own
    assert folders <= {"backups", "restores", "kopia"}
    assert (BUCKET / "kopia" / moved.app.namespace / "kopia.repository").exists()


@pytest.mark.item("9.1.operations")
@pytest.mark.xdist_group("moved")
def test_item_operation_is_counted_and_its_data_upload_is_in_the_backup(
    cluster: Cluster, moved: Moved
) -> None:
    status = cluster.get(BACKUP, moved.backup)["status"]
    counts = [status.get(f"backupItemOperations{what}", 0) for what in ("Attempted", "Completed", "Failed")]
    assert counts == [1, 1, 0]
    upload = moves_of(cluster, DATA_UPLOAD, moved.backup)[0]
    folder = BUCKET / "backups" / moved.backup
    with gzip.open(folder / f"{moved.backup}-itemoperations.json.gz") as file:
        operation = json.load(file)[0]["status"]
    assert operation["phase"] == "Completed"
    assert operation["nCompleted"] == upload["status"]["progress"]["bytesDone"]
    with gzip.open(folder / f"{moved.backup}-volumeinfo.json.gz") as file:
        info = json.load(file)[0]["snapshotDataMovementInfo"]
    assert info["snapshotHandle"] == upload["status"]["snapshotID"]
    with tarfile.open(folder / f"{moved.backup}.tar.gz") as tar:
        assert any(upload["metadata"]["name"] in member for member in tar.getnames())


@pytest.mark.item("9.1.describe")
@pytest.mark.xdist_group("moved")
def test_describe_shows_the_moved_volume(cluster: Cluster, moved: Moved) -> None:
    upload = moves_of(cluster, DATA_UPLOAD, moved.backup)[0]
    described = cluster.velero("backup", "describe", moved.backup, "--details")
    assert str(upload["status"]["progress"]["totalBytes"]) in described
    assert f"{moved.app.namespace}/files" in described


@pytest.mark.item("9.1.debug")
@pytest.mark.xdist_group("moved")
def test_debug_bundle_holds_the_node_agents_log(cluster: Cluster, moved: Moved, tmp_path: Path) -> None:
    bundle = tmp_path / "debug.tar.gz"
    cluster.velero("debug", "--backup", moved.backup, "--output", str(bundle))
    with tarfile.open(bundle) as tar:
        assert any("node-agent" in member for member in tar.getnames())


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
def test_expired_backup_is_collected_with_its_data_upload(cluster: Cluster, app: App) -> None:
    ns = app.namespace
    app.start(claim(ns, "files"), pod(ns, "app", claims=("files",)))
    backup = move_data(cluster, ns)
    cluster.patch(BACKUP, backup, {"status": {"expiration": "2020-01-01T00:00:00Z"}})
    cluster.wait("the backup is collected", lambda: cluster.find(BACKUP, backup) is None, 300)
    cluster.wait("and its data upload", lambda: not moves_of(cluster, DATA_UPLOAD, backup), 30)
