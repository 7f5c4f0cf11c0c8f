"""What twenty agents ask of one API server, counted: a move costs its owner little and all others next to nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from agent.control.flags import Config
from agent.control.indexes import AgentIndex
from agent.control.node_agent import Agent
from agent.control.turns import Turns, rank
from agent.control.work_queue import Line
from agent.moves.cluster_facts import read_velero_pod
from agent.moves.custom_resources import EXPOSE_ONGOING_LABEL
from kube.api import NODE, POD, PVC
from tests.fakes import scene
from tests.fakes.counted import CountedKube
from tests.fakes.resources import T0

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.agent.conftest import Stage

COUNT = 20
OWNERS_MAX = 85  # requests of a DataUpload by who exposes it and who moves it, eight Events among them
OTHERS_MAX = 3  # of all nineteen others together


class Fleet:
    """Agents of many nodes on one API server."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.agents: dict[str, tuple[Agent, CountedKube, asyncio.Task[None]]] = {}

    async def start(self, count: int = COUNT, **changes: Any) -> None:
        nodes = [f"node-{number}" for number in range(1, count + 1)]
        for node in nodes[1:]:
            self.stage.kube.put(NODE, {"metadata": {"name": node, "labels": {}}, "spec": {}})
            scene.put_agent_pod(self.stage.kube, node)
        for node in nodes:
            kube = CountedKube(self.stage.kube)
            config: dict[str, Any] = {"resource_timeout_seconds": 2.0, "host_pods": self.stage.host_pods}
            agent = Agent(Config(node=node, **config | changes), kube)
            self.agents[node] = (agent, kube, asyncio.create_task(agent.run()))
        for agent, _, _ in self.agents.values():
            await agent.ready.wait()
        await asyncio.sleep(0.2)  # what is asked once at a start
        self.reset()

    def reset(self) -> None:
        for _, kube, _ in self.agents.values():
            kube.counts.clear()

    def asked(self, *but: str) -> dict[str, int]:
        """Requests by node, watches of the caches left out."""
        return {node: kube.total(*but) for node, (_, kube, _) in self.agents.items() if kube.total(*but)}

    def counts(self) -> Counter[str]:
        return sum((kube.counts for _, kube, _ in self.agents.values()), Counter())

    async def stop(self, node: str) -> None:
        task = self.agents.pop(node)[2]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def fleet(stage: Stage) -> AsyncIterator[Fleet]:
    fleet = Fleet(stage)
    yield fleet
    for node in list(fleet.agents):
        await fleet.stop(node)


async def test_a_data_upload_costs_all_other_agents_three_requests_at_most(fleet: Fleet) -> None:
    await fleet.start()
    fleet.stage.create("DataUpload")
    status = await fleet.stage.phase("DataUpload", "Completed")
    await fleet.stage.released("DataUpload")
    # the played scheduler puts all hosting pods on node-1, which prepares and moves; another may have exposed
    exposed_by = status["acceptedByNode"]
    asked = fleet.asked()
    others = sum(number for node, number in asked.items() if node not in ("node-1", exposed_by))
    assert others <= OTHERS_MAX, asked
    assert sum(asked.values()) <= OWNERS_MAX + OTHERS_MAX, fleet.counts()


async def test_an_idle_fleet_asks_nothing(fleet: Fleet) -> None:
    await fleet.start(resync_seconds=0.1)
    await asyncio.sleep(0.5)
    assert fleet.asked() == {}


@pytest.mark.parametrize("kind", ["DataUpload", "DataDownload", "PodVolumeRestore"])
async def test_a_queued_move_costs_nothing(fleet: Fleet, kind: str) -> None:
    """Beyond the one note on it why it waits, and the finalizer of a DataUpload, which brings a snapshot."""
    await fleet.start(resync_seconds=0.1)
    for agent, _, _ in fleet.agents.values():
        agent.world.node_config = _queue_of_one(agent)
    taken = {"labels": {EXPOSE_ONGOING_LABEL: "true"}}
    accepted = {"phase": "Accepted", "acceptedByNode": "elsewhere"}
    fleet.stage.kube.put(NODE, {"metadata": {"name": "elsewhere", "labels": {}}, "spec": {}})
    scene.put_agent_pod(fleet.stage.kube, "elsewhere")
    fleet.stage.create("DataUpload", "ahead", metadata=taken, status=accepted)
    await asyncio.sleep(0.2)
    fleet.reset()
    if kind == "PodVolumeRestore":
        pod = {"metadata": {"name": "web-0", "namespace": "app", "uid": "pod-uid"}, "spec": {}}
        fleet.stage.kube.put(POD, pod)
    fleet.stage.create(kind)
    await asyncio.sleep(1.0)
    counts = fleet.counts()
    assert counts.total() <= (4 if kind == "DataUpload" else 3), counts
    fleet.reset()
    await asyncio.sleep(1.0)  # ten resyncs of twenty agents
    assert fleet.counts().total() <= 1, fleet.counts()


def _queue_of_one(agent: Agent) -> Any:
    from dataclasses import replace  # noqa: PLC0415

    return replace(agent.world.node_config, prepare_queue_length=1)


async def test_the_next_in_rank_takes_over_from_an_agent_that_is_dead(fleet: Fleet) -> None:
    await fleet.start(5)
    first = next(node for node in fleet.agents if rank("uid-move-1", node, fleet.agents) == 0)
    await fleet.stop(first)  # its pod still says Running
    fleet.stage.create("DataUpload")
    status = await fleet.stage.phase("DataUpload", "Completed")
    assert status["acceptedByNode"] != first


async def test_a_target_that_comes_late_is_asked_for_by_few(fleet: Fleet) -> None:
    await fleet.start(resync_seconds=0.2)
    fleet.stage.create("DataDownload", spec={"targetVolume": {"namespace": "app", "pvc": "late", "pv": ""}})
    await asyncio.sleep(2.0)
    counts = fleet.counts()
    assert counts["get persistentvolumeclaims"] <= 15, counts
    assert len(fleet.asked()) <= 3, fleet.asked()
    fleet.stage.kube.put(PVC, scene.claim("late"))
    await fleet.stage.until(lambda: "acceptedByNode" in fleet.stage.status("DataDownload"))


async def test_windows_is_asked_once_for_many_moves(fleet: Fleet) -> None:
    await fleet.start(3)
    for number in range(6):
        fleet.stage.create("DataUpload", f"du-{number}", spec={"csiSnapshot": {"volumeSnapshot": "none"}})
    for number in range(6):
        await fleet.stage.phase("DataUpload", "Failed", f"du-{number}")
    assert 1 <= fleet.counts()["list nodes"] <= 3, "once an agent"


def test_turns_go_by_rank_and_begin_anew_with_the_situation() -> None:
    now = [0.0]
    nodes = [f"node-{number}" for number in range(30)]
    turns = {node: Turns(node, lambda: now[0]) for node in nodes}
    waits = {node: turns[node].left("uid", "new", nodes, 0.3) for node in nodes}
    assert sorted(waits.values()) == pytest.approx([place * 0.3 for place in range(30)])
    last = max(waits, key=lambda node: waits[node])
    now[0] = 100.0
    assert turns[last].left("uid", "new", nodes, 0.3) == 0
    assert turns[last].left("uid", "queue opened", nodes, 0.3) == pytest.approx(29 * 0.3)
    first = {min(nodes, key=lambda node: rank(f"uid-{move}", node, nodes)) for move in range(200)}
    assert len(first) > 20, "the work is spread"


def test_agents_are_counted_as_they_come_and_go() -> None:
    def pod(status: str, ready: str) -> Any:
        labels = {"name": "node-agent", "role": "node-agent"}
        state = {"phase": status, "conditions": [{"type": "Ready", "status": ready}]}
        meta = {"name": "a", "uid": "u", "labels": labels}
        return read_velero_pod({"metadata": meta, "spec": {"nodeName": "node-1"}, "status": state})

    index = AgentIndex("node-agent")
    index.changed(None, pod("Pending", "False"))
    assert not index.serves("node-1")
    index.changed(pod("Pending", "False"), pod("Running", "True"))
    assert (index.serves("node-1"), set(index.linux)) == (True, {"node-1"})
    index.changed(pod("Running", "True"), pod("Running", "False"))
    assert (index.serves("node-1"), index.is_unready("node-1")) == (False, True)
    index.changed(pod("Running", "False"), None)
    assert (index.serves("node-1"), index.is_unready("node-1"), index.has_windows) == (False, False, False)


def test_line_keeps_its_order_whoever_stands_leaves_or_comes_again() -> None:
    from datetime import timedelta  # noqa: PLC0415

    line = Line()
    for number in (3, 1, 2, 1):
        line.stand(f"uid-{number}", T0 + timedelta(seconds=number), 1)
    assert [line.stand(f"uid-{n}", T0 + timedelta(seconds=n), 2) for n in (1, 2, 3)] == [True, True, False]
    line.leave("uid-1")
    line.leave("uid-1")
    assert line.stand("uid-3", T0 + timedelta(seconds=3), 2)
    assert not line.stand("uid-3", T0 + timedelta(seconds=3), 1)
