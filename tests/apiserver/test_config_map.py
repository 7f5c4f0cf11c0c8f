"""The node-agent ConfigMap on the real API server: followed while the agent runs, in all its keys; wrong ones by message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.control.config_map_watch import StartError
from kube.api import CONFIG_MAP, POD, PVC, STORAGE_CLASS, AlreadyExistsError
from tests.fakes import scene

if TYPE_CHECKING:
    from kube.api import Json
    from tests.apiserver.conftest import Stage

NAME = "agent-config"
TERM = {"key": "disk", "operator": "In", "values": ["fast"]}
EVERY_KEY: Json = {
    "loadConcurrency": {
        "globalConfig": 2,
        "perNodeConfig": [{"nodeSelector": {"matchLabels": {"kubernetes.io/os": "linux"}}, "number": 3}],
        "prepareQueueLength": 7,
    },
    "loadAffinity": [
        {"nodeSelector": {"matchLabels": {"any": "class"}}},
        {"nodeSelector": {"matchExpressions": [TERM]}, "storageClass": "copies"},
    ],
    "backupPVC": {
        "fast": {
            "storageClass": "copies",
            "readOnly": True,
            "spcNoRelabeling": True,
            "annotations": {"note": "clone"},
        }
    },
    "restorePVC": {"ignoreDelayBinding": True},
    "podResources": {"cpuRequest": "10m", "memoryLimit": "300Mi", "ephemeralStorageLimit": "1Gi"},
    "priorityClassName": "system-cluster-critical",
    "privilegedFsBackup": True,
    "cachePVC": {"storageClass": "copies", "residentThresholdInMB": 1},
    "podLabels": {"team": "backup"},
    "podAnnotations": {"role": "backup"},
}


async def write(stage: Stage, document: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    body = {"metadata": {"name": NAME, "namespace": "velero"}, "data": {"any": text}}
    try:
        await stage.kube.create(CONFIG_MAP, "velero", body)
    except AlreadyExistsError:
        await stage.kube.patch(CONFIG_MAP, "velero", NAME, {"data": body["data"]})


async def pod_of(stage: Stage, name: str) -> Json:
    found: list[Json] = []

    async def is_there() -> bool:
        found[:] = [
            item for item in (await stage.kube.list(POD, "velero")).items if item["metadata"]["name"] == name
        ]
        return bool(found)

    await stage.until(is_there)
    return found[0]


async def test_every_key_counts_from_the_moment_it_is_written(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.kubelet.pending = {"phase": "Pending"}
    for name in ("copies", "late"):
        mode = {"volumeBindingMode": "WaitForFirstConsumer"} if name == "late" else {}
        await stage.kube.put(STORAGE_CLASS, scene.storage_class(name, **mode))
    await stage.source_volume()
    await stage.running_pod()
    selector = {"matchLabels": {"velero.io/dynamic-pv-restore": "x"}}
    await stage.kube.put(PVC, scene.claim("target", storageClassName="late", selector=selector))
    await write(stage, {})
    agent = await stage.start_agent(node_agent_config_map=NAME)
    assert (agent.world.slots.limit, agent.world.node_config.prepare_queue_length) == (1, 0)
    await write(stage, EVERY_KEY)
    await stage.until(lambda: limits(stage, agent, (3, 7)))
    await write(stage, '{"loadConcurrency": {"globalConfig": "many"}}')
    await stage.until(lambda: said(caplog, "globalConfig must be a whole number, not 'many'"))
    assert agent.world.slots.limit == 3, "the last good one stays"

    await stage.create("DataUpload", "du")
    target = {"targetVolume": {"namespace": "app", "pvc": "target", "pv": ""}, "snapshotSize": 5 << 20}
    await stage.create("DataDownload", "dd", spec=target)
    await stage.create("PodVolumeBackup", "pvb")
    upload, download, files = [await pod_of(stage, name) for name in ("du", "dd", "pvb")]
    for pod in (upload, download, files):
        assert pod["metadata"]["labels"]["team"] == "backup"
        assert "azure.workload.identity/use" not in pod["metadata"]["labels"], "replaces what is inherited"
        assert pod["metadata"]["annotations"]["role"] == "backup"
        assert pod["spec"]["priorityClassName"] == "system-cluster-critical"
        resources = pod["spec"]["containers"][0]["resources"]
        assert resources["limits"] == {"memory": "300Mi", "ephemeral-storage": "1Gi"}
        assert resources["requests"]["cpu"] == "10m"
    [term] = terms(upload)
    assert TERM in term["matchExpressions"]
    assert upload["spec"]["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}
    copy = await stage.kube.get(PVC, "velero", "du")
    assert (copy["spec"]["storageClassName"], copy["spec"]["accessModes"]) == ("copies", ["ReadOnlyMany"])
    assert copy["metadata"]["annotations"]["note"] == "clone"
    [term] = terms(download)
    assert {"key": "any", "operator": "In", "values": ["class"]} in term["matchExpressions"]
    assert (await stage.kube.get(PVC, "velero", "dd-cache"))["spec"]["storageClassName"] == "copies"
    assert files["spec"]["containers"][0]["securityContext"]["privileged"] is True
    for name in ("copies", "late"):
        await stage.kube.delete(STORAGE_CLASS, "", name)


async def limits(_stage: Stage, agent: Any, wanted: tuple[int, int]) -> bool:
    return (agent.world.slots.limit, agent.world.node_config.prepare_queue_length) == wanted


async def said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in str(vars(record)) for record in caplog.records)


def terms(pod: Json) -> list[Json]:
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    found: list[Json] = required["nodeSelectorTerms"]
    return found


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (None, "ConfigMap velero/agent-config (--node-agent-configmap) does not exist"),
        ("{", "ConfigMap velero/agent-config cannot be used: "),
        ("[]", "ConfigMap velero/agent-config cannot be used: "),
        ({"backupPVC": {"fast": 1}}, "fast must be an object, not 1"),
        ({"loadAffinity": {}}, "loadAffinity must be a list"),
        ({"podLabels": {"a": 1}}, "podLabels must hold strings: a"),
    ],
)
async def test_wrong_one_stops_the_start_and_says_why(stage: Stage, document: Any, says: str) -> None:
    if document is not None:
        await write(stage, document)
    with pytest.raises(StartError) as stopped:
        await stage.start_agent(node_agent_config_map=NAME)
    assert says in str(stopped.value)
