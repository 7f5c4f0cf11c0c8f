"""The status page in a real Chromium on the morning after a night: thirty volumes, one slot, one node without its agent."""

from __future__ import annotations

import contextlib
import os
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import web

from agent.control.history import History
from agent.control.metrics import Metrics
from agent.moves.custom_resources import format_time
from agent.show.board import board, last_day
from tests.apiserver.browser import chromium, opened
from tests.apiserver.control_plane import _free_port
from tests.fakes.resources import after, body, move

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.control.world import World
    from agent.moves.custom_resources import Move
    from tests.apiserver.browser import Page

from agent.control.last_success import LastSuccess
from agent.moves.custom_resources import KIND_BY_NAME

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="NO CHROMIUM, THE STATUS PAGE IS NOT TESTED"),
    pytest.mark.timeout(400),
]
KEEP = os.environ.get("KEEP_SCREENSHOTS")
HOUR, EACH, COUNT = 3600, 840, 30
NOW = after(9 * HOUR)
ROWS = "[...document.querySelectorAll('#over tbody tr:not(.group)')]"


def upload(number: int) -> Move:
    """Created at once with all others; it waited for those before it. One failed, one was canceled."""
    phase = {7: "Failed", 12: "Canceled"}.get(number, "Completed")
    status = {
        "node": f"node-{1 + number % 2}",
        "startTimestamp": format_time(after(number * EACH)),
        "completionTimestamp": format_time(after((number + 1) * EACH)),
        "message": "cannot read blob p7e2: 403 Forbidden; check the credentials" if number == 7 else "",
        "progress": {"totalBytes": 3 << 30, "bytesDone": 3 << 30},
    }
    meta = {
        "ownerReferences": [{"kind": "Backup", "name": "nightly-20261121", "uid": "b", "controller": True}]
    }
    spec = {"sourceNamespace": "shop", "sourcePVC": f"orders-{number:02}"}
    return move("DataUpload", phase, name=f"nightly-{number:02}", status=status, spec=spec, metadata=meta)


def morning() -> World:
    """The parts of a world that the board reads."""
    history, successes = History(), LastSuccess()
    for number in range(COUNT):
        waiting = move(
            "DataUpload", "Prepared", name=f"nightly-{number:02}", status={"message": "waiting: for a slot"}
        )
        history.saw(waiting, after(1))
        history.ended(upload(number))
    old = {"phase": "Completed", "node": "node-1", "completionTimestamp": format_time(after(-20 * HOUR))}
    successes.saw(KIND_BY_NAME["DataUpload"], body("DataUpload", status=old))
    started = {
        "node": "node-1",
        "startTimestamp": format_time(after(8 * HOUR)),
        "progress": {"totalBytes": 9 << 30, "bytesDone": 4 << 30},
    }
    alone = {
        "node": "node-3",
        "acceptedTimestamp": format_time(after(HOUR)),
        "message": "waiting: for a slot",
    }
    under = [
        move("DataUpload", "InProgress", name="late-1", status=started),
        move("DataUpload", "Prepared", name="late-2", status=alone),
    ]
    pods: dict[str, Any] = {}
    return cast("World", SimpleNamespace(
        slots=SimpleNamespace(waiting={}, holders={"x"}, limit=1), now=lambda: NOW, node="node-1",
        config=SimpleNamespace(namespace="velero", daemon_set="node-agent"), exposing=SimpleNamespace(count=0),
        node_config=SimpleNamespace(prepare_queue_length=0), history=history, successes=successes,
        all_moves=lambda: iter(under), agents=SimpleNamespace(serves={"node-1", "node-2"}.__contains__, linux={"node-1", "node-2"}),
        velero_pods=SimpleNamespace(items=pods), metrics=Metrics("node-1"),
    ))  # fmt: skip


@contextlib.asynccontextmanager
async def served(world: World) -> AsyncIterator[str]:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(
            text=files("agent.show").joinpath("page.html").read_text(), content_type="text/html"
        )

    async def moves(_request: web.Request) -> web.Response:
        return web.json_response(board(world) | {"ready": True, "silentSeconds": 1})

    async def day(_request: web.Request) -> web.Response:
        return web.json_response(last_day(world))

    async def events(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    app = web.Application()
    app.add_routes(
        [
            web.get("/", page),
            web.get("/api/moves", moves),
            web.get("/api/day", day),
            web.get("/api/events", events),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    port = _free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


async def text(page: Page, selector: str) -> str:
    return str(await page.value(f"document.querySelector({selector!r}).innerText"))


async def search(page: Page, words: str) -> None:
    await page.value(
        f"(() => {{ const field = document.getElementById('search'); field.value = {words!r};"
        " field.dispatchEvent(new Event('input')); })()"
    )


async def test_morning_after_a_night_is_seen_at_a_glance(tmp_path: Path) -> None:
    async with served(morning()) as url, opened(url, height=1500) as page:
        await page.until("document.querySelectorAll('.lanes i').length > 50")
        kept = Path(KEEP) if KEEP else tmp_path
        await page.picture(kept / "night.png")
        assert (await text(page, "#failed-tile")).split("\n")[-1] == "1"
        assert "1 d" in await text(page, "#oldest-tile") or "29 h" in await text(page, "#oldest-tile")
        assert "node-3" in await text(page, "#agents-tile")
        assert await page.value(f"{ROWS}[0].dataset.uid") == "uid-nightly-07", "failed first"
        group = await text(page, "#over tr.group")
        assert "backup nightly-20261121" in group
        assert "28 completed" in group
        assert await page.value("document.querySelectorAll('.lanes i.Failed').length") == 1
        told = "[...document.querySelectorAll('.lanes i')].map(one => one.title).join()"
        assert "shop/orders-29 of nightly-20261121: waited 6 h 46 min (for a slot), moved 14 min 0 s" in str(
            await page.value(told)
        )
        await search(page, "FORBIDDEN orders")
        assert await page.value(f"{ROWS}.map(row => row.dataset.uid).join()") == "uid-nightly-07"
        await page.value(
            "navigator.clipboard.writeText = async text => { window.copied = text; };"
            " document.querySelector('#over tr:not(.group) button.copy').click()"
        )
        await page.until("window.copied")
        assert (
            await page.value("window.copied") == "velero -n velero backup describe nightly-20261121 --details"
        )
        await search(page, "late-1")
        assert "kubectl -n velero logs -f late-1" in await text(page, "#now")
        await search(page, "")
        assert await page.value(f"{ROWS}.length") == COUNT
        for width in (1280, 390):
            await page.resize(width, 2400)
            assert await page.value(
                f"innerWidth === {width} && document.documentElement.scrollWidth <= {width}"
            ), width
        await page.picture(kept / "night-phone.png")
        assert page.console == []
