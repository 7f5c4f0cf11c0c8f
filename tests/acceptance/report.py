"""The report of a run: a line per test with the contract's item, what was shown, outcome, time and facts noted.

Each pytest session leaves its lines as JSON where CLUSTER_REPORT_LINES says; `run.py` puts the lines of its sessions
together and writes them as Markdown and JSON.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

Line = dict[str, Any]
ITEM = "item"
_LINES: dict[str, Line] = {}
_HEAD = """# Acceptance tests on a real cluster

An unmodified Velero 1.18.3 (server, plugin, command line) on Kubernetes 1.35.4 with kubelet, containerd, a CSI driver with
snapshots and an S3 server; our node-agent put in by `kubectl set image`. Made by `make e2e`, {when}, at {commit}, {machine},
in {minutes} minutes. Items are those of the node-agent contract's list of acceptance tests. {passed} passed, {failed} failed, {skipped} skipped.

| Item | What was shown | Outcome | Seconds | Facts |
|---|---|---|---|---|
"""


def note(result: pytest.TestReport) -> None:
    """Takes one phase of one test in; a teardown that fails (something was left over) fails the test."""
    properties = [(key, value) for key, value in result.user_properties if key != ITEM]
    name = result.nodeid.partition("@")[0]  # pytest-xdist adds the group
    line = _LINES.setdefault(
        name,
        {
            "item": dict(result.user_properties).get(ITEM, ""),
            "test": name.rpartition("::")[2],
            "id": name,
            "outcome": "passed",
            "seconds": 0.0,
        },
    )
    line["seconds"] = round(line["seconds"] + result.duration, 1)
    line["facts"] = [f"{key}: {value}" for key, value in properties]
    if result.outcome != "passed":
        line["outcome"] = result.outcome if result.when == "call" else f"{result.outcome} ({result.when})"


def write_lines(path: str) -> None:
    """Leaves this session's lines."""
    if path:
        Path(path).write_text(json.dumps(list(_LINES.values()), indent=1), encoding="utf-8")


def counts(lines: list[Line]) -> tuple[int, int, int]:
    """How many passed, failed and were skipped."""
    passed = sum(line["outcome"].startswith("passed") for line in lines)
    skipped = sum(line["outcome"].startswith("skipped") for line in lines)
    return passed, len(lines) - passed - skipped, skipped


def write(path: Path, lines: list[Line], seconds: float) -> None:
    """Writes the report beside `path`, as `.md` and `.json`."""
    lines = sorted(
        lines,
        key=lambda line: [int(part) for part in line["item"].split(",")[0].split(".") if part.isdigit()],
    )
    passed, failed, skipped = counts(lines)
    document: dict[str, Any] = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}",
        "minutes": f"{seconds / 60:.1f}",
        "passed": passed,
        "failed": failed,
        "skipped": skipped,
    }
    rows = [
        f"| {line['item']} | {line['test'].removeprefix('test_').replace('_', ' ')} | {line['outcome']} | "
        f"{line['seconds']} | {'; '.join(line['facts']).replace('|', '/')} |\n"
        for line in lines
    ]
    path.with_suffix(".md").write_text(_HEAD.format(**document) + "".join(rows), encoding="utf-8")
    path.with_suffix(".json").write_text(
        json.dumps(document | {"lines": lines}, indent=1) + "\n", encoding="utf-8"
    )


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "an unknown commit"
