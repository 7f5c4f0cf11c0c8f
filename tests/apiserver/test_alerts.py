"""The alerts by Prometheus' own `promtool test rules`: each fires for its fault, none on a day on which all goes well."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.apiserver.manifests import DEPLOY
from tests.parts import lacking

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Series = Mapping[str, list[float] | str]

Json = dict[str, Any]

P = "kopia_data_mover_"
NODE = 'exported_by_node="n1"'
GROUP = yaml.safe_load((DEPLOY / "monitoring" / "prometheus-rule.yaml").read_text())["spec"]
ALERTS = [rule["alert"] for group in GROUP["groups"] for rule in group["rules"] if "alert" in rule]
# What a healthy agent always exports; a case puts its own in place.
HEALTHY: Series = {
    f"{P}node_slots{{{NODE}}}": "1x3000",
    f"{P}prepare_queue_limit{{{NODE}}}": "0x3000",
    f"{P}prepare_queue_length{{{NODE}}}": "0x3000",
}


def fired(series: Series, minutes: list[int], where: Path) -> dict[int, set[str]]:
    """Which alerts fire at which minutes: asked by expecting none and reading what promtool got instead."""
    program = shutil.which("promtool")
    if program is None:
        lacking("promtool: apt-get install prometheus (Debian)")
    (where / "rules.yaml").write_text(json.dumps(GROUP))
    checks = [{"eval_time": f"{minute}m", "alertname": name} for minute in minutes for name in ALERTS]
    test = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": v if isinstance(v, str) else " ".join(map(str, v))}
            for name, v in {**HEALTHY, **series}.items()
        ],
        "alert_rule_test": [check | {"exp_alerts": []} for check in checks],
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (where / "test.yaml").write_text(json.dumps(document))
    done = subprocess.run(
        [program, "test", "rules", "test.yaml"], cwd=where, capture_output=True, text=True, check=False
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0 or "alertname:" in told, told
    found: dict[int, set[str]] = {minute: set() for minute in minutes}
    for line in told.splitlines():
        if "alertname:" in line and "time:" in line:
            name, moment = (part.split(":")[1].strip() for part in line.split(",")[:2])
            found[_minutes(moment)].add(name)
    assert done.returncode == 0 or any(found.values()), told
    return found


def _minutes(text: str) -> int:
    units = {"d": 1440, "h": 60, "m": 1, "s": 0}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))


def counting(until: int, a_minute: int) -> str:
    return f"0+{a_minute}x{until} {until * a_minute}x3000"


CASES: dict[str, tuple[Series, int]] = {
    "NodeAgentDown": (
        {'kube_daemonset_status_number_unavailable{daemonset="node-agent",namespace="velero"}': "0x5 1x60"},
        30,
    ),
    "NodeAgentAbsent": ({f"{P}node_slots{{{NODE}}}": "1x5 stale"}, 30),
    "NodeAgentRestarts": (
        {f'process_start_time_seconds{{container="node-agent",{NODE}}}': "1x9 2x9 3x9 4x30"},
        40,
    ),
    "NodeAgentDeaf": ({f"{P}watch_silent_seconds{{{NODE}}}": "0x5 200x30"}, 10),
    "VolumeNotBackedUp": (
        {f'{P}last_success_timestamp_seconds{{namespace="a",pvc="v",{NODE}}}': "0x3000"},
        1590,
    ),
    "DataMoveNobodyTakes": ({f'{P}oldest_move_seconds{{phase="New",{NODE}}}': "0+60x300"}, 60),
    "DataMoveFailed": ({f'{P}moves_total{{kind="DataUpload",phase="Failed",{NODE}}}': "0x10 1x60"}, 15),
    "StorageRetries": ({f"{P}storage_retries_total{{{NODE}}}": "0+9x300"}, 60),
    "DataMoveWaitsLong": ({f'{P}oldest_move_seconds{{phase="Canceling",{NODE}}}': "0+60x300"}, 90),
    "DataMoveStandsStill": (
        {f'{P}moves_under_way{{kind="DataUpload",phase="InProgress",{NODE}}}': "1x300"}
        | {
            f"{P}{name}_total{{{NODE}}}": counting(20, 9)
            for name in ("source_bytes", "cached_bytes", "files")
        }
        | {f'{P}moves_total{{kind="DataUpload",phase="Completed",{NODE}}}': "5x300"},
        100,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_alert_fires_for_its_fault_and_alone(name: str, tmp_path: Path) -> None:
    series, minute = CASES[name]
    found = fired(series, [1, minute], tmp_path)
    assert found[1] == set()
    assert found[minute] == {name}


def test_line_that_does_not_get_on_is_told_and_a_long_one_that_does_is_not(tmp_path: Path) -> None:
    """One mover reads only what is known for three hours, and twenty wait behind it."""
    series: Series = {
        f'{P}oldest_move_seconds{{phase="Prepared",{NODE}}}': "0+60x1000",
        f'{P}moves_under_way{{kind="DataUpload",phase="InProgress",{NODE}}}': "1x1000",
        f'{P}moves_total{{kind="DataUpload",phase="Completed",{NODE}}}': "0x1000",
        f"{P}source_bytes_total{{{NODE}}}": "0x1000",
        f"{P}cached_bytes_total{{{NODE}}}": counting(180, 1000),
        f"{P}files_total{{{NODE}}}": "0x1000",
    }
    found = fired(series, [70, 120, 180, 260], tmp_path)
    assert [found[minute] for minute in (70, 120, 180)] == [set(), set(), set()]
    assert found[260] == {"DataMoveWaitsLong", "DataMoveStandsStill"}


def test_full_prepare_queue_is_no_move_that_nobody_takes(tmp_path: Path) -> None:
    oldest = {f'{P}oldest_move_seconds{{phase="New",{NODE}}}': "0+60x300"}
    queue = {
        f"{P}prepare_queue_limit{{{NODE}}}": "2x300",
        f"{P}prepare_queue_length{{{NODE}}}": "2x200 1x100",
    }
    found = fired(oldest | queue, [120, 250], tmp_path)
    assert found[120] == set()
    assert found[250] == {"DataMoveNobodyTakes"}


def day() -> Series:
    """Two nights at 01:00 of thirty volumes on one node with one slot, 14 minutes each, every other unchanged."""
    count, each, length = 30, 14, 2880
    series: dict[str, list[float]] = {}

    def put(name: str, labels: str, minute: int, value: float) -> None:
        series.setdefault(f"{P}{name}{{{labels}{NODE}}}", [0] * length)[minute] = value

    done = read = cached = 0
    for minute in range(length):
        night = (minute % 1440) - 60
        began = night // each if 0 <= night < count * each else count
        moving = began < count
        ended = (minute // 1440) * count + (began if night >= 0 else 0)
        done = max(done, ended)
        read += 1000 if moving and began % 2 == 0 else 0
        cached += 1000 if moving and began % 2 else 0
        waiting = night * 60 if moving and began < count - 1 else 0
        put("moves_total", 'kind="DataUpload",phase="Completed",', minute, done)
        put("moves_total", 'kind="DataUpload",phase="Failed",', minute, 0)
        put("moves_under_way", 'kind="DataUpload",phase="InProgress",', minute, int(moving))
        put("oldest_move_seconds", 'phase="Prepared",', minute, waiting)
        put("oldest_move_seconds", 'phase="New",', minute, 20 if night == 0 else 0)
        put("source_bytes_total", "", minute, read)
        put("cached_bytes_total", "", minute, cached)
        put("files_total", "", minute, 0)
        put("storage_retries_total", "", minute, done * 2)
        put("watch_silent_seconds", "", minute, minute % 70)
        for volume in range(count):
            over = [60 + 1440 * n + each * (volume + 1) for n in (0, 1)]
            last = max([moment for moment in over if moment <= minute], default=over[0] - 1440)
            put("last_success_timestamp_seconds", f'namespace="app",pvc="v{volume}",', minute, last * 60)
    return dict(series)


def test_nothing_fires_on_days_of_thirty_volumes_and_one_slot(tmp_path: Path) -> None:
    found = fired(day(), list(range(10, 2880, 30)), tmp_path)
    assert {minute: names for minute, names in found.items() if names} == {}
    assert len(found) > 90
