from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from agent.control.flags import Config
from agent.control.node_agent import Agent
from agent.show.web import ListenError, listener, serve_http, trouble
from agent.show.web_limits import is_our_name
from tests.fakes.kube import FakeKube

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def place() -> AsyncIterator[str]:
    """An agent's server; the agent itself was not started."""
    port = free_port()
    task = asyncio.create_task(serve_http(Agent(Config(node="node-1"), FakeKube()), f"127.0.0.1:{port}"))
    await asyncio.sleep(0)
    yield f"http://127.0.0.1:{port}"
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def got(url: str) -> tuple[int, str, Any]:
    for _ in range(500):
        with contextlib.suppress(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return answer.status, await answer.text(), answer.headers
        await asyncio.sleep(0.02)
    raise AssertionError("it does not listen")


async def test_routes_answer(place: str) -> None:
    status, text, headers = await got(f"{place}/metrics")
    assert (status, "kopia_data_mover_node_slots" in text) == (200, True)
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert (await got(f"{place}/healthz"))[:2] == (200, "ok")
    assert (await got(f"{place}/readyz"))[:2] == (503, "caches are being filled")
    board = json.loads((await got(f"{place}/api/moves"))[1])
    assert (board["node"], board["ready"], board["moves"], board["recent"]) == ("node-1", False, [], [])
    assert (await got(f"{place}/elsewhere"))[0] == 404


async def test_page_comes_with_a_policy_that_allows_nothing_else(place: str) -> None:
    status, text, headers = await got(f"{place}/")
    assert status == 200
    assert text.startswith("<!doctype html>")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    outside = [word for word in ("https://", "//cdn", "@import") if word in text]
    assert outside == []


def test_port_that_is_taken_is_said() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ListenError, match="--metrics-address"),
    ):
        listener(f"127.0.0.1:{taken.getsockname()[1]}")


async def test_stream_tells_the_board_at_once_and_ends_with_the_server() -> None:
    port = free_port()
    agent = Agent(Config(node="node-1"), FakeKube())
    task = asyncio.create_task(serve_http(agent, f"127.0.0.1:{port}"))
    await got(f"http://127.0.0.1:{port}/healthz")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/api/events") as answer,
    ):
        assert answer.content_type == "text/event-stream"
        assert json.loads((await answer.content.readline()).removeprefix(b"data: "))["ready"] is False
        agent.ready.set()
        assert await answer.content.readline() == b"\n"
        assert json.loads((await answer.content.readline()).removeprefix(b"data: "))["ready"] is True
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert await answer.content.read() == b"\n"


async def test_streams_are_bounded_and_the_page_can_still_ask(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.show.web._STREAMS_MAX", 1)
    await got(f"{place}/healthz")
    async with aiohttp.ClientSession() as session, session.get(f"{place}/api/events") as first:
        await first.content.readline()
        assert (await got(f"{place}/api/events"))[0] == 503
        assert (await got(f"{place}/api/moves"))[0] == 200


async def test_half_sent_request_is_ended(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.show.web_limits.HEAD_SECONDS_MAX", 0.2)
    await got(f"{place}/healthz")
    host, port = place.removeprefix("http://").split(":")
    for sent in (b"", b"GET /api/moves HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"G"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
    reader, writer = await asyncio.open_connection(
        host, int(port)
    )  # also a second one on a living connection
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /healthz HTTP/1.1\r\nHo")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()


async def test_many_silent_connections_do_not_keep_the_kubelet_out(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.show.web_limits.CONNECTIONS_MAX", 4)
    await got(f"{place}/healthz")
    host, port = place.removeprefix("http://").split(":")
    held = [await asyncio.open_connection(host, int(port)) for _ in range(12)]
    assert (await got(f"{place}/healthz"))[:2] == (200, "ok")
    for _, writer in held:
        writer.close()


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8085", True),
        ("10.1.2.3", True),
        ("[fd00::1]:8085", True),
        ("localhost:8085", True),
        ("node-agent", True),
        ("node-agent.velero.svc:8085", True),
        ("node-agent.velero.svc.cluster.local", True),
        ("page.example.org", True),
        ("attacker.example.com:8085", False),
        ("svc.attacker.example", False),
        ("", False),
    ],
)
def test_names_that_the_agent_answers_to(host: str, ours: bool) -> None:
    assert is_our_name(host, frozenset({"page.example.org"})) is ours


async def test_stranger_s_name_is_misdirected_but_probes_are_answered(place: str) -> None:
    await got(f"{place}/healthz")
    async with aiohttp.ClientSession(headers={"Host": "attacker.example.com"}) as session:
        async with session.get(f"{place}/api/moves") as answer:
            assert (answer.status, "KOPIA_DATA_MOVER_PAGE_HOSTS" in await answer.text()) == (421, True)
        async with session.get(f"{place}/healthz") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("silent", "look", "text"),
    [
        (299, 599, ""),
        (300, 0, "no news from the API server for 300 s"),
        (0, 600, "a look at a move has taken 600 s"),
    ],
)
def test_health_is_lost_with_watches_that_hear_nothing_or_work_that_stands(
    silent: float, look: float, text: str
) -> None:
    assert trouble(silent, look) == text


@pytest.mark.parametrize("address", ["http", ":http", ":99999", "127.0.0.1:-1", ":"])
def test_what_is_no_port_is_said(address: str) -> None:
    with pytest.raises(ListenError, match="is not a port"):
        listener(address)


def test_every_interface_without_ipv6_is_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    make = socket.create_server

    def without_ipv6(address: Any, *, family: int = socket.AF_INET, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(99, "cannot assign requested address")
        return make(address, family=family, **options)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with listener(":0") as heard:
        assert heard.family == socket.AF_INET


def test_every_interface_answers_on_ipv4() -> None:
    with listener(":0") as heard, socket.create_connection(("127.0.0.1", heard.getsockname()[1]), timeout=30):
        pass
