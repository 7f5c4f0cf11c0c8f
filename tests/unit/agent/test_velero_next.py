"""Velero 1.19 drives the agent: a test for each row of what an agent of 1.18 gets wrong (docs/velero-1.19.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.control.world import utc_now
from agent.moves.custom_resources import MalformedResourceError, Move, format_time
from agent.moves.mover_request import build_request
from agent.moves.phases import next_step, static_refusal
from agent.moves.steps import (
    Accept,
    Ignore,
    Job,
    JobState,
    JobView,
    Observed,
    Prepare,
    RunJob,
    Step,
    Wait,
)
from exposer.access_point import AccessPoint, VolumeMode, access_point
from exposer.hosting_pod import ABSENT, HostingPod, PodState
from exposer.secret_copies import COPY_LABEL
from kube.api import POD, PV, PVC, SECRET, VOLUME_SNAPSHOT
from mover.protocol import BackupRequest, RepositoryAccess
from tests.fakes import scene
from tests.fakes.resources import T0, after, move

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Stage

DATA = ["DataUpload", "DataDownload"]
ACCESS = RepositoryAccess("default", {}, "app", "/password")
UPSTREAM_PENDING = HostingPod(PodState.PENDING, name="move-1", is_ours=False)
UPSTREAM_RUNNING = HostingPod(PodState.RUNNING, name="move-1", node="node-1", is_ours=False)


def step(subject: Move, **facts: Any) -> Step:
    waited = {"now": after(60), "waited_seconds": (after(60) - T0).total_seconds()}
    return next_step(Observed(move=subject, node="node-1", **waited | facts))


def of_mover(kind: str, name: str, phase: str = "", **status: Any) -> Move:
    return move(kind, phase, spec={"datamover": name}, status=status)


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("name", ["", "velero", "velero-fs"])
def test_b1_every_name_of_the_file_system_mover_is_ours_by_default(kind: str, name: str) -> None:
    assert step(of_mover(kind, name)) == Accept()
    assert step(of_mover(kind, "kopia")) == Ignore()


async def test_b1_backup_of_a_1_19_server_is_done_and_continues_the_chain(stage: Stage) -> None:
    requests: list[dict[str, Any]] = []
    mover = stage.kubelet.mover

    async def recorded(request: str, pod: Any, canceled: Any) -> tuple[int, str]:
        requests.append(json.loads(request))
        return await mover(request, pod, canceled)

    stage.kubelet.mover = recorded
    await stage.start_agent()
    stage.create("DataUpload", spec={"datamover": "velero-fs", "sourceFSType": "ext4", "unheardOf": {"x": 1}})
    assert (await stage.phase("DataUpload", "Completed"))["snapshotID"] == "b3c0"
    [request] = requests
    assert request["source_path"] == "snapshot-data-upload-download/kopia/app/data"
    assert request["tags"]["snapshot-uploader"] == "kopia"
    await stage.released("DataUpload")


async def test_b1_restore_of_a_1_19_server_binds_its_volume(stage: Stage) -> None:
    stage.kube.put(PVC, scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}}))
    await stage.start_agent()
    target = {"namespace": "app", "pvc": "new", "pv": "", "fsType": "ext4"}
    stage.create("DataDownload", spec={"datamover": "velero-fs", "targetVolume": target})
    await stage.phase("DataDownload", "Completed")
    claim = await stage.kube.get(PVC, "app", "new")
    assert (await stage.kube.get(PV, "", claim["spec"]["volumeName"]))["status"]["phase"] == "Bound"


@pytest.mark.parametrize("phase", ["Accepted", "InProgress"])
async def test_b1_move_begun_by_upstreams_agent_is_brought_to_its_end(stage: Stage, phase: str) -> None:
    """The image was swapped: the pod is upstream's, whose mover ends by itself; the finalizer is set."""
    meta = {
        "name": "move-1",
        "namespace": "velero",
        "labels": {"velero.io/data-upload": "move-1"},
        "ownerReferences": [{"uid": "uid-move-1"}],
    }
    spec = {"nodeName": "node-1", "containers": [{"name": "uid-move-1", "image": "upstream"}]}
    stage.kube.put(POD, {"metadata": meta, "spec": spec, "status": {"phase": "Running"}})
    await stage.kube.delete(VOLUME_SNAPSHOT, "app", "velero-data-x")  # upstream has taken it over
    node = {"node": "node-1"} if phase == "InProgress" else {}
    stage.create(
        "DataUpload",
        metadata={"finalizers": ["velero.io/data-upload-download-finalizer"]},
        spec={"datamover": "velero-fs"},
        status={"phase": phase, "acceptedByNode": "node-1", "acceptedTimestamp": format_time(utc_now())}
        | node,
    )
    await stage.start_agent()
    await stage.phase("DataUpload", "InProgress")
    ended = {
        "exitCode": 0,
        "message": '{"snapshotID":"c0de","totalBytes":9,"source":{"byPath":"/x"}}',
        "reason": "Completed",
    }
    status = {
        "phase": "Succeeded",
        "containerStatuses": [{"name": "uid-move-1", "state": {"terminated": ended}}],
    }
    stage.kube.change(POD, "velero", "move-1", {"status": status})
    assert (await stage.phase("DataUpload", "Completed"))["snapshotID"] == "c0de"
    await stage.released("DataUpload")
    assert "move-1" not in stage.kube.names(POD)


@pytest.mark.parametrize("kind", DATA)
def test_b2_block_mover_is_served(kind: str) -> None:
    assert not static_refusal(of_mover(kind, "velero-block"))
    assert step(of_mover(kind, "velero-block")) == Accept()


async def test_b7_block_backup_of_files_reads_a_device_and_is_told_so_to_the_mover(stage: Stage) -> None:
    """Mode of the claim, layout, path and handles: what the exposer and the request owe to the mover's name."""
    await stage.start_agent()
    stage.create("DataUpload", spec={"datamover": "velero-block"})
    await stage.phase("DataUpload", "Accepted")
    await stage.until(lambda: "move-1" in stage.kube.names(POD))
    claim = await stage.kube.get(PVC, "velero", "move-1")
    assert claim["spec"]["volumeMode"] == "Block"
    pod = await stage.kube.get(POD, "velero", "move-1")
    request = build_request(of_mover("DataUpload", "velero-block", "InProgress"), access_point(pod), ACCESS)
    assert request.source_path.startswith("snapshot-data-upload-download/velero-block/")
    assert request.tags["snapshot-uploader"] == "velero-block"
    assert request.tags["cbt-volume-id"] == "disk-data"
    assert request.tags["cbt-change-id"]


@pytest.mark.parametrize("kind", DATA)
def test_b2_block_move_begun_by_upstream_is_left_to_its_own_pod(kind: str) -> None:
    """Swapped in mid-flight: its pod has the mover that it was given."""
    subject = of_mover(kind, "velero-block", "Accepted", acceptedByNode="node-1")
    assert step(subject, pod=UPSTREAM_RUNNING) == Prepare()
    assert isinstance(step(subject, pod=UPSTREAM_PENDING), Wait)
    assert step(subject, pod=ABSENT) == RunJob(Job.EXPOSE)
    jobs = {Job.EXPOSE: JobView(JobState.DONE)}
    ours = HostingPod(PodState.RUNNING, name="move-1", node="node-1")
    assert (
        step(of_mover(kind, "velero-fs", "Accepted", acceptedByNode="node-1"), pod=ours, jobs=jobs)
        == Prepare()
    )


def test_b10_mover_of_an_upstream_agent_writes_the_layout_of_its_name() -> None:
    point = AccessPoint("/dev/x", VolumeMode.BLOCK, "snap-1", "disk-1")
    block = build_request(of_mover("DataUpload", "velero-block", "InProgress"), point, ACCESS)
    files = build_request(of_mover("DataUpload", "velero-fs", "InProgress"), point, ACCESS)
    assert (block.tags["cbt-change-id"], block.tags["cbt-volume-id"]) == ("snap-1", "disk-1")
    assert (block.tags["snapshot-uploader"], files.tags["snapshot-uploader"]) == ("velero-block", "kopia")
    assert "cbt-change-id" not in files.tags
    build_request(of_mover("DataDownload", "velero-block", "InProgress"), point, ACCESS)


@pytest.mark.parametrize("kind", ["DataUpload", "PodVolumeBackup"])
@pytest.mark.parametrize("parent", ["", "none", "auto", "b3c0ffee"])
def test_b3_parent_that_is_asked_for_reaches_the_mover(kind: str, parent: str) -> None:
    subject = move(kind, "InProgress", spec={"parentSnapshot": parent} if parent else {})
    request = build_request(subject, AccessPoint("/v", VolumeMode.FILESYSTEM), ACCESS)
    assert isinstance(request, BackupRequest)
    assert request.parent_snapshot == parent


@pytest.mark.parametrize("kind", ["DataUpload", "PodVolumeBackup"])
def test_b3_parent_of_a_wrong_type_is_said(kind: str) -> None:
    with pytest.raises(MalformedResourceError, match="parentSnapshot"):
        move(kind, spec={"parentSnapshot": ["none"]})


async def test_b4_copies_of_a_move_that_was_deleted_by_force_are_found(stage: Stage) -> None:
    for name, uid in (("lost", "uid-gone"), ("used", "uid-move-1")):
        meta = {"name": name, "namespace": "velero", "labels": {COPY_LABEL: uid}}
        stage.kube.put(SECRET, {"metadata": meta, "data": {"key": "c2VjcmV0"}})
    stage.create("DataDownload", spec={"targetVolume": {"namespace": "app", "pvc": "late", "pv": ""}})
    await stage.start_agent()
    await stage.until(lambda: "lost" not in stage.kube.names(SECRET))
    assert "used" in stage.kube.names(SECRET)
    assert "velero-repo-credentials" in stage.kube.names(SECRET)


def waiting_pod(
    status: dict[str, Any], *, node: str = "node-1", init: str = "restore-wait"
) -> dict[str, Any]:
    return {
        "metadata": {"name": "web-0", "namespace": "app", "uid": "pod-uid"},
        "spec": {"nodeName": node, "initContainers": [{"name": init}], "containers": [{"name": "main"}]},
        "status": status,
    }


def init_state(**state: Any) -> dict[str, Any]:
    return {"phase": "Pending", "initContainerStatuses": [{"name": "restore-wait", "state": state}]}


@pytest.mark.parametrize("node", ["node-1", "node-9"])
@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"phase": "Failed", "message": "Evicted"}, "it is Failed: Evicted"),
        ({"phase": "Unknown"}, "it is Unknown"),
        (init_state(terminated={"exitCode": 0}), "is over already (exit code 0)"),
        (init_state(waiting={"reason": "ImagePullBackOff", "message": "no such image"}), "no such image"),
        (init_state(waiting={"reason": "CreateContainerConfigError"}), "CreateContainerConfigError"),
    ],
)
async def test_b9_restore_whose_pod_can_never_run_fails_at_once_with_its_reason(
    stage: Stage, node: str, status: dict[str, Any], said: str
) -> None:
    stage.kube.put(POD, waiting_pod(status, node=node))
    await stage.start_agent()
    stage.create("PodVolumeRestore")
    message = (await stage.phase("PodVolumeRestore", "Failed"))["message"]
    assert message.startswith("Pod for this PVR is not ready: pod app/web-0: ")
    assert said in message


async def test_b9_pod_without_the_init_container_fails_its_restore_at_once(stage: Stage) -> None:
    stage.kube.put(POD, waiting_pod({"phase": "Running"}, init="other"))
    await stage.start_agent()
    stage.create("PodVolumeRestore")
    assert (
        "has no init container restore-wait" in (await stage.phase("PodVolumeRestore", "Failed"))["message"]
    )


async def test_b9_pod_that_may_still_run_is_waited_for(stage: Stage) -> None:
    stage.kube.put(POD, waiting_pod(init_state(waiting={"reason": "PodInitializing"})))
    await stage.start_agent()
    stage.create("PodVolumeRestore")
    await stage.until(lambda: "is not running" in stage.status("PodVolumeRestore").get("message", ""))
    stage.kube.change(POD, "app", "web-0", {"status": init_state(running={})})
    await stage.until(lambda: "acceptedTimestamp" in stage.status("PodVolumeRestore"))
