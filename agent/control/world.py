"""The world of one agent process: connections, caches, limits and jobs, handed to observing and acting.

Holds state, decides nothing. All caches are filled before the first move is looked at.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.control.history import History
from agent.control.last_success import LastSuccess
from agent.control.node_agent_config import NodeConfig, cache_limit_mib
from agent.control.turns import RANK_SECONDS, WATCHED_RANK_SECONDS
from agent.control.waits import Waits
from agent.control.work_queue import Line
from agent.moves.crd_features import CrdFeatures
from agent.moves.custom_resources import MOVE_KINDS, Move
from agent.moves.phases import IN_QUEUE
from agent.moves.steps import WAITING_PREFIX, Limits, OwnerState
from kube.api import CONFIG_MAP, Resource, find

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from agent.control.events import EventRecorder
    from agent.control.flags import Config
    from agent.control.indexes import AgentIndex, ExposingIndex
    from agent.control.jobs import Jobs
    from agent.control.metrics import Metrics
    from agent.control.other_nodes import OtherNodes
    from agent.control.turns import Turns
    from agent.control.work_queue import Slots, WorkQueue
    from agent.moves.cluster_facts import NodeFacts, VeleroPod, WaitingPod
    from agent.moves.steps import Outcome
    from kube.api import Kube
    from kube.informer import Informer

Json = dict[str, Any]
MoveKey = tuple[str, str, str]

RESOURCES = {kind.name: Resource(kind.api_version, kind.plural, kind.name) for kind in MOVE_KINDS}


def utc_now() -> datetime:
    """Return the wall clock: only for what is written into objects, never for waiting."""
    return datetime.now(UTC)


@dataclass
class World:
    """Everything that observing and acting need."""

    config: Config
    kube: Kube
    moves: dict[str, Informer[Move]]
    velero_pods: Informer[VeleroPod]
    waiting_pods: Informer[WaitingPod]
    own_node: Informer[NodeFacts]
    agents: AgentIndex
    exposing: ExposingIndex
    turns: Turns
    other_nodes: OtherNodes
    queue: WorkQueue
    slots: Slots
    jobs: Jobs
    events: EventRecorder
    metrics: Metrics
    node_config: NodeConfig = field(default_factory=NodeConfig)
    crds: CrdFeatures = field(default_factory=CrdFeatures)
    now: Callable[[], datetime] = utc_now
    missing_since: dict[str, float] = field(default_factory=dict)
    last_words: dict[str, Outcome] = field(default_factory=dict)
    waits: Waits = field(default_factory=Waits)
    line: Line = field(default_factory=Line)
    history: History = field(default_factory=History)
    successes: LastSuccess = field(default_factory=LastSuccess)

    @property
    def node(self) -> str:
        """The node that this agent serves."""
        return self.config.node

    @property
    def limits(self) -> Limits:
        """Our times."""
        return Limits(
            prepare_seconds=self.config.prepare_timeout_seconds,
            cancel_grace_seconds=self.config.cancel_grace_seconds,
            agent_missing_seconds=self.config.prepare_timeout_seconds,
        )

    def find_move(self, key: MoveKey) -> Move | None:
        """Return a move as last seen."""
        kind, namespace, name = key
        return self.moves[kind].get(namespace, name)

    def all_moves(self) -> Iterator[Move]:
        """Every move that is kept: not final, or with clean-up owed."""
        for informer in self.moves.values():
            yield from list(informer.items.values())

    def hosting_pod(self, move: Move) -> VeleroPod | None:
        """Return the pod of the move's name, if it was made for it and not for a namesake before it."""
        pod = self.velero_pods.get(move.namespace, move.name)
        return pod if pod is not None and pod.hosting.owner_uid == move.uid else None

    def queue_is_full(self) -> bool:
        """Whether as many moves of all agents are being prepared as may be."""
        limit = self.node_config.prepare_queue_length
        return limit != 0 and self.exposing.count >= limit

    def queue_has_room(self, move: Move) -> bool:
        """Whether a `New` move may be accepted now; if not, it stands in line from here on."""
        limit = self.node_config.prepare_queue_length
        return limit == 0 or self.line.stand(move.uid, move.created_at, limit - self.exposing.count)

    def serves(self, node: str) -> bool:
        """Whether the agent of a node is at work, as the caches know it; also notes since when it is not."""
        if not node or node == self.node or self.agents.serves(node):
            self.missing_since.pop(node, None)
            return True
        self.missing_since.setdefault(node, time.monotonic())
        return False

    async def owner_state(self, node: str) -> OwnerState:
        """What is known of another node; asks for the Node only where its agent is not at work."""
        if self.serves(node):
            return OwnerState.ALIVE
        facts = await self.other_nodes.read(node)
        if facts is None:
            return OwnerState.NODE_GONE
        if self.agents.is_unready(node) and not facts.is_silent:
            self.missing_since.pop(node, None)
            return OwnerState.ALIVE
        return OwnerState.AGENT_MISSING

    def missing_seconds(self, node: str) -> float:
        """Seconds since this agent noticed that a node has none."""
        since = self.missing_since.get(node)
        return 0.0 if since is None else time.monotonic() - since

    def turn_in_seconds(self, move: Move, situation: Hashable) -> float:
        """Seconds until it is for this agent to act on a move that any may act on; 0: it is."""
        watched = move.message.startswith(WAITING_PREFIX) and not move.message.endswith(IN_QUEUE)
        seconds = WATCHED_RANK_SECONDS if watched else RANK_SECONDS
        return self.turns.left(move.uid, situation, self.agents.linux, seconds)

    async def cache_limit_mib(self) -> int:
        """Read what `--backup-repository-configmap` says of caches, anew: it may have changed."""
        name = self.config.backup_repository_config_map
        body = await find(self.kube, CONFIG_MAP, self.config.namespace, name) if name else None
        return cache_limit_mib((body or {}).get("data") or {})

    async def patch(self, move: Move, patch: dict[str, object]) -> None:
        """Write to a move and take the answer into the cache, so that the next look sees it."""
        resource = RESOURCES[move.kind.name]
        body = await self.kube.patch(resource, move.namespace, move.name, patch)
        self.moves[move.kind.name].put(body)

    async def refresh(self, move: Move) -> None:
        """Read a move anew: the cache was behind. One that is not there any more is dropped from it."""
        body = await find(self.kube, RESOURCES[move.kind.name], move.namespace, move.name)
        informer = self.moves[move.kind.name]
        if body is not None:
            informer.put(body)
        else:
            informer.forget((move.namespace, move.name), move)
