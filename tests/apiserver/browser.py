"""A real Chromium without a window, driven by its DevTools protocol: what a page looks like once its script has run."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SECONDS_MAX = 150
MARKUP = "document.documentElement.outerHTML"
SETTLED = (
    "document.readyState === 'complete' && document.getElementById('live')?.textContent !== 'connecting …'"
)


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One tab. `console` collects what the page complains of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.console: list[str] = []
        self._socket, self._numbers = socket, itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def listen(self) -> None:
        """Take answers and events until the tab is closed."""
        async for message in self._socket:
            document = message.json()
            if "id" in document:
                self._answers.pop(document["id"]).set_result(document)
            elif document["method"] in (
                "Runtime.consoleAPICalled",
                "Runtime.exceptionThrown",
                "Log.entryAdded",
            ):
                self.console.append(str(document["params"]))

    async def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        document = await answer
        assert "error" not in document, (method, document)
        return document["result"]

    async def value(self, script: str) -> Any:
        """What a script comes to."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait, on the page's real clock, until a script says true."""
        while not await self.value(script):  # noqa: ASYNC110 - the page has no event for it
            await asyncio.sleep(0.1)

    async def markup(self) -> str:
        return str(await self.value(MARKUP))

    async def picture(self, path: Path) -> None:
        """Write a PNG of what is in the window."""
        shot = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))

    async def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=features)


@contextlib.asynccontextmanager
async def opened(
    url: str, *, width: int = 1280, height: int = 900, settled: str = SETTLED
) -> AsyncIterator[Page]:
    """Open a page and wait until it has settled."""
    async with asyncio.timeout(_SECONDS_MAX), _browser() as port, aiohttp.ClientSession() as session:
        async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
            address = (await answer.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(address, max_msg_size=0) as socket:
            page = Page(socket)
            listening = asyncio.create_task(page.listen())
            for domain in ("Page", "Runtime", "Log"):
                await page.call(f"{domain}.enable")
            await page.resize(width, height)
            await page.call("Page.navigate", url=url)
            await page.until(f"location.href !== 'about:blank' && {settled}")
            yield page
            listening.cancel()


@contextlib.asynccontextmanager
async def _browser() -> AsyncIterator[int]:
    program = chromium()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program,
            "--headless=new",
            "--no-sandbox",  # tests run as root, in a container
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            said = Path(profile) / "DevToolsActivePort"
            while not (said.exists() and "\n" in said.read_text()):  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.05)
            yield int(said.read_text().splitlines()[0])
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
