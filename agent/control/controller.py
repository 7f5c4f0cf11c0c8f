"""The controller: turns every change that the caches report into a look at the moves that it may concern.

A look is observe → decide → act, one step at a time. Nothing here waits for anything but the API;
level-triggered: a look that comes for nothing does nothing, and a change that is missed is made up for by the
next resync.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from agent.control.act import act, move_fields
from agent.control.metrics import OLD_SCHEMAS
from agent.control.node_agent_config import slots_for_node
from agent.control.observe import observe
from agent.moves.crd_features import CrdFeatures
from agent.moves.custom_resources import MOVE_KINDS, Phase, PodVolumeRestoreSpec
from agent.moves.outcome import read_outcome
from agent.moves.phases import next_step, owner_node, slot_is_needed
from kube.api import ConflictError, InvalidError, KubeError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from agent.control.follow import Followers
    from agent.control.world import MoveKey, World
    from agent.moves.cluster_facts import NodeFacts, VeleroPod, WaitingPod
    from agent.moves.custom_resources import Move
    from kube.informer import Key

log = logging.getLogger(__name__)

_CONFLICT_SECONDS = 0.1
_PERMANENT_SECONDS = 30.0


def _serves(pod: VeleroPod | None) -> bool:
    return pod is not None and pod.serves


def _by_age(moves: Iterable[Move]) -> list[Move]:
    """In order of creation: who came first is looked at first."""
    return sorted(moves, key=lambda move: (move.created_at, move.uid))


class Controller:
    """Looks at moves when something has changed, and every so often anyway."""

    def __init__(self) -> None:
        self._world: World | None = None
        self._followers: Followers | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    def attach(self, world: World, followers: Followers) -> None:
        """Give the controller its world; changes reported before are made up for by the first resync.

        Movers that run already, from before a restart, hold their slots before any other move asks for one.
        """
        self._world, self._followers = world, followers
        for move in world.all_moves():
            if move.phase in (Phase.IN_PROGRESS, Phase.CANCELING) and owner_node(move) == world.node:
                world.slots.hold(move.uid)  # left at the first look if no mover works for it

    # what the caches report

    def move_changed(self, kind: str, key: Key, before: Move | None, after: Move | None) -> None:
        """Look at the move; at the new ones too if the prepare queue may have room now."""
        world = self._world
        if world is None:
            return
        if before is not None and (after is None or after.uid != before.uid):
            self._forget(before, world)  # deleted, be it that one of its name was made anew since
        if after is not None:
            world.history.saw(after, world.now())
            world.queue.add((kind, *key))
        exposing = (before is not None and before.is_exposing, after is not None and after.is_exposing)
        if exposing == (True, False) and world.node_config.prepare_queue_length:
            self._look_at(world, Phase.NEW)

    def _forget(self, move: Move, world: World) -> None:
        """Drop what was remembered of a move that is gone or needs nothing any more."""
        world.queue.forget(move.key)
        world.slots.leave(move.uid)
        world.line.leave(move.uid)
        world.turns.forget(move.uid)
        world.last_words.pop(move.uid, None)
        world.waits.forget(move.uid)
        world.history.forget(move.uid)
        world.metrics.forget(move.uid)
        if self._followers is not None:
            self._followers.stop(move.uid)
        task = asyncio.ensure_future(self._stop_jobs(move, world))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    @staticmethod
    async def _stop_jobs(move: Move, world: World) -> None:
        await world.jobs.stop(move.uid)
        world.jobs.forget(move.uid)

    def pod_changed(self, key: Key, before: VeleroPod | None, after: VeleroPod | None) -> None:
        """Look at the move that the hosting pod serves; remember the last words of a pod that ends.

        An agent that comes or goes may leave the moves of its node behind.
        """
        world = self._world
        if world is None:
            return
        for pod in (before, after):
            if pod is not None and pod.agent_name and _serves(before) != _serves(after):
                world.other_nodes.forget(pod.node)
                self._look_at_node(world, pod.node)
        for kind in MOVE_KINDS:
            move = world.moves[kind.name].get(*key)
            if move is None:
                continue
            if after is not None and after.hosting.owner_uid == move.uid:
                self._remember_last_words(move, after, world)
            world.queue.add(move.key)

    @staticmethod
    def _remember_last_words(move: Move, pod: VeleroPod, world: World) -> None:
        outcome = read_outcome(move.kind, pod.hosting)
        if outcome is not None and move.phase in (Phase.IN_PROGRESS, Phase.CANCELING):
            world.last_words[move.uid] = outcome

    def waiting_pod_changed(self, key: Key, before: WaitingPod | None, after: WaitingPod | None) -> None:
        """Look at the restores into a pod of this node."""
        if self._world is None or before == after:
            return
        if before is None and after is not None and not after.is_first:
            log.warning("init container restore-wait is not the first one", extra={"pod": "/".join(key)})
        for move in self._world.all_moves():
            spec = move.spec
            if isinstance(spec, PodVolumeRestoreSpec) and (spec.pod_namespace, spec.pod_name) == key:
                self._world.queue.add(move.key)

    def node_changed(self, key: Key, before: NodeFacts | None, after: NodeFacts | None) -> None:
        """Our own node's labels may change its slots."""
        if key[1] and before != after:
            self.apply_limits()

    @staticmethod
    def _look_at_node(world: World, node: str) -> None:
        for move in world.all_moves():
            if owner_node(move) == node:
                world.queue.add(move.key)

    def apply_limits(self) -> None:
        """Take the node's limit from the configuration in force."""
        if self._world is not None:
            node = self._world.own_node.get("", self._world.node)
            self._world.slots.limit = slots_for_node(self._world.node_config, node.labels if node else {})
            self.slot_freed()

    def slot_freed(self) -> None:
        """Look at the moves that wait for a slot."""
        if self._world is not None:
            self._look_at(self._world, Phase.PREPARED)

    @staticmethod
    def _look_at(world: World, phase: Phase) -> None:
        for move in _by_age(world.all_moves()):
            if move.phase is phase:
                world.queue.add(move.key)

    def job_changed(self, uid: str) -> None:
        """Look at the move whose job has got on."""
        if self._world is not None:
            for move in self._world.all_moves():
                if move.uid == uid:
                    self._world.queue.add(move.key)

    # looking

    async def resync(self) -> None:
        """Look at everything now, and again every so often."""
        while self._world is not None:
            for move in _by_age(self._world.all_moves()):
                self._world.queue.add(move.key)
            await asyncio.sleep(self._world.config.resync_seconds)

    async def look(self, key: Hashable) -> None:
        """Take one step with one move; whatever goes wrong concerns this move alone."""
        world = self._world
        move = world.find_move(cast("MoveKey", key)) if world is not None else None
        if world is None or move is None:
            return
        try:
            await self._step(move, world)
        except (NotFoundError, ConflictError) as error:
            await self._refresh(move, world, error)
        except KubeError as error:
            self._refused(error, move, world)
        except Exception as error:
            log.exception("a look at a move failed", extra=move_fields(move))
            world.queue.add_backed_off(key, error, at_least=_PERMANENT_SECONDS)
        else:
            world.queue.went_well(key)

    async def _step(self, move: Move, world: World) -> None:
        seen = await observe(move, world)
        now = world.find_move(move.key)
        if now is None or now.uid != move.uid:  # gone while it was looked at: what that noted of it goes too
            self._forget(move, world)
            world.queue.add(move.key)
            return
        step = next_step(seen)
        log.debug("step", extra=move_fields(move) | {"phase": move.phase.value, "step": type(step).__name__})
        if await act(step, seen, world):
            world.queue.add(move.key)
        if self._followers is not None and slot_is_needed(seen) and seen.pod.request_sent:
            self._followers.ensure(move)

    @staticmethod
    async def _refresh(move: Move, world: World, why: KubeError) -> None:
        """Read the move again before the next look; if it is it that is gone, there will be none."""
        try:
            await world.refresh(move)
        except KubeError as error:
            log.debug("move could not be read again", extra=move_fields(move) | {"error": str(error)})
        if world.find_move(move.key) is None:
            return
        if isinstance(why, ConflictError):  # somebody else was faster; what follows from that is decided now
            world.queue.add_after(move.key, _CONFLICT_SECONDS)
        else:
            world.queue.add_backed_off(move.key, why)

    @staticmethod
    def _refused(error: KubeError, move: Move, world: World) -> None:
        unknown_phase = isinstance(error, InvalidError) and "status.phase" in str(error)
        if unknown_phase and move.kind.is_pod_volume and world.crds.pod_volume_phases:
            log.warning("pod-volume CRDs are of Velero 1.16 or older", extra={"error": str(error)})
            world.metrics.fell_back(OLD_SCHEMAS)
            world.crds = CrdFeatures(
                pod_volume_phases=False, data_mover_accepted=world.crds.data_mover_accepted
            )
            world.queue.add(move.key)
            return
        log.warning("a write was refused", extra=move_fields(move) | {"error": str(error)})
        seconds = 0.0 if error.temporary else _PERMANENT_SECONDS
        world.queue.add_backed_off(move.key, error, at_least=seconds)
