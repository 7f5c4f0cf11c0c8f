"""A clock that is set, an agent that stands still for a while, an API server that answers nobody: a real process of each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.control.world import RESOURCES, utc_now
from agent.moves.custom_resources import format_time
from tests.apiserver.control_plane import _free_port
from tests.apiserver.manifests import kubeconfig
from tests.fakes.kubelet import succeed_with
from tests.parts import lacking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from kube.api import Json
    from tests.apiserver.conftest import Stage

PREPARE_SECONDS = 4
# Timeouts that a stall of some seconds exceeds; in production they are half a minute and two.
IMPATIENT = """
import sys
from kube import client as kube_client
kube_client._REQUEST_SECONDS, kube_client._SILENCE_SECONDS = 1.0, 1.5
from agent.velero_command import main
sys.exit(main())
"""


class AgentProcess:
    """The node-agent of node-1, as a process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port

    def read(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
            return str(answer.read().decode())

    async def answers(self, path: str, text: str) -> bool:
        with contextlib.suppress(OSError):
            return text in await asyncio.to_thread(self.read, path)
        return False

    async def now(self) -> datetime:
        """Its wall clock."""
        document = json.loads(await asyncio.to_thread(self.read, "api/moves"))
        return datetime.fromisoformat(document["now"])


@contextlib.asynccontextmanager
async def agent_process(
    stage: Stage, tmp_path: Path, *flags: str, **environment: str
) -> AsyncIterator[AgentProcess]:
    port = _free_port()
    arguments = [f"--kubeconfig={kubeconfig(stage.plane, tmp_path)}", f"--metrics-address=127.0.0.1:{port}"]
    # The host path of the pods directory is not there: what is moved here are volumes of claims.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        IMPATIENT,
        "node-agent",
        "server",
        *arguments,
        *flags,
        env=os.environ | {"NODE_NAME": "node-1"} | environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    agent = AgentProcess(process, port)
    try:
        await stage.until(lambda: agent.answers("readyz", "ok"), 30)
        yield agent
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        await process.wait()


@contextlib.contextmanager
def held(pid: int) -> Iterator[None]:
    """Nothing of a process runs while the block does."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def clock_library(directory: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        lacking("cc: a C compiler, for a wall clock that can be set")
    library = directory / "wall_clock.so"
    source = Path(__file__).parent / "wall_clock.c"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


async def test_clock_that_is_set_ends_no_wait_before_its_time_and_keeps_none_beyond_it(
    stage: Stage, tmp_path: Path
) -> None:
    await stage.source_volume()
    stage.kubelet.held["move-1"] = {"phase": "Pending"}
    library, file = clock_library(tmp_path), tmp_path / "clock"
    file.write_bytes(struct.pack("q", 0))
    timeout = f"--data-mover-prepare-timeout={PREPARE_SECONDS}s"
    clocked = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(file)}
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 8) as ahead:
        async with agent_process(stage, tmp_path, timeout, **clocked) as agent:
            await stage.create("DataUpload")
            began = time.monotonic()
            await stage.phase("DataUpload", "Accepted")
            for hours in (1, -1):
                ahead[:8] = struct.pack("q", hours * 3600)
                assert abs((await agent.now() - utc_now()).total_seconds() - hours * 3600) < 60
                note = {"metadata": {"annotations": {"looked-at": f"{hours}"}}}  # so that it is looked at now
                await stage.kube.patch(RESOURCES["DataUpload"], "velero", "move-1", note)
                assert await agent.answers("healthz", "ok")
                await asyncio.sleep(0.3)
                phase = (await stage.status("DataUpload"))["phase"]
                # A machine that is busy may come here late; the time of acceptance has whole seconds.
                assert phase == "Accepted" or time.monotonic() - began > PREPARE_SECONDS - 1
            status = await stage.phase("DataUpload", "Failed", seconds=30)
            assert time.monotonic() - began >= PREPARE_SECONDS - 1
    assert "timeout on preparing data upload" in status["message"]
    assert status["completionTimestamp"] < format_time(utc_now()), "as its own clock says"


async def test_agent_and_api_server_may_stand_still(stage: Stage, tmp_path: Path) -> None:
    """Longer than every timeout: what happened meanwhile is found, nothing is done twice, nothing is lost."""
    release = asyncio.Event()

    async def mover(request: str, pod: Json, canceled: asyncio.Event) -> tuple[int, str]:
        await release.wait()
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    await stage.source_volume()
    async with agent_process(stage, tmp_path) as agent:
        await stage.create("DataUpload")
        await stage.phase("DataUpload", "InProgress")
        with held(agent.process.pid):
            release.set()
            await stage.create("DataUpload", "canceled", spec={"cancel": True})
            await stage.create("DataUpload", "wrong", spec={"sourcePVC": "gone"})
            await asyncio.sleep(2)
            assert (await stage.status("DataUpload"))["phase"] == "InProgress"
        assert (await stage.phase("DataUpload", "Completed"))["snapshotID"] == "b3c0"
        await stage.phase("DataUpload", "Canceled", "canceled")
        await stage.phase("DataUpload", "Failed", "wrong")
        with held(stage.plane.api_server_pid):
            await asyncio.sleep(2)
            assert agent.process.returncode is None
        await stage.create("DataUpload", "later", spec={"sourcePVC": "gone"})
        await stage.phase("DataUpload", "Failed", "later")
        for name in ("move-1", "canceled", "wrong", "later"):
            await stage.released("DataUpload", name)
        assert await agent.answers("healthz", "ok")
        assert stage.kubelet.ran == ["move-1"]
