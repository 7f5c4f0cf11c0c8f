"""The report of a run: a line per test with the contract's item, what was shown, outcome, time and facts noted.

Written as Markdown and JSON where CLUSTER_REPORT names a path without its ending. With CLUSTER_REPORT_MERGE=1 a run of
some tests replaces their lines and keeps the others: each line says when it was made.
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

_LINES: dict[str, dict[str, Any]] = {}
_HEAD = """# Acceptance tests on a real cluster

An unmodified Velero 1.18.3 (server, plugin, command line) on Kubernetes 1.35.4 with kubelet, containerd, a CSI driver with
snapshots and an S3 server; our node-agent put in by `kubectl set image`. Made by `make e2e`, {when}, at {commit}, {machine}.
Items are those of the node-agent contract's list of acceptance tests. {passed} passed, {failed} failed.

| Item | What was shown | Outcome | Seconds | Facts | Made |
|---|---|---|---|---|---|
"""


def note(item: pytest.Item, result: pytest.TestReport) -> None:
    """Takes one phase of one test in; a teardown that fails (something was left over) fails the test."""
    marker = item.get_closest_marker("item")
    number = marker.args[0] if marker else ""
    line = _LINES.setdefault(
        item.nodeid, {"item": number, "test": item.name, "outcome": "passed", "seconds": 0.0}
    )
    line["seconds"] = round(line["seconds"] + result.duration, 1)
    line["facts"] = [f"{key}: {value}" for key, value in item.user_properties]
    if result.outcome != "passed":
        line["outcome"] = result.outcome if result.when == "call" else f"{result.outcome} ({result.when})"


def write(path: str) -> None:
    """Writes the report, if a path is named and anything ran."""
    if not path or not _LINES:
        return
    for line in _LINES.values():
        line["made"] = f"{datetime.now(UTC):%m-%d %H:%M}, {_commit()}"
    _merge(Path(f"{path}.json"))
    lines = sorted(
        _LINES.values(), key=lambda line: [int(part) for part in line["item"].split(".") if part.isdigit()]
    )
    document = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{platform.machine()}, {_cores()} cores, Linux {platform.release()}",
        "passed": sum(line["outcome"] == "passed" for line in lines),
        "failed": sum(line["outcome"] != "passed" for line in lines),
    }
    rows = [
        f"| {line['item']} | {line['test'].removeprefix('test_').replace('_', ' ')} | {line['outcome']} | "
        f"{line['seconds']} | {'; '.join(line['facts']).replace('|', '/')} | {line['made']} |\n"
        for line in lines
    ]
    Path(f"{path}.md").write_text(_HEAD.format(**document) + "".join(rows), encoding="utf-8")
    Path(f"{path}.json").write_text(
        json.dumps(document | {"lines": lines}, indent=1) + "\n", encoding="utf-8"
    )


def _merge(earlier: Path) -> None:
    if os.environ.get("CLUSTER_REPORT_MERGE") and earlier.exists():
        known = {line["test"] for line in _LINES.values()}
        lines = json.loads(earlier.read_text(encoding="utf-8"))["lines"]
        _LINES.update({line["test"]: line for line in lines if line["test"] not in known})


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "an unknown commit"


def _cores() -> int:
    return len(os.sched_getaffinity(0))
