"""A node-agent as a process: the product's `Agent`, that can be killed at any await, stopped, and begun again."""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.control.flags import Config
from agent.control.node_agent import Agent
from kube.api import KubeError
from tests.simulation.clock import Clock, wall_clock
from tests.simulation.transport import connect_client

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from tests.simulation.network import Network

running: contextvars.ContextVar[Process | None] = contextvars.ContextVar("running", default=None)
GRACE_SECONDS = 30.0


def register_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let every task belong to the process in which it was made."""

    def make(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        process = running.get()
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(process.ended)
        return task

    loop.set_task_factory(make)  # type: ignore[arg-type]


class Process:
    """One run of an agent on a node."""

    def __init__(self, name: str, node: str, network: Network, config: Config) -> None:
        self.name, self.node = name, node
        self.dead = False
        self.agent: Agent | None = None
        self.crash: BaseException | None = None
        self.clock = Clock()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.on_end: Callable[[Process], None] = lambda _: None
        self._network, self._config = network, config
        self._main: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        context = contextvars.copy_context()
        context.run(running.set, self)
        context.run(wall_clock.set, self.clock)
        self._main = asyncio.get_running_loop().create_task(self._run(), context=context)
        # made in the caller's context: registered here, since the factory could not know
        self.tasks[self._main] = None
        self._main.add_done_callback(self.ended)
        self._main.add_done_callback(self._over)

    def ended(self, task: asyncio.Task[Any]) -> None:
        """Forget a task that is over."""
        self.tasks.pop(task, None)
        if not task.cancelled():
            task.exception()

    async def _run(self) -> None:
        kube = await connect_client(partial(self._network.send, self))
        try:
            self.agent = Agent(self._config, kube)
            await self.agent.run()
        finally:
            await kube.close()

    def _over(self, task: asyncio.Task[None]) -> None:
        if self.dead:
            return
        if not task.cancelled() and task.exception() is not None:
            self.crash = task.exception()
        self.kill()
        self.on_end(self)

    @property
    def crashed_badly(self) -> bool:
        """It ended by itself, and not because the API server failed it."""
        return self.crash is not None and not isinstance(self.crash, KubeError)

    def kill(self) -> None:
        """SIGKILL: nothing that it still does has any effect."""
        if self.dead:
            return
        self.dead = True
        for watch in self._network.api.watches:
            if watch.owner is self:
                watch.stream.closed = True
        self._sweep(3)

    def _sweep(self, times: int) -> None:
        for task in list(self.tasks):
            task.cancel()
        if self.tasks and times:
            asyncio.get_running_loop().call_later(0.001, self._sweep, times - 1)

    async def stop(self) -> list[str]:
        """SIGTERM; return what is still there after the grace."""
        if self.dead or self._main is None:
            return []
        main = self._main
        main.cancel()
        await asyncio.wait([main], timeout=GRACE_SECONDS)
        left = [task.get_coro().__qualname__ for task in self.tasks if not task.done()]  # type: ignore[union-attr]
        self.kill()
        return left


def agent_config(node: str, host_pods: Path, config_map: str) -> Config:
    """What an agent of the simulation is told: upstream's flags, with times that keep a run short."""
    return Config(
        node=node,
        resource_timeout_seconds=60.0,
        prepare_timeout_seconds=240.0,
        cancel_grace_seconds=30.0,
        host_pods=host_pods,
        node_agent_config_map=config_map,
    )
