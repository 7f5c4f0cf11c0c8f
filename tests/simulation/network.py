"""Between processes and the API server: latency, and the faults of single requests.

A request that was sent is on its way whatever becomes of who sent it. Each fault says whether the request still has
its effect, what the client hears, and whether the process that sent it dies, before or after.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.api import Answer, ApiServer, Request, error

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.process import Process

WRITES = frozenset({"POST", "PATCH", "DELETE"})
ALL = WRITES | {"GET"}


@dataclass(frozen=True, slots=True)
class RequestFault:
    """What goes wrong with one request. `status` 0: no answer ever comes; -1: the connection breaks."""

    name: str
    methods: frozenset[str]
    applied: bool = False
    status: int | None = None
    reason: str = ""
    slow_seconds: float = 0.0
    kills: bool = False


_DONE = {"applied": True}
REQUEST_FAULTS = {
    fault.name: fault
    for fault in (
        RequestFault("conflict", frozenset({"PATCH"}), status=409, reason="Conflict"),
        RequestFault("conflict, done", frozenset({"PATCH"}), applied=True, status=409, reason="Conflict"),
        RequestFault("exists, done", frozenset({"POST"}), applied=True, status=409, reason="AlreadyExists"),
        RequestFault("not found, done", frozenset({"DELETE"}), applied=True, status=404, reason="NotFound"),
        RequestFault("429", ALL, status=429, reason="TooManyRequests"),
        RequestFault("500", ALL, status=500, reason="InternalError"),
        RequestFault("500, done", WRITES, applied=True, status=500, reason="InternalError"),
        RequestFault("time-out", ALL, status=0),
        RequestFault("time-out, done", WRITES, applied=True, status=0),
        RequestFault("reset", ALL, status=-1),
        RequestFault("reset, done", WRITES, applied=True, status=-1),
        RequestFault("slow there", ALL, applied=True, slow_seconds=-8.0),
        RequestFault("slow back", ALL, applied=True, slow_seconds=20.0),
        RequestFault("killed before", ALL, kills=True),
        RequestFault("killed after", ALL, applied=True, kills=True),
    )
}


class Network:
    """Carries requests. `choose` names the fault of a request, or none."""

    def __init__(self, api: ApiServer, rng: Random) -> None:
        self.api, self._rng = api, rng
        self.down = False
        self.choose: Callable[[Process, Request], RequestFault | None] = lambda *_: None
        self.history = hashlib.blake2b(digest_size=16)
        self.slow_lists = self.slow_answers = 0.0
        self.requests = 0
        self.writes = 0
        self.trace: Callable[[str], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._context = (
            contextvars.copy_context()
        )  # what the server does is not done by the process that asked

    async def send(self, process: Process, request: Request) -> Answer:
        """Send a request for a process and wait for the answer."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        if process.dead:
            return await future  # the dead hear nothing
        fault = self.choose(process, request)
        delay = self._latency() + max(-(fault.slow_seconds if fault else 0.0), 0.0) * self._rng.random()
        self._loop.call_later(delay, self._arrive, process, request, fault, future, context=self._context)
        return await future

    def _latency(self) -> float:
        return self._rng.uniform(0.001, 0.01)

    def _arrive(
        self, process: Process, request: Request, fault: RequestFault | None, future: asyncio.Future[Answer]
    ) -> None:
        if fault is not None and fault.kills and not fault.applied:
            self._note(process, request, -2, fault)
            process.kill()
            return
        if self.down:
            self._later(future, 0.0, ConnectionRefusedError("connection refused"))
            return
        answer = Answer(0)
        if fault is None or fault.applied:
            answer = self.api.answer(request, process)
            self.requests += 1
            self.writes += request.method in WRITES
        self._note(process, request, answer.status, fault)
        if fault is not None and fault.kills:
            process.kill()
            return
        self._reply(request, fault, answer, future)

    def _reply(
        self, request: Request, fault: RequestFault | None, answer: Answer, future: asyncio.Future[Answer]
    ) -> None:
        delay = self._latency() + self._congestion(request)
        if fault is not None:
            delay += max(fault.slow_seconds, 0.0) * self._rng.random()
            if fault.status == 0:
                return
            if fault.status == -1:
                self._later(future, delay, ConnectionResetError("connection reset by peer"))
                return
            if fault.status is not None:
                retry = self._rng.randint(1, 4) if fault.status == 429 else 0
                answer = error(fault.status, fault.reason, f"simulated: {fault.name}", retry_after=retry)
        self._later(future, delay, answer)

    def _congestion(self, request: Request) -> float:
        """A server that is busy: lists take long, and of writes the answers."""
        if request.method in WRITES:
            return self._rng.random() * self.slow_answers
        return self._rng.random() * self.slow_lists if request.is_list else 0.0

    def _later(self, future: asyncio.Future[Answer], delay: float, result: Answer | Exception) -> None:
        self._loop.call_later(delay, _settle, future, result)

    def _note(self, process: Process, request: Request, status: int, fault: RequestFault | None) -> None:
        line = f"{self._loop.time():.4f} {process.name} {request.method} {request.path} {status} {fault.name if fault else ''}"
        self.history.update(line.encode())
        if self.trace is not None and (request.method != "GET" or status != 200 or fault):
            self.trace(f"{line} {request.body if request.method == 'PATCH' else request.query or ''}")


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
