"""Virtual time: an event loop whose clock jumps to the next thing to do, and the product's clocks on top of it.

Nothing waits: an hour of a cluster passes in a fraction of a second. The product reads its clocks by the names
`time`, `datetime`, `random`, `uuid` of its own modules; those names are lent to the simulation while it runs, and
nobody else's. Each process may have a wall clock that is wrong (`Clock.skew`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import random as real_random
import selectors
import sys
import time as real_time
import types
import uuid as real_uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UTC = dt.UTC
EPOCH = dt.datetime(2026, 12, 1, 3, 0, 0, tzinfo=UTC)
_AT_ONCE_MAX = 5000
ROOMS = ("agent", "exposer", "kube")


class Clock:
    """A process's wall clock: how many seconds it is wrong by."""

    def __init__(self) -> None:
        self.skew = 0.0


# Whose code is running: tasks and timers inherit it from who made them.
wall_clock: contextvars.ContextVar[Clock | None] = contextvars.ContextVar("wall_clock", default=None)


class DeadlockError(Exception):
    """Nothing is ready and nothing will ever be."""


class _Selector(selectors.BaseSelector):
    """Waits for nothing: the clock is set to when the wait would have ended."""

    def __init__(self) -> None:
        self.now = 0.0
        self._at_once = 0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("nothing is ready and no timer is set")
        if timeout > 0.0:
            self.now, self._at_once = self.now + timeout, 0
            return []
        self._at_once += 1
        if self._at_once > _AT_ONCE_MAX:  # computing takes time, too: a wait of 1e-16 s is over some time
            self.now, self._at_once = self.now + 0.001, 0
        return []

    def get_map(self) -> Any:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time. Threads are not: what is sent to one is done at once, in its place."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to who awaits it
            future.set_exception(error)
        return future


def now() -> dt.datetime:
    """The true time in the simulation."""
    return EPOCH + dt.timedelta(seconds=asyncio.get_running_loop().time())


class _Datetime(dt.datetime):
    """`datetime` as a process of the simulation sees it."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> _Datetime:
        clock = wall_clock.get()
        seconds = asyncio.get_running_loop().time() + (clock.skew if clock is not None else 0.0)
        moment = EPOCH + dt.timedelta(seconds=seconds)
        return cls.fromtimestamp(moment.timestamp(), tz)


def _time_module(loop: asyncio.AbstractEventLoop) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        monotonic=loop.time, perf_counter=loop.time, time=lambda: _Datetime.now(UTC).timestamp()
    )


def _uuid_module(rng: real_random.Random) -> types.SimpleNamespace:
    return types.SimpleNamespace(uuid4=lambda: real_uuid.UUID(int=rng.getrandbits(128), version=4))


@contextlib.contextmanager
def product_clocks(loop: asyncio.AbstractEventLoop, rng: real_random.Random) -> Iterator[None]:
    """Lend the product's modules the simulation's clocks and chance while the block runs."""
    lent: dict[int, Any] = {
        id(real_time): _time_module(loop),
        id(dt.datetime): _Datetime,
        id(real_random): rng,
        id(real_uuid): _uuid_module(rng),
    }
    undo: list[tuple[types.ModuleType, str, Any]] = []
    for name, module in list(sys.modules.items()):
        if module is None or name.partition(".")[0] not in ROOMS:
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in lent:
                undo.append((module, attribute, value))
                setattr(module, attribute, lent[id(value)])
    try:
        yield
    finally:
        for module, attribute, value in undo:
            setattr(module, attribute, value)
