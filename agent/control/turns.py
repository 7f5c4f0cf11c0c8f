"""Turns: who of all agents acts first on a move that any of them may act on.

Agents are ranked anew for each move by a hash of its UID and their node (rendezvous hashing), so that the
work is spread and nobody has to ask anybody. The first acts at once, each further one a little later and
only if nothing has changed till then: a thousand agents make one request, not a thousand. What was done by
the first comes to all others by their watches. While somebody shows on the move why it waits, the pauses are
longer: somebody looks after it.

Time counts by a monotonic clock from when this agent first saw the move in its present situation.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

RANK_SECONDS = 0.3
WATCHED_RANK_SECONDS = 10.0


@dataclass(slots=True)
class _Turn:
    situation: Hashable
    since: float
    rank: int


class Turns:
    """When it is for this node's agent to act on a move that is nobody's."""

    def __init__(self, node: str, clock: Callable[[], float] | None = None) -> None:
        self._node, self._clock = node, clock or time.monotonic
        self._turns: dict[str, _Turn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def left(self, uid: str, situation: Hashable, agents: Iterable[str], rank_seconds: float) -> float:
        """Seconds until it is this agent's turn; 0: it is. A new situation begins the wait anew."""
        turn = self._turns.get(uid)
        if turn is None or turn.situation != situation:
            turn = _Turn(situation, self._clock(), rank(uid, self._node, agents))
            self._turns[uid] = turn
        return max(turn.since + turn.rank * rank_seconds - self._clock(), 0.0)

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a move."""
        self._turns.pop(uid, None)


def rank(uid: str, node: str, agents: Iterable[str]) -> int:
    """How many agents come before the one of this node."""
    own = _weight(uid, node)
    return sum(_weight(uid, other) < own for other in agents if other != node)


def _weight(uid: str, node: str) -> bytes:
    return blake2b(f"{uid}/{node}".encode(), digest_size=8).digest()
