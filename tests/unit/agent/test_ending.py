"""SIGTERM ends the agent, whatever it is at; a refused watch does not end a mover."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import yaml

from agent.control.world import RESOURCES
from agent.upstream_mover import UpstreamMover, parse_arguments
from kube.api import ForbiddenError, KubeError, Resource
from mover.cancel import CancelToken
from tests.fakes.kube import FakeKube
from tests.fakes.resources import body

if TYPE_CHECKING:
    from pathlib import Path

_STUBBORN = """
import asyncio, threading
from agent import cli
cli._END_SECONDS = 0.3
async def stubborn():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    print("at work", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
asyncio.run(cli._until_stopped(stubborn()))
"""


def ended(process: subprocess.Popen[str], said: str) -> int:
    """Send SIGTERM once the process has said something, and return its exit code."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if said in line:
                break
        else:
            pytest.fail(f"the process ended before it said {said!r}")
        process.send_signal(signal.SIGTERM)
        return process.wait(30)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def spawned(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-Wignore", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_agent_that_waits_for_the_api_server_ends_in_order(tmp_path: Path) -> None:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "c", "user": {"token": "t"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    server = spawned(
        "-m",
        "agent.cli",
        "server",
        f"--kubeconfig={path}",
        "--node-agent-configmap=cfg",
        "--metrics-address=127.0.0.1:0",
    )
    assert ended(server, "API server is waited for") == 0


def test_what_refuses_to_end_is_ended() -> None:
    assert ended(spawned("-c", _STUBBORN), "at work") == 1


async def test_cancel_watch_that_is_refused_does_not_fail_a_finished_backup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kube = FakeKube()
    kube.put(RESOURCES["DataUpload"], body("DataUpload", status={"phase": "InProgress"}))
    refusals = 0

    def fail(verb: str, _resource: Resource, _name: str) -> KubeError | None:
        nonlocal refusals
        refusals += verb == "watch"
        refused = verb == "watch" and refusals == 1
        return ForbiddenError("datauploads is forbidden", status=403) if refused else None

    kube.fail = fail
    command = ["data-mover", "backup", "--volume-path=/x", "--data-upload=move-1", "--namespace=velero"]
    cancel = CancelToken()
    mover = UpstreamMover(kube, parse_arguments(command), cancel)

    async def ready(*_: object) -> dict:
        return {}

    async def move(*_: object) -> tuple[int, str]:
        """Go on over the refusal, until the cancel that follows it is heard."""
        while not refusals:  # noqa: ASYNC110 - a count tells nobody
            await asyncio.sleep(0.01)
        kube.change(RESOURCES["DataUpload"], "velero", "move-1", {"spec": {"cancel": True}})
        end = time.monotonic() + 30
        while not cancel.is_set and time.monotonic() < end:  # noqa: ASYNC110 - the token is a thread's
            await asyncio.sleep(0.01)
        return 0, "saved"

    monkeypatch.setattr("agent.upstream_mover.load_engine", lambda: None)
    monkeypatch.setattr("agent.upstream_mover._BACKOFF_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(mover, "_ready", ready)
    monkeypatch.setattr(mover, "_move", move)
    assert await mover.run() == (0, "saved")
    assert refusals >= 1
    assert cancel.is_set
