"""Side by side with upstream's node-agent: who serves which move, and what `deploy/beside-upstream` adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control.world import RESOURCES
from agent.moves.cluster_facts import AGENT_LABEL, read_velero_pod
from kube.api import DAEMON_SET
from tests.apiserver.manifests import kubeconfig, of_kind, rendered, tried
from tests.fakes import scene
from tests.fakes.kubelet import succeed_with

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from kube.api import Json
    from tests.apiserver.conftest import Stage

NAME = "kopia-node-agent"
UPSTREAM_LABELS = {"component": "velero", "name": "node-agent", "role": "node-agent"}


async def test_ours_moves_what_is_for_it_in_pods_like_its_own_and_touches_nothing_else(stage: Stage) -> None:
    images: list[str] = []

    async def mover(request: str, pod: Json, canceled: asyncio.Event) -> tuple[int, str]:
        images.append(pod["spec"]["containers"][0]["image"])
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    ours = scene.daemon_set()
    ours["metadata"]["name"] = NAME
    ours["spec"]["selector"]["matchLabels"]["name"] = NAME
    ours["spec"]["template"]["metadata"]["labels"]["name"] = NAME
    ours["spec"]["template"]["spec"]["containers"][0]["image"] = "example.test/ours:1"
    await stage.kube.put(DAEMON_SET, ours)
    await stage.source_volume()
    await stage.running_pod()
    await stage.start_agent(mover_names=frozenset({"kopia"}), daemon_set=NAME)
    others = [
        ("DataUpload", "du-0", {}),
        ("DataUpload", "du-1", {"datamover": "velero"}),
        ("PodVolumeBackup", "pvb", {}),
    ]
    for kind, name, spec in others:
        await stage.create(kind, name, spec=spec)
    before = [await stage.kube.get(RESOURCES[kind], "velero", name) for kind, name, _ in others]
    await stage.create("DataUpload", "ours", spec={"datamover": "kopia"})
    await stage.phase("DataUpload", "Completed", "ours")
    await stage.released("DataUpload", "ours")
    assert images == ["example.test/ours:1"]
    assert [await stage.kube.get(RESOURCES[kind], "velero", name) for kind, name, _ in others] == before
    await stage.kube.delete(DAEMON_SET, "velero", NAME)


def test_what_is_added_is_no_part_of_upstream_s() -> None:
    objects = rendered("beside-upstream")
    [daemon_set] = of_kind(objects, "DaemonSet")
    template = daemon_set["spec"]["template"]
    labels, [container] = template["metadata"]["labels"], template["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["KOPIA_DATA_MOVER_NAMES"] == "kopia"
    names = [daemon_set["metadata"]["name"], environment["KOPIA_DATA_MOVER_DAEMON_SET"], labels["name"]]
    assert names == [NAME] * 3
    assert not daemon_set["spec"]["selector"]["matchLabels"].items() <= UPSTREAM_LABELS.items()
    assert daemon_set["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert "role" not in labels
    assert not [volume for volume in template["spec"]["volumes"] if "hostPath" in volume]
    [rule] = [
        rule
        for role in of_kind(objects, "Role")
        for rule in role["rules"]
        if rule["resources"] == ["daemonsets"]
    ]
    assert rule["resourceNames"] == [NAME]
    for policy in of_kind(objects, "NetworkPolicy"):
        assert not policy["spec"]["podSelector"]["matchLabels"].items() <= UPSTREAM_LABELS.items()
    meta = {"name": "x", "namespace": "velero", "labels": labels}
    pod = read_velero_pod({"metadata": meta, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}})
    assert pod is not None
    assert (pod.agent_name, AGENT_LABEL in labels) == (NAME, True), "agents of ours see one another"


def test_objects_are_accepted_by_the_api_server(stage: Stage, tmp_path: Path) -> None:
    config = kubeconfig(stage.plane, tmp_path)
    done = tried(config, rendered("beside-upstream"), "apply", "--server-side", "--force-conflicts")
    assert done.returncode == 0, done.stderr
    assert "unknown field" not in done.stderr
