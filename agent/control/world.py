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
from agent.control.waits import Waits
from agent.control.work_queue import Line
from agent.moves.cluster_facts import WINDOWS_AGENT_NAME
from agent.moves.crd_features import CrdFeatures
from agent.moves.custom_resources import MOVE_KINDS, Move
from agent.moves.steps import Limits, OwnerState
from kube.api import CONFIG_MAP, Resource, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.control.events import EventRecorder
    from agent.control.flags import Config
    from agent.control.jobs import Jobs
    from agent.control.metrics import Metrics
    from agent.control.work_queue import Slots, WorkQueue
    from agent.moves.cluster_facts import NodeFacts, VeleroPod, WaitingPod
    from agent.moves.steps import Outcome
    from kube.api import Kube
    from kube.informer import Informer

Json = dict[str, Any]
MoveKey = tuple[str, str, str]

_SPOKESMAN_SECONDS = 7.0
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
    nodes: Informer[NodeFacts]
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

    def exposing_count(self) -> int:
        """Moves of all agents that are being prepared: what the prepare queue counts."""
        return sum(move.is_exposing for move in self.all_moves())

    def queue_has_room(self, move: Move) -> bool:
        """Whether a `New` move may be accepted now; if not, it stands in line from here on."""
        limit = self.node_config.prepare_queue_length
        return limit == 0 or self.line.stand(move.uid, move.created_at, limit - self.exposing_count())

    def owner_state(self, node: str) -> OwnerState:
        """What is known of another node; also notes since when its agent is missing."""
        if not node or node == self.node:
            return OwnerState.ALIVE
        if self.nodes.get("", node) is None:
            return OwnerState.NODE_GONE
        if node in self.agent_nodes():
            self.missing_since.pop(node, None)
            return OwnerState.ALIVE
        self.missing_since.setdefault(node, time.monotonic())
        return OwnerState.AGENT_MISSING

    def missing_seconds(self, node: str) -> float:
        """Seconds since this agent noticed that a node has none."""
        since = self.missing_since.get(node)
        return 0.0 if since is None else time.monotonic() - since

    def speaks_for_all(self, waited_seconds: float) -> bool:
        """Whether it is for this agent to say why a move waits that any agent may accept.

        One says it, or every one of a large cluster would; the others only where that one does not.
        """
        return self.node <= min(self.agent_nodes(), default=self.node) or waited_seconds > _SPOKESMAN_SECONDS

    def agent_nodes(self) -> set[str]:
        """Nodes with a node-agent at work, as far as the API knows; a node that is silent has none.

        Counted are agents of our DaemonSet and of Windows nodes: another beside ours serves other moves.
        """
        agents = (self.config.daemon_set, WINDOWS_AGENT_NAME)
        pods = [pod for pod in self.velero_pods.items.values() if pod.agent_name in agents]
        running = {pod.node for pod in pods if pod.is_running_agent}
        return {node for node in running if not self._is_silent(node)}

    def _is_silent(self, node: str) -> bool:
        facts = self.nodes.get("", node)
        return facts is not None and facts.is_silent

    def has_windows_agent(self) -> bool:
        """Whether somebody else serves Windows nodes."""
        pods = self.velero_pods.items.values()
        return any(p.is_running_agent and p.agent_name == WINDOWS_AGENT_NAME for p in pods)

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
