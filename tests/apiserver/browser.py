"""A real Chromium without a window: what a page looks like after its script has run, as markup or as a picture."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

# Time of the page's own clock until it is looked at; network is waited for, whatever the machine's load.
_PAGE_MILLISECONDS = 5000
_SECONDS_MAX = 150


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


async def look(url: str, *how: str, width: int = 1280, height: int = 900) -> tuple[str, str]:
    """Open a page; return what Chromium wrote: with `--dump-dom` the markup, and the page's console."""
    program = chromium()
    assert program is not None
    with tempfile.TemporaryDirectory() as profile:
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
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            f"--virtual-time-budget={_PAGE_MILLISECONDS}",
            *how,
            url,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                output, errors = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
    console = [line for line in errors.decode(errors="replace").splitlines() if "CONSOLE" in line]
    return output.decode(), "\n".join(console)


async def picture(url: str, path: Path, *how: str, width: int = 1280, height: int = 900) -> None:
    """Write a PNG of the page."""
    await look(url, f"--screenshot={path}", *how, width=width, height=height)
