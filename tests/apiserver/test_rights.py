"""The agent with its least rights: what is not granted here is not needed, and a missing right fails these tests."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from kube.api import CONFIG_MAP, EVENT, PVC, SECRET, AlreadyExistsError, Resource, find
from kube.waiting import wait_for
from tests.apiserver.control_plane import AGENT
from tests.apiserver.manifests import rendered
from tests.fakes import scene

if TYPE_CHECKING:
    from tests.apiserver.conftest import Stage

_RBAC = "rbac.authorization.k8s.io/v1"
RIGHTS = {
    kind: Resource(_RBAC, f"{kind.lower()}s", kind, namespaced=not kind.startswith("Cluster"))
    for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
}


@pytest.fixture
async def granted(stage: Stage) -> None:
    """Exactly what `deploy/` grants."""
    await grant(stage, "base")


async def grant(stage: Stage, overlay: str) -> None:
    for body in rendered(overlay):
        if body["kind"] in RIGHTS:
            with contextlib.suppress(AlreadyExistsError):
                await stage.kube.create(RIGHTS[body["kind"]], body["metadata"].get("namespace", ""), body)


@pytest.mark.usefixtures("granted")
async def test_least_rights_are_enough_for_all_four(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    config = json.dumps(
        {
            "loadConcurrency": {"globalConfig": 3},
            "cachePVC": {"storageClass": "fast"},
            "priorityClassName": "none",
            "backupPVC": {"fast": {"annotations": {"csi.vsphere.volume/fast-provisioning": "true"}}},
        }
    )
    await stage.kube.create(CONFIG_MAP, "velero", {"metadata": {"name": "cfg"}, "data": {"x": config}})
    await stage.source_volume()
    await stage.running_pod(waits=True)
    await stage.kube.put(
        PVC, scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}})
    )
    agent = await stage.start_agent(connection=stage.plane.connection(AGENT), node_agent_config_map="cfg")
    assert agent.world.slots.limit == 3
    pod = {"kind": "Pod", "namespace": "app", "name": "web-0", "uid": stage.pod_uid}
    await stage.create("DataUpload", "du")
    await stage.create(
        "DataDownload", "dd", spec={"targetVolume": {"namespace": "app", "pvc": "new", "pv": ""}}
    )
    await stage.create("PodVolumeBackup", "pvb")
    await stage.create("PodVolumeRestore", "pvr", spec={"pod": pod})
    for kind, name in (
        ("DataUpload", "du"),
        ("DataDownload", "dd"),
        ("PodVolumeBackup", "pvb"),
        ("PodVolumeRestore", "pvr"),
    ):
        await stage.phase(kind, "Completed", name, seconds=40)
        await stage.released(kind, name)
    refused = [vars(record).get("error") for record in caplog.records if "forbidden" in str(vars(record))]
    assert refused == []


@pytest.mark.usefixtures("granted")
async def test_least_rights_let_the_agent_say_what_only_events_say(stage: Stage) -> None:
    stage.kubelet.pending = {"phase": "Pending"}
    await stage.running_pod()
    event = {
        "metadata": {"name": "mount", "namespace": "velero"},
        "involvedObject": {"kind": "Pod", "namespace": "velero", "name": "pvb"},
        "type": "Warning",
        "reason": "FailedMount",
        "message": "no such file or directory",
        "lastTimestamp": "2026-11-21T12:00:00Z",
    }
    await stage.kube.create(EVENT, "velero", event)
    await stage.start_agent(connection=stage.plane.connection(AGENT))
    await stage.create("PodVolumeBackup", "pvb")

    async def is_said() -> bool:
        message = (await stage.status("PodVolumeBackup", "pvb")).get("message")
        return message == "waiting: FailedMount: no such file or directory"

    await stage.until(is_said)
    stage.kubelet.pending = None
    await stage.phase("PodVolumeBackup", "Completed", "pvb")


@pytest.mark.usefixtures("granted")
async def test_b4_secrets_of_encrypted_classes_are_copied_with_a_right_of_their_own(stage: Stage) -> None:
    config = json.dumps({"backupPVC": {"fast": {"secretNames": ["luks"]}}})
    await stage.kube.create(CONFIG_MAP, "velero", {"metadata": {"name": "copies"}, "data": {"x": config}})
    await stage.kube.create(SECRET, "app", {"metadata": {"name": "luks"}, "data": {"key": "AAEC/w=="}})
    await stage.source_volume()
    stage.kubelet.pending = {"phase": "Pending"}
    await grant(stage, "secret-copies")
    await stage.start_agent(connection=stage.plane.connection(AGENT), node_agent_config_map="copies")
    await stage.create("DataUpload", "du-2")
    copy = await wait_for(
        stage.kube,
        SECRET,
        "velero",
        "luks",
        until=lambda body: body is not None,
        timeout_seconds=40,
        what="the Secret is copied",
    )
    assert copy is not None
    assert copy["data"] == {"key": "AAEC/w=="}
    stage.kubelet.pending = None
    await stage.phase("DataUpload", "Completed", "du-2", seconds=40)
    await stage.released("DataUpload", "du-2")
    assert await find(stage.kube, SECRET, "velero", "luks") is None
    assert (await stage.kube.get(SECRET, "app", "luks"))["data"] == copy["data"]
