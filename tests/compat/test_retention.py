"""Which snapshots are kept, and why: the same as the real program says, over random histories."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from repository.requests import OpenOptions
from repository.session import open_repository
from tests.drivers import PASSWORD, Kopia, Mover

pytestmark = pytest.mark.kopia
DAY = 86_400
PERIODS = ("latest", "hourly", "daily", "weekly", "monthly", "annual")
Snapshots = list[dict[str, Any]]


def _write_history(repository: Path, first: dict[str, Any], pick: random.Random) -> None:
    """Forty more snapshots like `first`, over four years; some incomplete, some pinned."""
    now = datetime.now(UTC)
    common = {key: first[key] for key in ("source", "description", "stats", "rootEntry")}
    with open_repository(str(repository), PASSWORD, OpenOptions()) as session:
        for _ in range(40):
            span = pick.choice([DAY / 5, 3 * DAY, 40 * DAY, 400 * DAY, 1500 * DAY])
            start = now - timedelta(seconds=pick.random() * span)
            end = start + timedelta(seconds=pick.choice([0, 10, 4000]))
            extra: dict[str, Any] = {"pins": ["kept"]} if pick.random() < 0.1 else {}
            if pick.random() < 0.2:
                extra["incomplete"] = pick.choice(["checkpoint", "canceled", "limit reached"])
            times = {"startTime": start.isoformat(), "endTime": end.isoformat()}
            session.native.save_snapshot(json.dumps(common | times | extra))
        session.native.flush()


def _listed(program: Kopia | Mover, source: Path) -> Snapshots:
    found: Snapshots = program.json("snapshot", "list", source, "--incomplete")
    return sorted(found, key=lambda one: str(one["id"]))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_both_keep_the_same_snapshots_for_the_same_reasons(
    seed: int, kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    pick = random.Random(seed)
    source = tmp_path / "source"
    source.mkdir()
    kopia.create()
    first = mover.backup(source)
    _write_history(mover.repository, first, pick)
    kept = [f"--keep-{period}={pick.choice(['0', '1', '2', '3', '5', 'inherit'])}" for period in PERIODS]
    kopia("policy", "set", source, *kept)
    theirs = _listed(kopia, source)
    assert len(theirs) == 41
    assert _listed(mover, source) == theirs
    expiring = set(mover.json("snapshot", "expire", source, "--dry-run")["expired"])
    kopia("snapshot", "expire", source, "--delete")
    left = {one["id"] for one in _listed(kopia, source)}
    assert expiring == {one["id"] for one in theirs} - left
    assert expiring


def test_effective_and_defined_policies_are_what_kopia_shows(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    below = tmp_path / "source" / "below"
    below.mkdir(parents=True)
    kopia.create()
    kopia("policy", "set", "--global", "--compression=zstd", "--add-ignore=*.tmp", "--keep-annual=9")
    kopia("policy", "set", below.parent, "--add-never-compress=.zip", "--one-file-system=true")
    mover("policy", "set", below, "--keep-latest", "4", "--add-ignore", "*.log")
    for target in ("--global", below.parent, below):
        assert mover.json("policy", "show", target) == kopia.json("policy", "show", target)
    defined = mover.json("policy", "show", below, "--defined")
    assert {name: fields for name, fields in defined.items() if fields} == {
        "retention": {"keepLatest": 4},
        "files": {"ignore": ["*.log"]},
    }


def test_tags_pins_and_description_are_read_by_kopia(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    mover.create()
    snapshot = mover.backup(
        source, "--tag", "kind:nightly", "--description", "before <the> move", "--pin", "a"
    )
    changed = mover.json("snapshot", "pin", snapshot["id"], "--add", "b", "--remove", "a")["ids"]
    kopia.connect()
    (found,) = kopia.json("snapshot", "list", "--all", "--tags", "kind:nightly")
    assert found["id"] == changed[0]
    assert (found["tags"], found["pins"]) == ({"tag:kind": "nightly"}, ["b"])
    assert found["description"] == "before <the> move"
    kopia("snapshot", "pin", changed[0], "--add=c")
    (again,) = mover.snapshots()
    assert again["pins"] == ["b", "c"]
