"""README's walk-through, line by line as it stands there; only places and ports are the test's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.apiserver.control_plane import CLUSTER, _free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
HEADING = "## A DataUpload made by hand"
pytest.importorskip("repository._native", reason="the engine is not built: make build")


def commands() -> str:
    """The indented block below the heading."""
    section = (ROOT / "README.md").read_text().split(HEADING)[1].split("\n## ")[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ") or not line]
    return "\n".join(lines)


@pytest.fixture
def place(programs: None, kopia_binary: Path, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "demo"
    yield place
    down = [sys.executable, "-m", "tests.apiserver.demo", "down", str(place)]
    subprocess.run(down, cwd=ROOT, check=True)


@pytest.mark.timeout(400)
def test_readme_s_commands_move_a_volume_there_and_back(place: Path) -> None:
    script = commands()
    assert len(re.findall(r"^kubectl|\| kubectl", script, re.MULTILINE)) >= 4
    script = script.replace("make ", f"make BIN={Path(sys.executable).parent} DEMO={place} ").replace(
        "/tmp/kopia-data-mover", str(place)
    )
    script = script.replace("127.0.0.1:8085", f"127.0.0.1:{_free_port()}")
    script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    script = script.replace("$HOME/.cache/kopia-data-mover/cluster", str(CLUSTER))
    guarded = f"set -euxo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
    done = subprocess.run(
        ["bash", "-c", guarded],
        cwd=ROOT,
        env=os.environ | {"MAKEFLAGS": "", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
        timeout=360,
    )
    log = place / "agent.log"
    told = done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    assert done.returncode == 0, told
    assert "the same bytes" in done.stdout
    assert "Under way: 0" in done.stdout
    assert done.stdout.count("Completed") >= 2, "node-agent status shows both"
