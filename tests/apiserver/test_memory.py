"""The idle agent's memory with 2,000 resources in the API, measured from outside, as a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.resources import MOVE_KINDS
from agent.world import RESOURCES
from exposer.kube import NODE
from tests.apiserver.control_plane import _free_port
from tests.apiserver.manifests import kubeconfig

if TYPE_CHECKING:
    from tests.apiserver.conftest import Stage

ANONYMOUS_MIB_MAX = 70
COUNT = 2000


def memory_mib(pid: int) -> dict[str, int]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {key: int(found) // 1024 for key, found in re.findall(r"(VmHWM|VmRSS|RssAnon):\s+(\d+)", text)}


@pytest.mark.timeout(200)
async def test_idle_agent_with_2000_resources_stays_small(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await stage.kube.create(NODE, "", {"metadata": {"name": "node-2"}})
    await fill(stage)
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.velero_command",
        "node-agent",
        "server",
        f"--kubeconfig={kubeconfig(stage.plane, tmp_path)}",
        f"--metrics-address=127.0.0.1:{port}",
        "--log-format=json",
        "--some-flag-of-tomorrow",
        env=os.environ | {"NODE_NAME": "node-1"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await asyncio.to_thread(wait_ready, port)
        await asyncio.sleep(5)
        metrics = await asyncio.to_thread(read, port, "metrics")
        assert "podVolume_data_upload_success_total" in metrics
        assert await asyncio.to_thread(read, port, "healthz") == "ok"
        assert '"node":"node-1"' in await asyncio.to_thread(read, port, "api/moves")
        used = memory_mib(process.pid)
        with capsys.disabled():
            print(f"\nnode-agent, {COUNT} resources, idle, MiB: {used}")
        assert used["RssAnon"] <= ANONYMOUS_MIB_MAX
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


async def fill(stage: Stage) -> None:
    """Half of them final, half waiting on another node."""
    final = {"phase": "Completed", "completionTimestamp": "2026-11-21T12:00:00Z", "snapshotID": "ab"}

    async def make(number: int) -> None:
        kind = MOVE_KINDS[number % len(MOVE_KINDS)]
        waiting = {
            "status": {"phase": "InProgress", "node": "node-2"},
            "metadata": {"finalizers": [kind.finalizer]},
        }
        spec = {"node": "node-2"} if kind.name == "PodVolumeBackup" else {}
        await stage.create(kind.name, f"move-{number}", spec=spec)
        patch = {"status": final} if number % 8 < 4 else waiting
        await stage.kube.patch(RESOURCES[kind.name], "velero", f"move-{number}", patch)

    for start in range(0, COUNT, 50):
        await asyncio.gather(*(make(number) for number in range(start, start + 50)))


def read(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
        return str(answer.read().decode())


def wait_ready(port: int) -> None:
    for _ in range(300):
        try:
            if read(port, "readyz") == "ok":
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("not ready in 30 s")
