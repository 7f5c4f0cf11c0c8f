"""The agent: builds the world, starts its tasks, ends them in order. Decides nothing about a move."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agent.control.config_map_watch import Configuration, StartError
from agent.control.controller import Controller
from agent.control.events import EventRecorder
from agent.control.follow import Followers
from agent.control.history import History
from agent.control.host_pods import check_host_pods
from agent.control.indexes import AgentIndex, ExposingIndex
from agent.control.jobs import Jobs
from agent.control.last_success import LastSuccess
from agent.control.leftovers import remove_leftovers
from agent.control.malformed import MoveReader
from agent.control.metrics import Metrics
from agent.control.other_nodes import OtherNodes
from agent.control.turns import Turns
from agent.control.work_queue import Slots, WorkQueue
from agent.control.world import RESOURCES, World
from agent.moves.cluster_facts import read_node, read_velero_pod, read_waiting_pod
from agent.moves.crd_features import CrdFeatures, features_from_crds
from agent.moves.custom_resources import MOVE_KINDS, Phase, bytes_per_second
from agent.moves.phases import owner_node
from kube.api import CRD, NODE, POD, Kube, KubeError, Selection, find
from kube.informer import Informer
from kube.waiting import insist

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agent.control.flags import Config
    from agent.moves.custom_resources import Move
    from kube.informer import Key

T = TypeVar("T")

log = logging.getLogger(__name__)

_END_SECONDS = 10.0


class Agent:
    """One agent on one node. `run` goes on until it is cancelled."""

    def __init__(self, config: Config, kube: Kube) -> None:
        self.config = config
        self.controller = Controller()
        self.history = History()
        self.successes = LastSuccess()
        self.reader = MoveReader(kube, config.mover_names, self.history, self.successes)
        self.world = self._world(kube)
        self.followers = Followers(self.world)
        self.configuration = Configuration(self.world, self.controller)
        self.ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def _world(self, kube: Kube) -> World:
        config, controller = self.config, self.controller
        agents, exposing = AgentIndex(config.daemon_set), ExposingIndex()
        own_node = Selection(fields=f"spec.nodeName={config.node}")
        moves = {
            kind.name: Informer(
                kube,
                RESOURCES[kind.name],
                config.namespace,
                read=partial(self.reader.read, kind),
                changed=_both(exposing.changed, partial(controller.move_changed, kind.name)),
            )
            for kind in MOVE_KINDS
        }
        return World(
            config=config,
            kube=kube,
            moves=moves,
            velero_pods=Informer(
                kube,
                POD,
                config.namespace,
                read=read_velero_pod,
                changed=_both(agents.changed, controller.pod_changed),
            ),
            waiting_pods=Informer(
                kube, POD, "", own_node, read=read_waiting_pod, changed=controller.waiting_pod_changed
            ),
            own_node=Informer(
                kube,
                NODE,
                "",
                Selection.by_name(config.node),
                read=read_node,
                changed=controller.node_changed,
            ),
            agents=agents,
            exposing=exposing,
            turns=Turns(config.node),
            other_nodes=OtherNodes(kube),
            queue=WorkQueue(),
            slots=Slots(1, controller.slot_freed),
            jobs=Jobs(controller.job_changed),
            events=EventRecorder(kube, config.node),
            metrics=Metrics(config.node),
            history=self.history,
            successes=self.successes,
        )

    async def run(self) -> None:
        """Work until cancelled; a task that dies takes the agent with it, so that the kubelet restarts it.

        Raises:
            StartError: the configuration named on the command line is missing or wrong.
        """
        self.world.crds = await detect_crds(self.world.kube)
        await self.configuration.load()
        try:
            await self._work()
        finally:
            await self._end()

    async def _work(self) -> None:
        informers = self.informers()
        for informer in informers:
            self._start(informer.run())
        self._start(self.world.events.run())
        self._start(self.configuration.follow())
        await self._synced()
        self.controller.attach(self.world, self.followers)
        self.controller.apply_limits()
        self._start(self.reader.refuse())
        self._start(remove_leftovers(self.world))
        self._start(check_host_pods(self.world.kube, self.config.node, self.config.host_pods))
        self._start(self.controller.resync())
        self._start(self.successes.keep_to_what_exists(self.world.kube, self.config.node, self.world.now))
        for _ in range(self.config.worker_count):
            self._start(self.world.queue.work(self.controller.look))
        self.ready.set()
        log.info("node-agent is ready", extra={"node": self.config.node, "slots": self.world.slots.limit})
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def _synced(self) -> None:
        """Wait until every cache is filled; a task that dies meanwhile ends the wait with its error."""
        waiting = asyncio.create_task(_all_synced(self.informers()))
        done, _ = await asyncio.wait([waiting, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def informers(self) -> list[Informer[Any]]:
        """Return all caches: what health looks at."""
        world = self.world
        return [*world.moves.values(), world.velero_pods, world.waiting_pods, world.own_node]

    def silent_seconds(self) -> float:
        """Seconds since the cache that heard nothing for longest heard anything."""
        return max(informer.silent_seconds() for informer in self.informers())

    def gauge(self) -> None:
        """Bring the gauges up to date: they are read from the state and not kept beside it."""
        world = self.world
        world.metrics.slots.set(world.slots.limit)
        world.metrics.slots_in_use.set(len(world.slots.holders))
        world.metrics.slots_waiting.set(len(world.slots.waiting))
        world.metrics.prepare_queue.set(world.exposing.count)
        world.metrics.watch_silent.set(self.silent_seconds())
        ours = [move for move in world.all_moves() if move.data_mover in self.config.mover_names]
        own = [move for move in ours if owner_node(move) == world.node]
        world.metrics.under_way(own)
        world.metrics.prepare_queue_limit.set(world.node_config.prepare_queue_length)
        world.metrics.oldest(own + untaken(ours, world), world.history, world.now())
        world.metrics.last_success(self.successes.on_node(world.node))
        world.metrics.rate.set(sum(bytes_per_second(move, world.now()) for move in own))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _end(self) -> None:
        """End all tasks; movers go on, and the next agent takes them up."""
        self.followers.close()
        for task in self._tasks:
            task.cancel()
        closing = [*self._tasks, asyncio.create_task(self.world.jobs.close())]
        ended, left = await asyncio.wait(closing, timeout=_END_SECONDS)
        for task in ended:
            _ = task.cancelled() or task.exception()  # told already: `_work` ends with the first
        if left:
            log.warning("tasks did not end", extra={"tasks": [repr(task.get_coro()) for task in left]})


def untaken(moves: list[Move], world: World) -> list[Move]:
    """Return the `New` moves of no node, or of one without an agent: in nobody's count but everybody's."""
    new = [move for move in moves if move.phase is Phase.NEW and owner_node(move) != world.node]
    return [move for move in new if not world.agents.serves(owner_node(move))]


def _both(
    index: Callable[[T | None, T | None], None], tell: Callable[[Key, T | None, T | None], None]
) -> Callable[[Key, T | None, T | None], None]:
    """Keep an index up to date before anybody is told of a change."""

    def changed(key: Key, before: T | None, after: T | None) -> None:
        index(before, after)
        tell(key, before, after)

    return changed


async def _all_synced(informers: list[Informer[Any]]) -> None:
    for informer in informers:
        await informer.synced.wait()


async def detect_crds(kube: Kube) -> CrdFeatures:
    """Read which Velero's schemas are installed; without the right to, try as if they were new.

    An API server that is away is waited for: what it would say holds for the life of the process.
    """
    try:
        bodies = [
            await insist(partial(find, kube, CRD, "", f"{name}.velero.io"), f"CRD {name}.velero.io")
            for name in ("podvolumebackups", "datauploads")
        ]
    except KubeError as error:
        log.warning("CRDs cannot be read, taken as 1.17 or newer", extra={"error": str(error)})
        return CrdFeatures()
    return features_from_crds(*bodies)


__all__ = ["Agent", "StartError", "detect_crds"]
