"""The agent with its least rights: what is not granted here is not needed, and a missing right fails these tests."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exposer.kube import CONFIG_MAP, PVC, AlreadyExistsError, Resource
from tests.apiserver.control_plane import AGENT, AGENT_USER
from tests.fakes import scene

if TYPE_CHECKING:
    from tests.apiserver.conftest import Stage

_RBAC = "rbac.authorization.k8s.io/v1"
CLUSTER_ROLE = Resource(_RBAC, "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDING = Resource(_RBAC, "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
ROLE = Resource(_RBAC, "roles", "Role")
ROLE_BINDING = Resource(_RBAC, "rolebindings", "RoleBinding")
RIGHTS = yaml.safe_load((Path(__file__).parent / "rights.yaml").read_text())


@pytest.fixture
async def granted(stage: Stage) -> None:
    named = {"metadata": {"name": "node-agent"}}
    subjects = {"subjects": [{"kind": "User", "name": AGENT_USER, "apiGroup": "rbac.authorization.k8s.io"}]}

    def reference(kind: str) -> dict[str, Any]:
        return {"roleRef": {"kind": kind, "name": "node-agent", "apiGroup": "rbac.authorization.k8s.io"}}

    with contextlib.suppress(AlreadyExistsError):
        await stage.kube.create(CLUSTER_ROLE, "", named | {"rules": RIGHTS["cluster"]})
        await stage.kube.create(CLUSTER_ROLE_BINDING, "", named | subjects | reference("ClusterRole"))
        await stage.kube.create(ROLE, "velero", named | {"rules": RIGHTS["velero"]})
        await stage.kube.create(ROLE_BINDING, "velero", named | subjects | reference("Role"))


@pytest.mark.usefixtures("granted")
async def test_least_rights_are_enough_for_all_four(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    config = json.dumps(
        {
            "loadConcurrency": {"globalConfig": 3},
            "cachePVC": {"storageClass": "fast"},
            "priorityClassName": "none",
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
