"""Follows the log of a mover at work: its progress goes into `status.progress`, its other lines into our log.

The mover's last line says how it ended, a second before the kubelet reports it. A log that breaks off is
picked up again behind its last line; nothing is lost without it: the end stands in the termination message
too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

from agent.control.act import move_fields
from agent.moves.outcome import outcome_of_end
from agent.moves.status_patch import progress_patch
from kube.api import KubeError, NotFoundError
from kube.backoff import Backoff
from mover.protocol import End, Progress, decode_end, decode_progress

if TYPE_CHECKING:
    from agent.control.world import World
    from agent.moves.custom_resources import Move
    from kube.api import LogLine

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (2.0, 30.0)
_WHOLE_SECOND = len("2026-11-21T12:00:00")
# A mover reports as often as is written: a report that comes a little early must not wait for the next one.
_EARLY = 0.8


class Followers:
    """One task per mover at work on this node."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def ensure(self, move: Move) -> None:
        """Follow a move's mover, if nobody does yet."""
        if move.uid not in self._tasks:
            task = asyncio.create_task(_follow(move, self._world))
            self._tasks[move.uid] = task
            task.add_done_callback(lambda _: self._tasks.pop(move.uid, None))

    def stop(self, uid: str) -> None:
        """Follow it no longer."""
        task = self._tasks.get(uid)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """End everything."""
        for task in list(self._tasks.values()):
            task.cancel()


async def _follow(move: Move, world: World) -> None:
    writer = _ProgressWriter(move, world)
    mark, backoff = _Bookmark(), Backoff(*_BACKOFF_SECONDS)
    while True:
        broke_off: KubeError | None = None
        mark.rewind()
        try:
            async for line in world.kube.log_lines(move.namespace, move.name, move.uid, since=mark.at):
                if mark.is_new(line):
                    backoff.reset()
                    await _take(line.text, writer, move, world)
        except NotFoundError:
            return
        except KubeError as error:
            log.debug("log of the mover broke off", extra=move_fields(move) | {"error": str(error)})
            broke_off = error
        await backoff.pause(broke_off)


class _Bookmark:
    """How far a log was read. The API can go back to a whole second, not to a line.

    So the lines of the last second are known by their stamps; several may bear the same.
    """

    def __init__(self) -> None:
        self.at = ""
        self._read: Counter[str] = Counter()
        self._to_skip: Counter[str] = Counter()

    def rewind(self) -> None:
        """Begin to read again from the second of the last line."""
        self._to_skip = self._read.copy()

    def is_new(self, line: LogLine) -> bool:
        """Move on to a line; False if it was read before."""
        if not line.at:
            return True
        if self._to_skip[line.at] > 0:
            self._to_skip[line.at] -= 1
            return False
        if line.at[:_WHOLE_SECOND] != self.at[:_WHOLE_SECOND]:
            self._read.clear()
        self._read[line.at] += 1
        self.at = line.at
        return True


async def _take(line: str, writer: _ProgressWriter, move: Move, world: World) -> None:
    progress, end = decode_progress(line), decode_end(line)
    if end is not None:
        _remember(end, move, world)
    elif progress is None:
        log.info("mover: %s", line, extra=move_fields(move))
    else:
        await writer.write(progress)


def _remember(end: End, move: Move, world: World) -> None:
    outcome = outcome_of_end(move.kind, end)
    if outcome is not None:
        world.last_words[move.uid] = outcome
        world.queue.add(move.key)


class _ProgressWriter:
    """Writes progress at most once in `progress_seconds`, and the first at once."""

    def __init__(self, move: Move, world: World) -> None:
        self._move, self._world = move, world
        self._written_at = float("-inf")

    async def write(self, progress: Progress) -> None:
        self._world.metrics.progressed(self._move, progress)
        if time.monotonic() - self._written_at < _EARLY * self._world.config.progress_seconds:
            return
        move = self._world.find_move(self._move.key)
        if move is None or move.uid != self._move.uid or move.phase.is_final:
            return
        self._written_at = time.monotonic()
        try:
            await self._world.patch(move, progress_patch(move, progress.total_bytes, progress.done_bytes))
        except NotFoundError:
            raise
        except KubeError as error:  # the next report is near, and the log is none the worse
            log.debug("progress was not written", extra=move_fields(move) | {"error": str(error)})
