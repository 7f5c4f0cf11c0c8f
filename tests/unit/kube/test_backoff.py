"""Nothing that asks the API server repeats at once, or in step with all other agents."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from kube.api import CONFIG_MAP, POD, KubeError
from kube.backoff import Backoff
from kube.client import KubeClient, _error_from_status
from kube.waiting import wait_for
from tests.fakes.kube import FakeKube

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


def test_pauses_grow_to_a_bound_differ_and_begin_anew() -> None:
    backoff = Backoff(1.0, 8.0)
    pauses = [backoff.next_seconds() for _ in range(6)]
    for seconds, most in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True):
        assert most / 2 <= seconds <= most
    assert len({Backoff(1.0, 8.0).next_seconds() for _ in range(50)}) > 40, "not all agents at once"
    backoff.reset()
    assert backoff.next_seconds() <= 1


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(7.0, 7.0, 8.0), (86_400.0, 60.0, 61.0), (0.0, 0.5, 1.0)]
)
def test_what_the_server_asks_for_is_obeyed_within_bounds(asked: float, least: float, most: float) -> None:
    error = KubeError("slow down", status=429, retry_after_seconds=asked)
    assert least <= Backoff(1.0, 8.0).next_seconds(error) <= most


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are noted and not waited for."""
    noted: list[float] = []

    async def pause(self: Backoff, error: BaseException | None = None) -> None:
        noted.append(self.next_seconds(error))
        await asyncio.sleep(0)

    monkeypatch.setattr(Backoff, "pause", pause)
    return noted


@pytest.fixture
async def busy_server() -> AsyncIterator[Callable[[], Awaitable[Configuration]]]:
    """An API server that answers every third request only, and says when to come again."""
    count = 0

    async def answer(_request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        if count % 3:
            return web.json_response({"message": "slow down"}, status=429, headers={"Retry-After": "7"})
        return web.json_response({"metadata": {"name": "x"}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def load() -> Configuration:
        return Configuration(host=server)

    yield load
    await runner.cleanup()


async def test_retry_after_is_waited_for_by_reads_and_told_to_whoever_writes(
    busy_server: Callable[[], Awaitable[Configuration]], pauses: list[float]
) -> None:
    async with KubeClient(busy_server) as kube:
        assert (await kube.get(POD, "velero", "x"))["metadata"] == {"name": "x"}
        assert len(pauses) == 2
        assert min(pauses) >= 7
        with pytest.raises(KubeError, match="slow down") as caught:
            await kube.create(POD, "velero", {"metadata": {"name": "x"}})
    assert caught.value.retry_after_seconds == 7
    assert caught.value.temporary


def test_watch_that_ends_with_an_error_tells_what_the_server_asks_for() -> None:
    status = {"code": 429, "message": "too many", "details": {"retryAfterSeconds": 3}}
    assert _error_from_status(status).retry_after_seconds == 3


async def test_wait_whose_watch_ends_at_once_backs_off(pauses: list[float]) -> None:
    class Ending(FakeKube):
        watches = 0

        async def watch(self, *_: object):
            self.watches += 1
            if len(pauses) >= 7:
                self.put(CONFIG_MAP, {"metadata": {"name": "a", "namespace": "velero"}})
            return
            yield

    kube = Ending()
    await wait_for(
        kube,
        CONFIG_MAP,
        "velero",
        "a",
        until=lambda body: body is not None,
        timeout_seconds=60,
        what="a is there",
    )
    assert kube.watches == len(pauses) == 8
    assert pauses[-1] > 6
