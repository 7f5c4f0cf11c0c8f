"""An agent's connection on which chosen writes go wrong: cut off, refused, or unanswered, done or not done."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kube.api import KubeError
from tests.fakes.kube import CrashError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.fakes.kube import FakeKube

_WRITES = ("create", "patch", "delete")
_TRIES = 12


class Fault(StrEnum):
    """What befalls one write."""

    DEATH = "the agent dies after it"
    ERROR = "500, not done"
    ERROR_DONE = "500, though done"
    BUSY = "429"
    TIMEOUT = "no answer, not done"
    TIMEOUT_DONE = "no answer, though done"


_STATUS = {Fault.ERROR: 500, Fault.ERROR_DONE: 500, Fault.BUSY: 429, Fault.TIMEOUT: 0, Fault.TIMEOUT_DONE: 0}
_DONE = (Fault.DEATH, Fault.ERROR_DONE, Fault.TIMEOUT_DONE)


class FaultyKube:
    """Counts the writes of one agent, over its restarts too, from 1; the controllers' own go past it."""

    def __init__(self, kube: FakeKube, faults: Mapping[int, Fault]) -> None:
        self._kube, self._faults = kube, faults
        self.writes = 0
        self.met: list[int] = []

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._kube, name)
        if name not in _WRITES:
            return verb

        async def faulty(*args: Any, **kwargs: Any) -> Any:
            self.writes += 1
            fault = self._faults.get(self.writes)
            if fault is None:
                return await verb(*args, **kwargs)
            self.met.append(self.writes)
            if fault in _DONE:
                await verb(*args, **kwargs)
            if fault is Fault.DEATH:
                raise CrashError
            raise KubeError(f"{name}: {fault.value}", status=_STATUS[fault])

        return faulty


async def carry_out(work: Callable[[], Awaitable[None]]) -> None:
    """Do it as the agent does: again after a restart, again after a failure that can heal."""
    for _ in range(_TRIES):
        try:
            return await work()
        except CrashError:
            continue
        except Exception as error:
            if not getattr(error, "temporary", False):
                raise
    raise AssertionError(f"not done in {_TRIES} tries")
