"""The idle agent's memory with 2,000 resources in the API, measured from outside, as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.control.world import RESOURCES
from agent.moves.custom_resources import MOVE_KINDS
from kube.api import NODE
from tests.apiserver.control_plane import _free_port
from tests.apiserver.manifests import kubeconfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.apiserver.conftest import Stage

ANONYMOUS_MIB_MAX = 70
COUNT = 2000


def memory_mib(pid: int) -> dict[str, int]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {key: int(found) // 1024 for key, found in re.findall(r"(VmHWM|VmRSS|RssAnon):\s+(\d+)", text)}


@contextlib.contextmanager
def memory_group() -> Iterator[Path | None]:
    """A memory cgroup of the test's own (version 1 or 2), where the machine lets it have one."""
    for root in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        group = root / f"kopia-data-mover-test-{os.getpid()}"
        if not (root / "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            yield group if working_set_mib(group) else None
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
        return
    yield None


def working_set_mib(group: Path) -> dict[str, int]:
    """What a kubelet calls the working set: all that is charged but file pages that nobody used lately."""
    for usage, inactive in (
        ("memory.current", "inactive_file"),
        ("memory.usage_in_bytes", "total_inactive_file"),
    ):
        if (group / usage).exists():
            charged = int((group / usage).read_text())
            [idle] = re.findall(rf"^{inactive} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            return {"working set": (charged - int(idle)) // 2**20}
    return {}


@pytest.mark.timeout(200)
async def test_idle_agent_with_2000_resources_stays_small(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await stage.kube.create(NODE, "", {"metadata": {"name": "node-2"}})
    await fill(stage)
    with memory_group() as group:
        used, code = await measured(stage, tmp_path, group)
    with capsys.disabled():
        print(f"\nnode-agent, {COUNT} resources, idle, MiB: {used}")
    assert used["RssAnon"] <= ANONYMOUS_MIB_MAX
    assert code == 0


async def measured(stage: Stage, tmp_path: Path, group: Path | None) -> tuple[dict[str, int], int | None]:
    """Memory of an agent that is ready and idle, and the code with which it ends."""
    port = _free_port()
    joining = f'echo $$ > {group}/cgroup.procs; exec "$@"' if group else 'exec "$@"'
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", joining, "sh", sys.executable),
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
        used = memory_mib(process.pid) | (working_set_mib(group) if group else {})
    finally:
        process.terminate()
        await process.communicate()
    return used, process.returncode


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
