"""A move that waits says why, whoever could do something about it, and ends when it has waited long enough."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.moves.cluster_facts import read_node
from kube.api import EVENT, NODE, POD, PVC, InvalidError, KubeError, Resource
from tests.fakes import scene
from tests.unit.agent.test_agent import put_web

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Stage


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (None, "pod app/web-0 does not exist"),
        ({"spec": {"nodeName": "node-9"}}, "no node-agent runs on node node-9"),
    ],
    ids=["missing", "no agent"],
)
async def test_restore_into_a_pod_that_nobody_serves_says_why_and_ends_at_the_prepare_timeout(
    stage: Stage, change: dict | None, text: str
) -> None:
    if change is not None:
        put_web(stage)
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "no room",
        }
        stage.kube.change(POD, "app", "web-0", {"status": {"conditions": [condition]}})
        stage.kube.change(POD, "app", "web-0", change)
    await stage.start_agent(prepare_timeout_seconds=1.0, resync_seconds=0.2)
    stage.create("PodVolumeRestore")
    await stage.until(lambda: text in stage.status("PodVolumeRestore").get("message", ""))
    status = await stage.phase("PodVolumeRestore", "Failed")
    assert status["message"].startswith("timeout on preparing PVR: ")
    assert text in status["message"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"metadata": {"uid": "other"}}, "pod app/web-0 was made anew"),
        ({"spec": {"initContainers": [], "nodeName": "node-9"}}, "has no init container restore-wait"),
        ({"spec": {"nodeName": "node-9"}, "status": {"phase": "Succeeded"}}, "has ended (Succeeded)"),
    ],
    ids=["another", "not injected", "ended"],
)
async def test_restore_into_a_pod_that_can_never_take_it_fails_at_once_with_the_reason(
    stage: Stage, change: dict, text: str
) -> None:
    put_web(stage)
    stage.kube.change(POD, "app", "web-0", change)
    await stage.start_agent(resync_seconds=0.2)
    stage.create("PodVolumeRestore")
    status = await stage.phase("PodVolumeRestore", "Failed")
    assert text in status["message"]
    assert "timeout" not in status["message"]


@pytest.mark.parametrize("scheduled", [False, True])
async def test_restore_waits_for_a_pod_that_can_still_come_up_and_then_runs(
    stage: Stage, *, scheduled: bool
) -> None:
    """It may wait for the restore of another volume of it, which takes longer than preparing may."""
    put_web(stage, waits=False)
    reason = "init container restore-wait of pod app/web-0 is not running"
    if not scheduled:
        reason = "pod app/web-0 runs on no node yet: Unschedulable: no volume"
        condition = {"type": "PodScheduled", "status": "False", "message": "no volume"}
        condition |= {"reason": "Unschedulable"}
        unbound = {"spec": {"nodeName": None}, "status": {"phase": "Pending", "conditions": [condition]}}
        stage.kube.change(POD, "app", "web-0", unbound)
    await stage.start_agent(resync_seconds=0.1)
    stage.create("PodVolumeRestore", metadata={"creationTimestamp": "2026-01-01T00:00:00Z"})
    await stage.until(lambda: reason in stage.status("PodVolumeRestore").get("message", ""))
    assert stage.status("PodVolumeRestore").get("phase", "New") == "New"
    running = {"state": {"running": {"startedAt": "2026-11-21T12:00:00Z"}}}
    up = {"phase": "Pending", "initContainerStatuses": [{"state": {}}, running]}
    stage.kube.change(POD, "app", "web-0", {"spec": {"nodeName": "node-1"}, "status": up})
    await stage.phase("PodVolumeRestore", "Completed")


async def test_one_agent_of_many_says_why_a_move_waits_that_any_may_accept(
    stage: Stage,
) -> None:
    for node in ("node-2", "node-3"):
        stage.kube.put(NODE, {"metadata": {"name": node}, "spec": {}})
        scene.put_agent_pod(stage.kube, node)
    for node in ("node-1", "node-2", "node-3"):
        await stage.start_agent(node)
    stage.create("DataDownload", spec={"targetVolume": {"namespace": "app", "pvc": "late", "pv": ""}})
    await stage.until(lambda: "late does not exist" in stage.status("DataDownload").get("message", ""))
    await asyncio.sleep(1.0)  # time for the others to say it too, if they were to
    events = [body for (plural, _, _), body in stage.kube.objects.items() if plural == "events"]
    assert sum(event["reason"] == "Waiting" for event in events) == 1


async def test_what_only_events_say_is_shown_as_the_reason(stage: Stage) -> None:
    stage.kubelet.pending = {"phase": "Pending"}
    for place, (kind, reason) in enumerate(
        [("Pod", "FailedMount"), ("PersistentVolumeClaim", "ProvisioningFailed"), ("DataUpload", "Waiting")]
    ):
        stage.kube.put(EVENT, warning(kind, reason, f"2026-11-21T12:00:0{place}Z"))
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(
        lambda: stage.status("DataUpload").get("message") == "waiting: ProvisioningFailed: no room left",
        5,
        lambda: stage.status("DataUpload"),
    )
    stage.kubelet.pending = None
    assert "message" not in await stage.phase("DataUpload", "Completed")


def warning(kind: str, reason: str, at: str) -> dict:
    return {
        "metadata": {"name": reason.lower(), "namespace": "velero"},
        "involvedObject": {"kind": kind, "namespace": "velero", "name": "move-1"},
        "type": "Warning",
        "reason": reason,
        "message": "no room left",
        "lastTimestamp": at,
    }


@pytest.mark.parametrize(("status", "silent"), [("Unknown", True), ("False", False), ("True", False)])
def test_node_is_silent_when_the_control_plane_has_given_it_up(status: str, *, silent: bool) -> None:
    conditions = [{"type": "MemoryPressure", "status": "Unknown"}, {"type": "Ready", "status": status}]
    assert read_node({"metadata": {}, "status": {"conditions": conditions}}).is_silent is silent
    assert not read_node({"metadata": {}}).is_silent


async def test_what_was_there_of_a_failed_exposure_is_in_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    waiting = {"waiting": {"reason": "ErrImageNeverPull"}}
    stage.kubelet.pending = {"phase": "Pending", "containerStatuses": [{"state": waiting}]}
    stage.kube.put(EVENT, warning("Pod", "FailedMount", "2026-11-21T12:00:00Z"))
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.phase("DataUpload", "Failed")
    await stage.released("DataUpload")
    lines = [record.message for record in caplog.records if record.message.startswith("[Diagnose DU expose]")]
    for part in ("Pod velero/move-1: phase Pending", "VolumeSnapshotContent /move-1", "warning FailedMount"):
        assert any(part in line for line in lines), lines


async def test_object_of_somebody_else_in_our_place_is_left_alone_and_waited_for(stage: Stage) -> None:
    stage.kube.put(PVC, scene.claim("move-1", "velero"))
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: "was not made for this move" in stage.status("DataUpload").get("message", ""))
    stage.kube.remove(PVC, "velero", "move-1")
    await stage.phase("DataUpload", "Completed")


async def test_move_of_a_node_that_is_silent_says_so_and_ends(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.moves.phases.NOTICED_SECONDS", 0.1)
    silent = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    stage.kube.put(NODE, {"metadata": {"name": "node-0"}, "spec": {}, "status": silent})
    scene.put_agent_pod(stage.kube, "node-0")
    unready = {"conditions": [{"type": "Ready", "status": "False"}]}  # as the node controller sets it
    stage.kube.change(POD, "velero", "node-agent-node-0", {"status": unready})
    await stage.start_agent(resync_seconds=0.2)
    stage.create("PodVolumeBackup", spec={"node": "node-0"})
    await stage.until(
        lambda: "no node-agent answers on node node-0" in stage.status("PodVolumeBackup").get("message", "")
    )
    stage.kube.remove(NODE, "", "node-0")
    assert "node node-0 is gone" in (await stage.phase("PodVolumeBackup", "Failed"))["message"]


async def test_write_that_is_refused_for_another_reason_changes_no_schema(stage: Stage) -> None:
    put_web(stage)
    refusals = iter([InvalidError("metadata.labels: Invalid value", status=422)])

    def fail(verb: str, resource: Resource, _name: str) -> KubeError | None:
        return next(refusals, None) if (verb, resource.kind) == ("patch", "PodVolumeBackup") else None

    stage.kube.fail = fail
    agent = await stage.start_agent(resync_seconds=0.2)
    stage.create("PodVolumeBackup")
    await stage.phase("PodVolumeBackup", "Completed")
    assert agent.world.crds.pod_volume_phases


async def test_deleted_move_under_an_upstream_mover_is_canceled_in_the_way_that_it_hears(
    stage: Stage,
) -> None:
    meta = {"name": "move-1", "namespace": "velero", "labels": {"velero.io/data-upload": "move-1"}}
    meta["ownerReferences"] = [{"uid": "uid-move-1"}]
    spec = {"nodeName": "node-1", "containers": [{"name": "uid-move-1", "image": "x"}]}
    stage.kube.put(POD, {"metadata": meta, "spec": spec, "status": {"phase": "Running"}})
    finalizer = "velero.io/data-upload-download-finalizer"
    stage.create(
        "DataUpload",
        metadata={"finalizers": [finalizer], "deletionTimestamp": "2026-11-21T12:00:00Z"},
        status={"phase": "InProgress", "node": "node-1"},
    )
    await stage.start_agent()
    await stage.until(lambda: stage.read("DataUpload")["spec"].get("cancel") is True)
