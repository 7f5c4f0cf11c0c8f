"""The agent as a whole against a cluster in memory: from `New` to an end with nothing left over."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from agent.control.backup_repository import RepositoryKey, ensure_repository
from agent.control.config_map_watch import StartError
from agent.control.flags import Config
from agent.control.mover_inputs import BACKUP_STORAGE_LOCATION
from agent.control.node_agent import Agent
from agent.control.node_agent_config import parse_config_map
from agent.control.world import RESOURCES
from agent.moves.status_patch import message_patch, progress_patch
from exposer.hosting_pod import REQUEST_ANNOTATION
from kube.api import (
    CONFIG_MAP,
    CRD,
    NODE,
    POD,
    PV,
    PVC,
    SECRET,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    ConflictError,
    ForbiddenError,
    KubeError,
    QuotaError,
    Resource,
)
from mover.protocol import End, encode_end
from tests.fakes import scene
from tests.fakes.kube import FakeKube
from tests.fakes.kubelet import fail_with, succeed_with, until_canceled
from tests.fakes.resources import body

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Stage


def nothing_left(stage: Stage) -> bool:
    pods = [name for name in stage.kube.names(POD) if not name.startswith(("node-agent", "web"))]
    ours = [pods, stage.kube.names(VOLUME_SNAPSHOT), stage.kube.names(VOLUME_SNAPSHOT_CONTENT)]
    return ours == [[], [], []] and "move-1" not in stage.kube.names(PVC)


async def test_data_upload_runs_to_completed_and_leaves_nothing(stage: Stage) -> None:
    await stage.start_agent()
    stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Completed")
    assert status["snapshotID"] == "b3c0"
    assert status["progress"] == {"totalBytes": 7, "bytesDone": 7}
    assert (status["node"], status["nodeOS"], status["acceptedByNode"]) == ("node-1", "linux", "node-1")
    assert status["startTimestamp"]
    assert status["completionTimestamp"]
    assert "message" not in status
    await stage.released("DataUpload")
    await stage.until(lambda: nothing_left(stage) and stage.controllers.storage == {"disk-data"})
    assert "velero.io/expose-on-going" not in stage.read("DataUpload")["metadata"].get("labels", {})


async def test_last_line_of_the_log_ends_a_move_before_the_kubelet_has_noticed(stage: Stage) -> None:
    stage.kubelet.mover = until_canceled  # its pod never ends
    result = {"snapshotID": "c0ffee", "totalBytes": 3, "source": {"byPath": "/u"}}
    stage.kube.log["move-1"] = [encode_end(End(0, json.dumps(result)))]
    await stage.start_agent()
    stage.create("DataUpload")
    assert (await stage.phase("DataUpload", "Completed"))["snapshotID"] == "c0ffee"
    await stage.released("DataUpload")
    await stage.until(lambda: nothing_left(stage))


async def test_request_carries_what_the_snapshot_must_record(stage: Stage) -> None:
    requests: list[dict] = []

    async def mover(request: str, pod: dict, canceled: asyncio.Event) -> tuple[int, str]:
        requests.append(json.loads(request))
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    await stage.start_agent()
    stage.create(
        "DataUpload",
        metadata={"labels": {"velero.io/async-operation-id": "du-1.2"}},
        spec={"dataMoverConfig": {"ParallelFilesUpload": "7"}},
    )
    await stage.phase("DataUpload", "Completed")
    request = requests[0]
    assert request["source_path"] == "snapshot-data-upload-download/kopia/app/data"
    assert request["tags"] == {
        "snapshot-requester": "snapshot-data-upload-download",
        "snapshot-uploader": "kopia",
        "velero.io/async-operation-id": "du-1.2",
    }
    assert request["parallel"] == 7
    assert request["path"] == "/uid-move-1"
    assert request["repository"]["volume_namespace"] == "app"


async def test_data_download_gives_its_volume_to_the_target(stage: Stage) -> None:
    stage.kube.put(PVC, scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}}))
    await stage.start_agent()
    stage.create("DataDownload", spec={"targetVolume": {"namespace": "app", "pvc": "new", "pv": ""}})
    await stage.phase("DataDownload", "Completed")
    claim = await stage.kube.get(PVC, "app", "new")
    volume = await stage.kube.get(PV, "", claim["spec"]["volumeName"])
    assert volume["status"]["phase"] == "Bound"
    await stage.released("DataDownload")
    await stage.until(lambda: nothing_left_of_restore(stage))


def nothing_left_of_restore(stage: Stage) -> bool:
    return "move-1" not in stage.kube.names(POD) + stage.kube.names(PVC)


async def test_data_download_waits_for_its_target_and_says_so(stage: Stage) -> None:
    await stage.start_agent()
    stage.create("DataDownload", spec={"targetVolume": {"namespace": "app", "pvc": "late", "pv": ""}})
    await stage.until(
        lambda: "app/late does not exist yet" in stage.status("DataDownload").get("message", "")
    )
    stage.kube.put(PVC, scene.claim("late", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}}))
    status = await stage.phase("DataDownload", "Completed")
    assert "message" not in status


def put_web(stage: Stage, *, waits: bool = True) -> None:
    pod = {
        "metadata": {"name": "web-0", "namespace": "app", "uid": "pod-uid"},
        "spec": {
            "nodeName": "node-1",
            "initContainers": [{"name": "other"}, {"name": "restore-wait"}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
        "status": {
            "initContainerStatuses": [{"state": {}}, {"state": {"running": {}} if waits else {"waiting": {}}}]
        },
    }
    stage.kube.put(POD, pod)
    (stage.host_pods / "pod-uid" / "volumes" / "kubernetes.io~empty-dir" / "data").mkdir(
        parents=True, exist_ok=True
    )


@pytest.mark.parametrize("kind", ["PodVolumeBackup", "PodVolumeRestore"])
async def test_pod_volume_runs_to_completed(stage: Stage, kind: str) -> None:
    put_web(stage)
    await stage.start_agent()
    stage.create(kind)
    status = await stage.phase(kind, "Completed")
    assert status["progress"] == {"totalBytes": 7, "bytesDone": 7}
    await stage.released(kind)
    await stage.until(lambda: nothing_left(stage) or stage.kube.names(VOLUME_SNAPSHOT) == ["velero-data-x"])


async def test_request_and_cancel_are_put_where_the_mover_sees_them_before_the_kubelet_moves(
    stage: Stage,
) -> None:
    stage.kubelet.mover = until_canceled
    stage.kubelet.pending = {"phase": "Pending"}
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: "move-1" in stage.kube.names(POD))
    meta = stage.kube.objects[("pods", "velero", "move-1")]["metadata"]
    place = stage.host_pods / meta["uid"] / "volumes" / "kubernetes.io~empty-dir" / "signal"
    place.mkdir(parents=True)
    stage.kubelet.pending = None
    await stage.until((place / "request").exists)
    annotations = stage.kube.objects[("pods", "velero", "move-1")]["metadata"]["annotations"]
    assert (place / "request").read_text() == annotations[REQUEST_ANNOTATION]
    stage.cancel("DataUpload")
    await stage.until((place / "cancel").exists)
    await stage.phase("DataUpload", "Canceled")


async def test_pod_volume_restore_waits_for_the_init_container(stage: Stage) -> None:
    put_web(stage, waits=False)
    await stage.start_agent()
    stage.create("PodVolumeRestore")
    await stage.until(lambda: "restore-wait" in stage.status("PodVolumeRestore").get("message", ""))
    put_web(stage, waits=True)
    await stage.phase("PodVolumeRestore", "Completed")


@pytest.mark.parametrize("version", ["1.15", "1.16"])
async def test_pod_volumes_on_old_schemas_use_only_phases_they_know(stage: Stage, version: str) -> None:
    stage.kube.put(CRD, scene.crd(version, "podvolumebackups"))
    put_web(stage)
    seen: set[str] = set()
    known = {"New", "InProgress", "Completed", "Failed"}
    await stage.start_agent()
    stage.create("PodVolumeBackup")

    def completed() -> bool:
        seen.add(stage.status("PodVolumeBackup").get("phase", "New"))
        return "Completed" in seen

    await stage.until(completed)
    assert seen <= known


async def test_failed_mover_fails_the_move_with_its_text_and_frees_its_slot(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stage.kubelet.mover = fail_with("cannot open repository: access denied")
    agent = await stage.start_agent()
    stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Failed")
    assert status["message"] == "data path backup failed: cannot open repository: access denied"
    await stage.released("DataUpload")
    assert agent.world.slots.holders == set()
    await stage.until(lambda: nothing_left(stage))
    ended = next(record for record in caplog.records if record.getMessage() == "move ended")
    assert "access denied" in vars(ended)["reason"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_killed_mover_without_a_word_is_failed_at_once_with_a_reason(stage: Stage) -> None:
    stage.kubelet.mover = fail_with("", code=137)
    await stage.start_agent()
    stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Failed", seconds=2)
    assert "exit code 137" in status["message"]


async def test_deleted_mover_pod_fails_the_move_at_once(stage: Stage) -> None:
    stage.kubelet.mover = until_canceled
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.phase("DataUpload", "InProgress")
    await stage.until(lambda: bool(stage.kubelet.ran))
    stage.kube.remove(POD, "velero", "move-1")
    status = await stage.phase("DataUpload", "Failed", seconds=1)
    assert "hosting pod was deleted" in status["message"]


async def test_cancel_in_progress_stops_the_mover(stage: Stage) -> None:
    stage.kubelet.mover = until_canceled
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.phase("DataUpload", "InProgress")
    await stage.until(lambda: bool(stage.kubelet.ran))
    stage.cancel("DataUpload")
    await stage.phase("DataUpload", "Canceled")
    await stage.released("DataUpload")
    await stage.until(lambda: nothing_left(stage))


async def test_mover_that_ignores_the_cancel_is_killed_after_its_grace(stage: Stage) -> None:
    async def deaf(*_: object) -> tuple[int, str]:
        await asyncio.sleep(60)
        return 0, ""

    stage.kubelet.mover = deaf
    await stage.start_agent(cancel_grace_seconds=1.0)
    stage.create("DataUpload")
    await stage.phase("DataUpload", "InProgress")
    await stage.until(lambda: bool(stage.kubelet.ran))
    stage.cancel("DataUpload")
    await stage.phase("DataUpload", "Canceled")


async def test_cancel_while_exposing_takes_everything_back(stage: Stage) -> None:
    stage.controllers.ready = False
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: "is not ready" in stage.status("DataUpload").get("message", ""))
    stage.cancel("DataUpload")
    await stage.phase("DataUpload", "Canceled")
    await stage.released("DataUpload")


async def test_deleted_resource_is_canceled_cleaned_up_and_let_go(stage: Stage) -> None:
    stage.kubelet.mover = until_canceled
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.phase("DataUpload", "InProgress")
    await stage.kube.delete(RESOURCES["DataUpload"], "velero", "move-1")
    await stage.until(lambda: stage.kube.names(RESOURCES["DataUpload"]) == [])
    await stage.until(lambda: nothing_left(stage))


@pytest.mark.parametrize("phase", ["Accepted", "Prepared", "InProgress"])
async def test_restarted_agent_goes_on_from_every_phase(stage: Stage, phase: str) -> None:
    release = asyncio.Event()

    async def mover(request: str, pod: dict, canceled: asyncio.Event) -> tuple[int, str]:
        await release.wait()
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    if phase == "Accepted":
        stage.controllers.ready = False
    agent = await stage.start_agent()
    if phase == "Prepared":
        agent.world.slots.limit = 0
    stage.create("DataUpload")
    await stage.phase("DataUpload", phase)
    await stage.stop_agent()
    stage.controllers.ready = True
    await stage.start_agent()
    release.set()
    await stage.phase("DataUpload", "Completed")
    assert stage.kubelet.ran == ["move-1"]


async def test_mover_that_ended_while_the_agent_was_away_is_decided_at_once(stage: Stage) -> None:
    release = asyncio.Event()

    async def mover(request: str, pod: dict, canceled: asyncio.Event) -> tuple[int, str]:
        await release.wait()
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: bool(stage.kubelet.ran))
    await stage.stop_agent()
    release.set()
    await asyncio.sleep(0.05)
    await stage.start_agent()
    await stage.phase("DataUpload", "Completed", seconds=2)


def test_movers_from_before_a_restart_hold_their_slots_before_an_older_move_asks() -> None:
    agent = Agent(Config(node="node-1"), FakeKube())
    place, nobodys = {"node": "node-1"}, {"node": "node-2"}
    uploads = agent.world.moves["DataUpload"]
    for name, phase, where in (("runs", "InProgress", place), ("elsewhere", "InProgress", nobodys)):
        uploads.put(body("DataUpload", name, status={"phase": phase} | where))
    uploads.put(body("DataUpload", "a-waits", status={"phase": "Prepared"} | place))
    agent.controller.attach(agent.world, agent.followers)
    waits = uploads.get("velero", "a-waits")
    assert waits is not None
    assert not agent.world.slots.try_take(waits.uid, waits.created_at)
    assert agent.world.slots.holders == {"uid-runs"}


async def test_slots_are_given_in_order_of_creation_and_never_exceeded(stage: Stage) -> None:
    async def mover(request: str, pod: dict, canceled: asyncio.Event) -> tuple[int, str]:
        await asyncio.sleep(0.02)
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    agent = await stage.start_agent()
    agent.world.slots.limit = 0
    put_web(stage)
    names = [f"pvb-{number}" for number in range(6)]
    for age, name in enumerate(reversed(names)):
        created = f"2026-11-21T12:00:{59 - age:02d}Z"
        stage.create("PodVolumeBackup", name, metadata={"creationTimestamp": created})
    for name in names:
        await stage.phase("PodVolumeBackup", "Prepared", name)
    agent.controller.apply_limits()
    for name in names:
        await stage.phase("PodVolumeBackup", "Completed", name)
    assert stage.kubelet.ran == names
    assert stage.kubelet.most_at_once == 1


@pytest.mark.parametrize("late", [False, True], ids=["at-start", "while-running"])
async def test_prepare_queue_is_in_order_of_creation(stage: Stage, *, late: bool) -> None:
    """Whatever the names, which is the order of the API's lists, and whoever is looked at first."""
    config = json.dumps({"loadConcurrency": {"prepareQueueLength": 1}})
    stage.kube.put(CONFIG_MAP, {"metadata": {"name": "cfg", "namespace": "velero"}, "data": {"x": config}})
    put_web(stage)
    accepted: list[str] = []
    if late:
        await stage.start_agent(node_agent_config_map="cfg")
    names = [f"pvb-{number}" for number in range(6)]
    stage.kubelet.pending = {"phase": "Pending"}
    oldest_last = [
        (name, f"2026-11-21T12:00:{10 + place:02d}Z") for place, name in enumerate(reversed(names))
    ]
    for name, created in oldest_last[:1] + oldest_last[:0:-1]:
        stage.create("PodVolumeBackup", name, metadata={"creationTimestamp": created})
    if not late:
        await stage.start_agent(node_agent_config_map="cfg")
    await stage.phase("PodVolumeBackup", "Accepted", oldest_last[0][0])
    stage.kubelet.pending = None
    for name, _ in oldest_last:
        await stage.phase("PodVolumeBackup", "Completed", name)
        accepted.append(name)
    assert stage.kubelet.ran == accepted == names[::-1]


async def test_prepare_queue_limits_what_is_exposed_at_once(stage: Stage) -> None:
    config = json.dumps({"loadConcurrency": {"prepareQueueLength": 2}})
    stage.kube.put(CONFIG_MAP, {"metadata": {"name": "cfg", "namespace": "velero"}, "data": {"x": config}})
    put_web(stage)
    await stage.start_agent(node_agent_config_map="cfg")
    names = [f"pvb-{number}" for number in range(6)]
    most = 0

    def exposing() -> int:
        return sum(
            stage.read("PodVolumeBackup", name)["metadata"].get("labels", {}).get("velero.io/expose-on-going")
            == "true"
            for name in names
        )

    for name in names:
        stage.create("PodVolumeBackup", name)

    def all_completed() -> bool:
        nonlocal most
        most = max(most, exposing())
        return all(stage.status("PodVolumeBackup", name).get("phase") == "Completed" for name in names)

    await stage.until(all_completed, 10)
    assert 1 <= most <= 3, "the limit is soft by the moves accepted within one round trip"


async def test_two_agents_race_and_one_accepts(stage: Stage) -> None:
    stage.kube.put(NODE, {"metadata": {"name": "node-2", "labels": {}}, "spec": {}})
    scene.put_agent_pod(stage.kube, "node-2")
    await stage.start_agent("node-1")
    await stage.start_agent("node-2")
    for number in range(5):
        stage.create("DataUpload", f"du-{number}", spec={"csiSnapshot": {"volumeSnapshot": "none"}})
    for number in range(5):
        await stage.phase("DataUpload", "Failed", f"du-{number}")
    accepted = [key for verb, key in stage.kube.writes if key[0] == "datauploads"]
    assert accepted
    assert all("does not exist" in stage.status("DataUpload", f"du-{n}")["message"] for n in range(5))


async def test_node_that_goes_ends_its_moves_at_once(stage: Stage) -> None:
    stage.kube.put(NODE, {"metadata": {"name": "node-2", "labels": {}}, "spec": {}})
    scene.put_agent_pod(stage.kube, "node-2")
    await stage.start_agent("node-1")
    status = {"phase": "InProgress", "node": "node-2", "acceptedByNode": "node-2"}
    stage.create(
        "DataUpload", status=status, metadata={"finalizers": ["velero.io/data-upload-download-finalizer"]}
    )
    await asyncio.sleep(0.05)
    assert stage.status("DataUpload")["phase"] == "InProgress"
    stage.kube.remove(NODE, "", "node-2")
    stage.kube.remove(POD, "velero", "node-agent-node-2")  # as pod garbage collection does
    result = await stage.phase("DataUpload", "Failed", seconds=1)
    assert "node node-2 is gone" in result["message"]
    await stage.released("DataUpload")


async def test_what_can_heal_shows_its_reason_and_goes_on_when_healed(stage: Stage) -> None:
    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes",
    }
    stage.kubelet.pending = {"phase": "Pending", "conditions": [unschedulable]}
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: "Unschedulable: 0/1 nodes" in stage.status("DataUpload").get("message", ""))
    stage.kubelet.pending = None
    status = await stage.phase("DataUpload", "Completed")
    assert "message" not in status


async def test_prepare_timeout_ends_what_does_not_heal(stage: Stage) -> None:
    pull = {"name": "x", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    stage.kubelet.pending = {"phase": "Pending", "containerStatuses": [pull]}
    await stage.start_agent(prepare_timeout_seconds=1.5)
    stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Failed")
    assert status["message"] == "timeout on preparing data upload: ImagePullBackOff: no such image"


async def test_repository_that_is_not_ready_is_waited_for_with_the_servers_reason(stage: Stage) -> None:
    stage.server.answer = {"phase": "NotReady", "message": "bucket is away"}
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: "NotReady: bucket is away" in stage.status("DataUpload").get("message", ""))
    stage.server.answer = {"phase": "Ready"}
    await stage.phase("DataUpload", "Completed")


async def test_repository_that_stays_not_ready_fails_the_move(stage: Stage) -> None:
    stage.server.answer = {"phase": "NotReady", "message": "bucket is away"}
    await stage.start_agent(resource_timeout_seconds=0.2)
    stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Failed")
    assert "error starting data path" in status["message"]
    assert "bucket is away" in status["message"]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda kube: kube.remove(SECRET, "velero", "velero-repo-credentials"), "Secret velero/velero-repo-credentials does not exist"),
        (lambda kube: kube.change(SECRET, "velero", "velero-repo-credentials", {"data": {"repository-password": None}}), "has no key repository-password"),
        (lambda kube: kube.objects.pop(("backupstoragelocations", "velero", "default")), "BackupStorageLocation velero/default does not exist"),
        (lambda kube: kube.objects.pop(("daemonsets", "velero", "node-agent")), "DaemonSet velero/node-agent does not exist"),
        (lambda kube: kube.objects.pop(("persistentvolumeclaims", "app", "data")), "source PVC app/data does not exist"),
    ],
    ids=["secret", "key", "location", "daemonset", "pvc"],
)  # fmt: skip
async def test_missing_inputs_fail_at_once_and_are_named(stage: Stage, spoil, text: str) -> None:
    spoil(stage.kube)
    await stage.start_agent()
    stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Failed", seconds=2)
    assert status["message"].startswith("error exposing snapshot: ")
    assert text in status["message"]
    await stage.released("DataUpload")


async def test_location_that_no_mover_can_reach_is_refused_before_anything_is_made(stage: Stage) -> None:
    stage.kube.put(BACKUP_STORAGE_LOCATION, scene.storage_location(provider="acme"))
    await stage.start_agent()
    stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Failed", seconds=2)
    assert "BackupStorageLocation velero/default: invalid storage provider 'acme'" in status["message"]
    assert "move-1" not in stage.kube.names(POD)


async def test_location_with_the_ca_bundle_of_a_distribution_is_used(stage: Stage) -> None:
    """It does not fit into the annotation that starts the mover."""
    requests: list[dict] = []

    async def mover(request: str, pod: dict, canceled: asyncio.Event) -> tuple[int, str]:
        requests.append(json.loads(request))
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    store = {"bucket": "b", "caCert": scene.large_authority()}
    location = {"spec": {"provider": "aws", "objectStorage": store}}
    stage.kube.change(BACKUP_STORAGE_LOCATION, "velero", "default", location)
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: "move-1" in stage.kube.names(POD))
    pod = stage.kube.objects[("pods", "velero", "move-1")]
    await stage.phase("DataUpload", "Completed")
    access = requests[0]["repository"]
    (mount,) = [m for m in pod["spec"]["containers"][0]["volumeMounts"] if m["name"] == "authority"]
    (volume,) = [v["configMap"] for v in pod["spec"]["volumes"] if v["name"] == "authority"]
    made = stage.kube.objects[("configmaps", "velero", volume["name"])]
    (item,) = volume["items"]
    assert access["ca_certificate_path"] == f"{mount['mountPath']}/{item['path']}"
    assert made["binaryData"][item["key"]] == store["caCert"]
    assert [owner["uid"] for owner in made["metadata"]["ownerReferences"]] == [pod["metadata"]["uid"]]


async def test_malformed_resource_gets_a_final_phase_with_the_reason(stage: Stage) -> None:
    await stage.start_agent()
    stage.create("DataUpload", spec={"operationTimeout": "soon"})
    status = await stage.phase("DataUpload", "Failed")
    assert "'soon' is not a duration" in status["message"]


@pytest.mark.parametrize("kind", ["PodVolumeBackup", "PodVolumeRestore"])
async def test_resource_that_becomes_unreadable_under_way_is_failed_cleaned_up_and_let_go(
    stage: Stage, kind: str
) -> None:
    stage.kubelet.mover = until_canceled
    put_web(stage)
    await stage.start_agent()
    stage.create(kind)
    await stage.phase(kind, "InProgress")
    stage.kube.change(RESOURCES[kind], "velero", "move-1", {"spec": {"pod": {"namespace": None}}})
    assert "namespace" in (await stage.phase(kind, "Failed"))["message"]
    await stage.released(kind)
    await stage.until(lambda: "move-1" not in stage.kube.names(POD))


async def test_foreign_mover_name_is_never_written_to(stage: Stage) -> None:
    await stage.start_agent()
    stage.create("DataUpload", spec={"datamover": "other", "operationTimeout": "soon"})
    stage.create("DataUpload", "du-2", spec={"datamover": "other", "cancel": True})
    await asyncio.sleep(0.1)
    assert not any(key[0] == "datauploads" for _, key in stage.kube.writes)


async def test_windows_volumes_fail_fast_or_are_left_to_a_windows_agent(stage: Stage) -> None:
    stage.kube.put(NODE, {"metadata": {"name": "win", "labels": {"kubernetes.io/os": "windows"}}, "spec": {}})
    await stage.start_agent()
    stage.create("DataDownload", spec={"nodeOS": "windows"})
    status = await stage.phase("DataDownload", "Failed")
    assert "windows volumes are not supported" in status["message"]
    labels = {"name": "node-agent-windows", "role": "node-agent"}
    pod = {
        "metadata": {"name": "win-agent", "namespace": "velero", "labels": labels},
        "spec": {"nodeName": "win"},
    }
    stage.kube.put(POD, pod | {"status": {"phase": "Running"}})
    stage.create("DataDownload", "dd-2", spec={"nodeOS": "windows"})
    await asyncio.sleep(0.1)
    assert stage.status("DataDownload", "dd-2") == {}


async def test_config_map_is_followed_and_a_slip_of_the_pen_is_survived(stage: Stage) -> None:
    def write(text: str) -> None:
        stage.kube.put(
            CONFIG_MAP, {"metadata": {"name": "cfg", "namespace": "velero", "uid": "u"}, "data": {"x": text}}
        )

    write(json.dumps({"loadConcurrency": {"globalConfig": 2}}))
    agent = await stage.start_agent(node_agent_config_map="cfg")
    assert agent.world.slots.limit == 2
    write(json.dumps({"loadConcurrency": {"globalConfig": 5}}))
    await stage.until(lambda: agent.world.slots.limit == 5)
    write("{broken")
    await asyncio.sleep(0.05)
    assert agent.world.slots.limit == 5
    rule = {"nodeSelector": {"matchLabels": {"kubernetes.io/os": "linux"}}, "number": 3}
    write(json.dumps({"loadConcurrency": {"globalConfig": 5, "perNodeConfig": [rule]}}))
    await stage.until(lambda: agent.world.slots.limit == 3)


@pytest.mark.parametrize(
    "data", [None, {}, {"a": "{}", "b": "{}"}, {"a": "{broken"}, {"a": '{"loadConcurrency": 3}'}]
)
async def test_wrong_config_map_stops_the_start_with_its_name(stage: Stage, data: dict | None) -> None:
    if data is not None:
        stage.kube.put(CONFIG_MAP, {"metadata": {"name": "cfg", "namespace": "velero"}, "data": data})
    with pytest.raises(StartError, match="ConfigMap velero/cfg"):
        await stage.start_agent(node_agent_config_map="cfg")
    stage.agents.clear()


async def test_news_of_an_agent_that_is_behind_spoils_nothing_that_is_final(stage: Stage) -> None:
    """A reason to wait, or a report of progress, that is written after the end."""
    stage.kubelet.mover = until_canceled
    agent = await stage.start_agent()
    stage.create("DataUpload")
    await stage.phase("DataUpload", "InProgress")
    behind = agent.world.find_move(("DataUpload", "velero", "move-1"))
    assert behind is not None
    await stage.stop_agent()
    end = {"phase": "Failed", "message": "disk on fire", "progress": {"totalBytes": 7, "bytesDone": 7}}
    stage.kube.change(RESOURCES["DataUpload"], "velero", "move-1", {"status": end})
    for patch in (message_patch(behind, "for a slot"), progress_patch(behind, 9, 5)):
        with pytest.raises(ConflictError):
            await agent.world.patch(behind, patch or {})
    assert stage.status("DataUpload").items() >= end.items()


async def test_watches_that_expire_lose_nothing(stage: Stage) -> None:
    await stage.start_agent()
    for number in range(4):
        stage.create("DataUpload", f"du-{number}", spec={"csiSnapshot": {"volumeSnapshot": "none"}})
        stage.kube.expire_watches()
        await asyncio.sleep(0.01)
    for number in range(4):
        await stage.phase("DataUpload", "Failed", f"du-{number}")


async def test_failing_api_is_outlived(stage: Stage) -> None:
    failures = iter(range(30))

    def fail(verb: str, resource: object, name: str) -> KubeError | None:
        if asyncio.current_task() in stage.tasks:
            return None
        return (
            KubeError("etcdserver: request timed out", status=500) if next(failures, 100) % 3 == 0 else None
        )

    stage.kube.fail = fail
    stage.create("DataUpload")
    await stage.start_agent()
    await stage.phase("DataUpload", "Completed", seconds=40)


async def test_events_tell_the_story(stage: Stage) -> None:
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.phase("DataUpload", "Completed")

    await stage.until(lambda: events(stage).keys() >= {"Accepted", "Prepared", "InProgress", "Completed"}, 5)


def events(stage: Stage) -> dict[str, dict]:
    found = [body for key, body in stage.kube.objects.items() if key[0] == "events"]
    return {body["reason"]: body for body in found}


async def test_events_of_the_data_path_are_upstreams(stage: Stage) -> None:
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.phase("DataUpload", "Completed")
    await stage.until(lambda: "Data-Path-Stopped" in events(stage), 5)
    told = {
        reason.removeprefix("Data-Path-"): body for reason, body in events(stage).items() if "-" in reason
    }
    assert told["Started"]["message"] == "Data path for move-1 started"
    assert told["Stopped"]["message"] == "Data path for move-1 stopped"
    assert json.loads(told["Completed"]["message"])["snapshotID"] == "b3c0"
    for event in told.values():
        assert (event["type"], event["source"]) == ("Normal", {"component": "move-1", "host": "node-1"})


@pytest.mark.parametrize("ends", ["Failed", "Canceled"])
async def test_events_say_how_a_data_path_ended(stage: Stage, ends: str) -> None:
    stage.kubelet.mover = until_canceled if ends == "Canceled" else fail_with("disk on fire")
    await stage.start_agent()
    stage.create("DataUpload")
    if ends == "Canceled":
        await stage.phase("DataUpload", "InProgress")
        await stage.until(lambda: bool(stage.kubelet.ran))
        stage.cancel("DataUpload")
    await stage.phase("DataUpload", ends)
    await stage.until(lambda: "Data-Path-Stopped" in events(stage), 5)
    message = events(stage)[f"Data-Path-{ends}"]["message"]
    if ends == "Canceled":
        assert message == "Data path for data upload move-1 canceled"
        assert events(stage)["Data-Path-Canceling"]["message"] == "Canceling for data upload move-1"
    else:
        assert message.startswith("Data path for data upload move-1 failed, error ")
        assert "disk on fire" in message


async def test_metrics_carry_upstreams_names(stage: Stage) -> None:
    agent = await stage.start_agent()
    text = agent.world.metrics.render().decode()
    assert 'podVolume_data_upload_success_total{node="node-1"} 0.0' in text
    stage.create("DataUpload")
    await stage.phase("DataUpload", "Completed")
    text = agent.world.metrics.render().decode()
    assert 'podVolume_data_upload_success_total{node="node-1"} 1.0' in text
    assert 'kopia_data_mover_moves_total{kind="DataUpload",phase="Completed"} 1.0' in text


async def test_leftover_of_a_deleted_data_upload_is_found_and_nothing_else_touched(stage: Stage) -> None:
    for name, uid in (("gone", "uid-gone"), ("foreign", "")):
        labels = {"kopia-data-mover.io/exposed-for": uid} if uid else {}
        stage.kube.put(
            VOLUME_SNAPSHOT,
            {"metadata": {"name": name, "namespace": "velero", "labels": labels}, "spec": {"source": {}}},
        )
    await stage.start_agent()
    await stage.until(lambda: "gone" not in stage.kube.names(VOLUME_SNAPSHOT))
    assert "foreign" in stage.kube.names(VOLUME_SNAPSHOT)


async def test_nothing_is_remembered_of_moves_that_are_over(stage: Stage) -> None:
    put_web(stage)
    agent = await stage.start_agent()
    names = [f"pvb-{number}" for number in range(30)]
    for name in names:
        stage.create("PodVolumeBackup", name)
    for name in names:
        await stage.phase("PodVolumeBackup", "Completed", name, seconds=20)
        await stage.released("PodVolumeBackup", name)
    world = agent.world
    await stage.until(lambda: not world.jobs.known() and not list(world.all_moves()))
    assert (world.last_words, world.slots.holders, world.slots.waiting) == ({}, set(), {})
    await stage.until(lambda: not world.jobs._tasks and not agent.followers._tasks)


async def test_move_made_anew_under_its_name_starts_clean(stage: Stage) -> None:
    """Deleted and made again in a gap of the watch: what was held for the first must not be held for ever."""
    stage.kubelet.mover = until_canceled
    put_web(stage)
    agent = await stage.start_agent()
    stage.create("PodVolumeBackup")
    await stage.phase("PodVolumeBackup", "InProgress")
    await stage.until(lambda: "uid-move-1" in agent.world.slots.holders)
    world, informer = agent.world, agent.world.moves["PodVolumeBackup"]
    pending = body("PodVolumeBackup", metadata={"uid": "second", "resourceVersion": "900000"})
    world.kube.objects[("podvolumebackups", "velero", "move-1")] = pending
    informer.put(pending)
    await stage.until(lambda: "uid-move-1" not in world.slots.holders)
    await stage.until(lambda: "uid-move-1" not in world.jobs.known())
    assert "uid-move-1" not in agent.followers._tasks
    assert world.find_move(("PodVolumeBackup", "velero", "move-1")).uid == "second"


async def test_move_that_goes_while_it_is_looked_at_leaves_nothing_behind(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not stand in the prepare queue, or hold a slot, for ever."""
    looked, go_on = asyncio.Event(), asyncio.Event()

    async def missing(*_: object) -> str:
        looked.set()
        await go_on.wait()
        return ""

    monkeypatch.setattr("agent.control.observe._missing_target", missing)
    agent = await stage.start_agent()
    agent.world.node_config = parse_config_map({"x": '{"loadConcurrency": {"prepareQueueLength": 1}}'})
    stage.create("DataDownload")
    await looked.wait()
    stage.kube.remove(RESOURCES["DataDownload"], "velero", "move-1")
    await stage.until(lambda: not agent.world.moves["DataDownload"].items)
    go_on.set()
    await stage.until(lambda: not agent.world.queue._busy)
    assert agent.world.line.waiting == {}
    assert agent.world.slots.holders == set()


async def test_write_to_a_move_that_is_gone_ends_it_here(stage: Stage) -> None:
    """A cache that still has it, for whatever reason, is not asked about it every two seconds for ever."""
    agent = await stage.start_agent()
    informer = agent.world.moves["DataUpload"]
    informer.put(body("DataUpload", "ghost", metadata={"resourceVersion": "900000"}))
    await stage.until(lambda: informer.items == {})
    assert not agent.world.queue._timers


async def test_log_that_breaks_off_goes_on_behind_its_last_line(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("agent.control.follow._BACKOFF_SECONDS", (0.01, 0.01))
    reads = 0

    def count(verb: str, *_: object) -> None:
        nonlocal reads
        reads += verb == "log"

    stage.kube.fail = count
    stage.kubelet.mover = until_canceled
    lines = [f"line {number}" for number in range(25)]
    stage.kube.log["move-1"] = lines[:13]  # ends between two lines of one stamp
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: reads >= 3)
    stage.kube.log["move-1"] = lines
    seen = reads
    await stage.until(lambda: reads >= seen + 3)
    assert [r.message for r in caplog.records if r.message.startswith("mover: ")] == [
        f"mover: {line}" for line in lines
    ]


async def test_api_server_that_is_away_at_start_is_waited_for(stage: Stage) -> None:
    """What it would say of the schemas and the configuration holds for long; a passing error is no answer."""
    for name in ("podvolumebackups", "datauploads"):
        stage.kube.put(CRD, scene.crd("1.15", name))
    data = {"x": '{"loadConcurrency": {"globalConfig": 7}}'}
    stage.kube.put(CONFIG_MAP, {"metadata": {"name": "cfg", "namespace": "velero"}, "data": data})
    failures = {"CustomResourceDefinition": 2, "ConfigMap": 2}

    def fail(_verb: str, resource: Resource, _name: str) -> KubeError | None:
        failures[resource.kind] = failures.get(resource.kind, 0) - 1
        return KubeError("connection refused") if failures[resource.kind] >= 0 else None

    stage.kube.fail = fail
    agent = await stage.start_agent(node_agent_config_map="cfg")
    assert not agent.world.crds.pod_volume_phases
    assert agent.world.slots.limit == 7


async def test_configuration_that_may_not_be_read_stops_the_start_with_a_reason(stage: Stage) -> None:
    refused = ForbiddenError("configmaps is forbidden", status=403)
    stage.kube.fail = lambda _verb, resource, _name: refused if resource is CONFIG_MAP else None
    with pytest.raises(StartError, match=r"velero/cfg cannot be used: configmaps is forbidden"):
        await stage.start_agent(node_agent_config_map="cfg")
    stage.agents.clear()


async def test_full_quota_is_waited_for_until_the_prepare_timeout(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.control.jobs._RIGHTS_SECONDS", 0.0)
    monkeypatch.setattr("agent.control.jobs._BACKOFF_SECONDS", (0.05, 0.05))
    full, tries = True, 0

    def fail(verb: str, resource: Resource, _name: str) -> KubeError | None:
        nonlocal tries
        refused = full and verb == "create" and resource is POD
        tries += refused
        return QuotaError("pods is forbidden: exceeded quota: q", status=403) if refused else None

    stage.kube.fail = fail
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: tries >= 3)
    await stage.until(lambda: "exceeded quota: q" in stage.status("DataUpload").get("message", ""))
    full = False
    assert (await stage.phase("DataUpload", "Completed"))["snapshotID"] == "b3c0"


async def test_repository_whose_name_is_another_s_gets_one_of_its_own(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Namespace `team-a` at `main` and `team` at `a-main`: one name, two repositories."""
    await ensure_repository(stage.kube, "velero", RepositoryKey("team-a", "main"))
    second = await ensure_repository(stage.kube, "velero", RepositoryKey("team", "a-main"))
    assert second["spec"]["volumeNamespace"] == "team"
    assert second["metadata"]["name"].startswith("team-a-main-kopia-")
    assert await ensure_repository(stage.kube, "velero", RepositoryKey("team", "a-main")) == second
    first = await ensure_repository(stage.kube, "velero", RepositoryKey("team-a", "main"))
    assert (first["metadata"]["name"], first["spec"]["volumeNamespace"]) == ("team-a-main-kopia", "team-a")
    assert "name of a BackupRepository is another's" in caplog.text
