"""The status page in a real Chromium, from a real agent with moves under way, waiting and over."""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent.control.world import RESOURCES
from agent.moves.custom_resources import Phase
from agent.show.web import serve_http
from kube.api import PVC
from tests.apiserver.browser import chromium, opened
from tests.apiserver.control_plane import _free_port
from tests.fakes import scene
from tests.fakes.kubelet import fail_with, succeed_with, until_canceled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.control.node_agent import Agent
    from tests.apiserver.browser import Page
    from tests.apiserver.conftest import Stage

pytestmark = [
    pytest.mark.skipif(
        chromium() is None, reason="NO CHROMIUM, THE STATUS PAGE IS NOT TESTED: apt-get install chromium"
    ),
    pytest.mark.timeout(400),
]
# `KEEP_SCREENSHOTS=DIR pytest tests/apiserver/test_page.py` leaves the pictures there.
KEEP = os.environ.get("KEEP_SCREENSHOTS")
MARKUP = '<img src=x onerror="document.title=1">'


@contextlib.asynccontextmanager
async def served(agent: Agent) -> AsyncIterator[str]:
    port = _free_port()
    task = asyncio.create_task(serve_http(agent, f"127.0.0.1:{port}"))
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def words(markup: str) -> str:
    """The text that the page shows, tags and script left out."""
    body = re.sub(r"(?s)<(script|style|noscript).*?</\1>", " ", markup)
    body = re.sub(r"(?s)<(\w+)[^>]*\shidden[^>]*>.*?</\1>", " ", body)
    return html.unescape(" ".join(re.sub(r"(?s)<!--.*?-->|<[^>]+>", " ", body).split()))


async def pictures(page: Page) -> None:
    """By day, by night and on a phone, where somebody wants to look."""
    if KEEP:
        await page.picture(Path(KEEP) / "page.png")
        await page.resize(1280, 900, dark=True)
        await page.picture(Path(KEEP) / "page-dark.png")
        await page.resize(500, 2400)
        await page.picture(Path(KEEP) / "page-phone.png")


async def busy(stage: Stage) -> Agent:
    """Two slots: one backup at work, one restore at work, one that waits for a slot, and three that are over."""
    await stage.running_pod()
    await stage.source_volume()
    agent = await stage.start_agent()
    agent.world.slots.limit = 2
    for name, mover, phase in (
        ("nightly-x7k2p", succeed_with("k9f31c", 7 << 30), "Completed"),
        (
            "nightly-9sd1f",
            fail_with("cannot read blob p7e2 of the repository: 403 Forbidden; check the credentials"),
            "Failed",
        ),
    ):
        stage.kubelet.mover = mover
        await stage.create("PodVolumeBackup", name)
        await stage.phase("PodVolumeBackup", phase, name)
        await stage.released("PodVolumeBackup", name)
    stage.kubelet.mover = until_canceled
    await stage.kube.put(
        PVC, scene.claim("orders-db", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}})
    )
    target = {"targetVolume": {"namespace": "app", "pvc": "orders-db", "pv": ""}}
    await stage.create("DataUpload", "weekly-b4x9c")
    await stage.phase("DataUpload", "InProgress", "weekly-b4x9c")
    await stage.create("DataDownload", "restore-p2m5t", spec=target)
    await stage.phase("DataDownload", "InProgress", "restore-p2m5t")
    await stage.create("PodVolumeBackup", "nightly-q8w3e")
    # At level 1 there is no kubelet that could serve a mover's log: its progress is written as the agent would.
    for kind, name, total, done in (
        ("DataUpload", "weekly-b4x9c", 12 << 30, 5530 << 20),
        ("DataDownload", "restore-p2m5t", 3 << 30, 400 << 20),
    ):
        status = {"progress": {"totalBytes": total, "bytesDone": done}}
        await stage.kube.patch(RESOURCES[kind], "velero", name, {"status": status})

    async def all_seen() -> bool:
        moves = {move.name: move for move in agent.world.all_moves()}
        waits = moves.get("nightly-q8w3e")
        return (
            moves["restore-p2m5t"].done_bytes > 0
            and moves["weekly-b4x9c"].done_bytes > 0
            and waits is not None
            and waits.phase is Phase.PREPARED
            and bool(waits.message)
        )

    await stage.until(all_seen)
    return agent


async def test_page_shows_moves_at_work_waiting_and_over(stage: Stage, tmp_path: Path) -> None:
    agent = await busy(stage)
    async with served(agent) as url, opened(url) as page:
        markup, console = await page.markup(), page.console
        shown = words(markup)
        await pictures(page)
    assert console == []
    assert "node node-1 · namespace velero" in shown
    assert "2 of 2 in use, 1 in line" in shown
    assert "app/data" in shown
    assert "45 %" in shown
    assert "5.4 GiB of 12.0 GiB" in shown
    assert "Waiting: for one of 2 slots of node node-1 (number 1 in line)" in shown
    assert "✓ Completed" in shown
    assert "403 Forbidden; check the credentials" in shown
    assert re.search(r"Moving , current", shown), "phases are said in words, not by colour alone"
    assert markup.count('role="progressbar"') == 2
    assert 'aria-valuenow="45"' in markup
    assert "no connection" not in shown


async def test_page_shows_text_from_the_api_as_text_and_an_empty_table_as_such(stage: Stage) -> None:
    stage.kubelet.mover = fail_with(MARKUP)
    await stage.running_pod()
    agent = await stage.start_agent()
    await stage.create("PodVolumeBackup")
    await stage.phase("PodVolumeBackup", "Failed")
    await stage.released("PodVolumeBackup")
    async with served(agent) as url, opened(url) as page:
        markup, console = await page.markup(), page.console
    assert MARKUP in words(markup)
    assert "<img" not in markup
    assert "Nothing to move" in words(markup)
    assert "No move has ended yet" not in words(markup)
    assert console == []


async def test_page_follows_without_asking_again_and_says_when_the_agent_goes_away(stage: Stage) -> None:
    """Live by the stream: a move that fails appears, and no second request for the board is made."""
    stage.kubelet.mover = fail_with("the bucket is gone")
    await stage.running_pod()
    agent = await stage.start_agent()
    async with served(agent) as url, opened(url) as page:
        await page.until("document.getElementById('live').textContent === 'live'")
        await stage.create("PodVolumeBackup")
        await page.until("document.body.textContent.includes('the bucket is gone')")
        asked = await page.value(
            "performance.getEntriesByType('resource').filter(one => one.name.endsWith('api/moves')).length"
        )
        assert asked == 1
        assert page.console == []


async def test_page_says_that_the_agent_is_away() -> None:
    async def index(_request: web.Request) -> web.Response:
        return web.Response(
            text=files("agent.show").joinpath("page.html").read_text(), content_type="text/html"
        )

    app = web.Application()
    app.add_routes([web.get("/", index)])
    runner = web.AppRunner(app)
    await runner.setup()
    port = _free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with opened(f"http://127.0.0.1:{port}/") as page:
            markup = await page.markup()
    finally:
        await runner.cleanup()
    assert "The agent does not answer. Trying again" in words(markup)
    assert "no connection" in words(markup)
