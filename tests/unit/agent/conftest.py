"""A whole cluster in memory: API, storage controllers, kubelet, and an agent on `node-1`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.control.flags import Config
from agent.control.node_agent import Agent
from agent.control.world import RESOURCES, utc_now
from agent.moves.custom_resources import KIND_BY_NAME, format_time
from kube.api import CRD, SECRET, Json
from tests.fakes import scene
from tests.fakes.cluster import ClusterControllers
from tests.fakes.kube import FakeKube
from tests.fakes.kubelet import Kubelet, succeed_with
from tests.fakes.resources import body
from tests.fakes.server import VeleroServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


# A loaded machine is given time; what is promised "at once" takes hours upstream, or for ever.
PATIENCE = 5


class Stage:
    """What a test plays on."""

    def __init__(self, kube: FakeKube, host_pods: Path) -> None:
        self.kube = kube
        self.controllers = ClusterControllers(kube)
        self.kubelet = Kubelet(kube, succeed_with())
        self.server = VeleroServer(kube)
        self.host_pods = host_pods
        self.tasks: list[asyncio.Task[Any]] = []
        self.agents: dict[str, asyncio.Task[None]] = {}

    def play(self) -> None:
        for part in (self.controllers, self.kubelet, self.server):
            self.tasks.append(asyncio.create_task(part.run(pause_seconds=0.002)))

    async def start_agent(self, node: str = "node-1", **changes: Any) -> Agent:
        defaults: dict[str, Any] = {
            "node": node,
            "resource_timeout_seconds": 2.0,
            "host_pods": self.host_pods,
        }
        agent = Agent(Config(**defaults | changes), self.kube)
        self.agents[node] = asyncio.create_task(agent.run())
        ready = asyncio.create_task(agent.ready.wait())
        await asyncio.wait([ready, self.agents[node]], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            self.agents[node].result()
        return agent

    async def stop_agent(self, node: str = "node-1") -> None:
        task = self.agents.pop(node)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def create(self, kind: str, name: str = "move-1", **changes: Any) -> None:
        created = {"creationTimestamp": format_time(utc_now())}
        changes["metadata"] = created | changes.get("metadata", {})
        self.kube.put(RESOURCES[kind], body(kind, name, **changes))

    def read(self, kind: str, name: str = "move-1") -> Json:
        return self.kube.objects[(KIND_BY_NAME[kind].plural, "velero", name)]

    def status(self, kind: str, name: str = "move-1") -> Json:
        return self.read(kind, name).get("status") or {}

    def cancel(self, kind: str, name: str = "move-1") -> None:
        self.kube.change(RESOURCES[kind], "velero", name, {"spec": {"cancel": True}})

    async def phase(self, kind: str, phase: str, name: str = "move-1", *, seconds: float = 5) -> Json:
        """Wait for a phase and return the status."""
        await self.until(
            lambda: self.status(kind, name).get("phase") == phase, seconds, lambda: self.status(kind, name)
        )
        return self.status(kind, name)

    async def until(
        self, test: Callable[[], bool], seconds: float = 5, shown: Callable[[], Any] = lambda: ""
    ) -> None:
        end = time.monotonic() + seconds * PATIENCE
        while not test():
            assert time.monotonic() < end, f"not in {seconds} s: {shown()}"
            await asyncio.sleep(0.005)

    async def released(self, kind: str, name: str = "move-1") -> None:
        await self.until(
            lambda: not self.read(kind, name)["metadata"].get("finalizers"), 5, lambda: self.read(kind, name)
        )

    async def close(self) -> None:
        for node in list(self.agents):
            await self.stop_agent(node)
        for task in self.tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    kube = FakeKube()
    scene.put_node_agent(kube)
    scene.put_source_volume(kube)
    scene.put_velero(kube)
    for name in ("podvolumebackups", "datauploads"):
        kube.put(CRD, scene.crd("1.18", name))
    kube.put(SECRET, scene.password_secret())
    stage = Stage(kube, tmp_path)
    stage.controllers.storage |= {"snap-handle", "disk-data"}
    stage.play()
    yield stage
    await stage.close()
