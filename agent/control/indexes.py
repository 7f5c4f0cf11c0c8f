"""Indexes over the caches: what a look asks of all agents or all moves, counted as they change.

A look must not cost the more the larger the cluster is, so nothing here walks a cache.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from agent.moves.cluster_facts import WINDOWS_AGENT_NAME

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from agent.moves.cluster_facts import VeleroPod
    from agent.moves.custom_resources import Move


class AgentIndex:
    """Nodes with a node-agent at work, of our DaemonSet and of Windows nodes; another serves other moves."""

    def __init__(self, daemon_set: str) -> None:
        self._daemon_set = daemon_set
        self._ours: Counter[str] = Counter()
        self._windows: Counter[str] = Counter()
        self._unready: Counter[str] = Counter()

    def changed(self, before: VeleroPod | None, after: VeleroPod | None) -> None:
        """Follow the cache of pods."""
        self._count(before, -1)
        self._count(after, 1)

    def _count(self, pod: VeleroPod | None, by: int) -> None:
        if pod is None or not pod.is_running_agent:
            return
        windows = pod.agent_name == WINDOWS_AGENT_NAME
        if windows or pod.agent_name == self._daemon_set:
            counts = self._unready if pod.is_unready else self._windows if windows else self._ours
            counts[pod.node] += by
            if not counts[pod.node]:
                del counts[pod.node]

    def serves(self, node: str) -> bool:
        """Whether an agent works on a node, as far as the API knows."""
        return node in self._ours or node in self._windows

    def is_unready(self, node: str) -> bool:
        """Whether an agent runs on a node that may be silent, or may not: ask for the Node."""
        return node in self._unready

    @property
    def linux(self) -> AbstractSet[str]:
        """Nodes of our own agents: those that take turns."""
        return self._ours.keys()

    @property
    def has_windows(self) -> bool:
        """Whether somebody else serves Windows nodes."""
        return bool(self._windows)


class ExposingIndex:
    """How many moves of all agents are being prepared: what the prepare queue counts."""

    def __init__(self) -> None:
        self.count = 0

    def changed(self, before: Move | None, after: Move | None) -> None:
        """Follow a cache of moves."""
        self.count += (after is not None and after.is_exposing) - (before is not None and before.is_exposing)
