"""Other nodes: asked for one by one when something hangs on it, and the answer kept for a while.

Watching all Nodes would bring each agent every status report of every kubelet: with 1,000 nodes 50 MB/s for
ever (15 KB, every 5 minutes, to each agent), for a question that comes up when a node is lost.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.moves.cluster_facts import NodeFacts, read_node
from exposer.volume_nodes import has_windows_nodes
from kube.api import NODE, Kube, find

if TYPE_CHECKING:
    from collections.abc import Callable

_NODE_SECONDS = 3.0
_WINDOWS_SECONDS = 600.0


class OtherNodes:
    """What the API says of nodes other than ours; as old as `_NODE_SECONDS` at most."""

    def __init__(self, kube: Kube, clock: Callable[[], float] | None = None) -> None:
        self._kube, self._clock = kube, clock or time.monotonic
        self._known: dict[str, tuple[float, NodeFacts | None]] = {}
        self._windows: tuple[float, bool] | None = None

    async def read(self, node: str) -> NodeFacts | None:
        """Return a node, `None` if there is none of the name."""
        now = self._clock()
        self._known = {name: kept for name, kept in self._known.items() if now - kept[0] < _NODE_SECONDS}
        if node not in self._known:
            body = await find(self._kube, NODE, "", node)
            self._known[node] = (now, read_node(body) if body is not None else None)
        return self._known[node][1]

    def forget(self, node: str) -> None:
        """Ask anew: something has changed there."""
        self._known.pop(node, None)

    async def has_windows(self) -> bool:
        """Whether the cluster has Windows nodes: one request, the answer kept for ten minutes."""
        now = self._clock()
        if self._windows is None or now - self._windows[0] >= _WINDOWS_SECONDS:
            self._windows = (now, await has_windows_nodes(self._kube))
        return self._windows[1]
