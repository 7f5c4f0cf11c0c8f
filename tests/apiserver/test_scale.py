"""Many real agents in one process against the real API server, requests counted at their clients.

`make test` runs 20; `AGENTS=200` as many as one process bears in a few minutes. The numbers of docs/scale.md are what
this prints (`-s`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from agent.control.flags import Config
from agent.control.node_agent import Agent
from kube.api import NODE, POD
from kube.client import KubeClient
from tests.apiserver.control_plane import ADMIN
from tests.fakes.counted import CountedKube

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.apiserver.conftest import Stage

COUNT = int(os.environ.get("AGENTS", "20"))
MOVES = 4
OWNERS_MAX = 110  # a move, by who exposes it and who moves it: fs-backup has one of them, Events included
OTHERS_MAX = 3  # a move, by all others together


class Fleet:
    """Agents of many nodes, each with a client of its own."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.kubes: dict[str, CountedKube] = {}
        self._running: list[tuple[asyncio.Task[None], KubeClient]] = []

    async def start(self) -> None:
        nodes = [f"node-{number}" for number in range(1, COUNT + 1)]
        for node in nodes:
            if node != "node-1":  # the stage's own
                await self.stage.kube.create(NODE, "", {"metadata": {"name": node}})
            await self._pod(node)
        agents = []
        for node in nodes:
            client = KubeClient(self.stage.plane.connection(ADMIN))
            self.kubes[node] = CountedKube(client)
            agent = Agent(Config(node=node, host_pods=self.stage.host_pods), self.kubes[node])
            self._running.append((asyncio.create_task(agent.run()), client))
            agents.append(agent)
        for agent in agents:
            await agent.ready.wait()
        asked = -1
        while asked != (now := sum(kube.total() for kube in self.kubes.values())):  # what a start asks once
            asked = now
            await asyncio.sleep(2.0)

    async def _pod(self, node: str) -> None:
        labels = {"name": "node-agent", "role": "node-agent"}
        spec = {"nodeName": node, "containers": [{"name": "node-agent", "image": "x"}]}
        meta = {"name": f"agent-{node}", "namespace": "velero", "labels": labels}
        await self.stage.kube.put(POD, {"metadata": meta, "spec": spec, "status": {"phase": "Running"}})

    def take(self) -> dict[str, Counter[str]]:
        """Requests by node since the last time."""
        taken = {node: kube.counts.copy() for node, kube in self.kubes.items()}
        for kube in self.kubes.values():
            kube.counts.clear()
        return taken

    async def stop(self) -> None:
        for task, client in self._running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await client.close()


@pytest.fixture
async def fleet(stage: Stage) -> AsyncIterator[Fleet]:
    fleet = Fleet(stage)
    yield fleet
    await fleet.stop()


async def test_what_many_agents_ask_of_one_api_server(fleet: Fleet) -> None:
    stage = fleet.stage
    await stage.running_pod()
    await fleet.start()
    started = fleet.take()
    watches = {
        sum(n for what, n in counts.items() if what.startswith("watch")) for counts in started.values()
    }
    print(f"{COUNT} agents; a start: {max(c.total() for c in started.values())} requests, watches {watches}")
    await asyncio.sleep(5.0)
    idle = fleet.take()
    print(f"idle, 5 s: {sum(counts.total() for counts in idle.values())} requests of all")
    assert not any(idle.values()), idle

    for number in range(MOVES):
        await stage.create("PodVolumeBackup", f"pvb-{number}")
    for number in range(MOVES):
        await stage.phase("PodVolumeBackup", "Completed", f"pvb-{number}", seconds=60)
        await stage.released("PodVolumeBackup", f"pvb-{number}")
    _bound("PodVolumeBackup", fleet.take(), MOVES, {"node-1"})

    await stage.source_volume()
    await stage.create("DataUpload")
    status: dict[str, Any] = await stage.phase("DataUpload", "Completed", seconds=60)
    await stage.released("DataUpload")
    _bound("DataUpload", fleet.take(), 1, {"node-1", status["acceptedByNode"]})


def _bound(kind: str, taken: dict[str, Counter[str]], moves: int, owners: set[str]) -> None:
    by_owners = sum(counts.total() for node, counts in taken.items() if node in owners)
    by_others = sum(counts.total() for node, counts in taken.items() if node not in owners)
    print(
        f"a {kind}: {by_owners / moves:.1f} by its owners, {by_others / moves:.1f} by all {COUNT - len(owners)} others"
    )
    assert by_owners <= OWNERS_MAX * moves, {node: taken[node] for node in owners}
    assert by_others <= OTHERS_MAX * moves, {node: c for node, c in taken.items() if c and node not in owners}
