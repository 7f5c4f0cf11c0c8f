"""Snapshots copied into another repository: the real kopia verifies and restores the copies, nothing is stored twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.trees import assert_same_tree, sample_tree

pytestmark = pytest.mark.kopia

TARGETS = [
    pytest.param(["--format-version=1", "--block-hash=BLAKE2B-256"], id="v1"),
    pytest.param(["--format-version=3", "--object-splitter=FIXED-1M", "--ecc-overhead-percent=5"], id="ecc"),
]


def _bytes(repository: Path) -> int:
    return sum(one.stat().st_size for one in repository.rglob("p*/**/*.f"))


@pytest.mark.parametrize("options", TARGETS)
def test_kopia_verifies_and_restores_what_was_copied(
    kopia: Kopia, mover: Mover, tmp_path: Path, options: list[str]
) -> None:
    """Two snapshots by both programs into a repository of kopia with another password and another format."""
    kopia.create()
    kopia("policy", "set", "--global", "--compression=zstd")
    source = sample_tree(tmp_path / "source")
    first = kopia.backup(source, "--tags=kind:first")
    (source / "added").write_bytes(b"added" * 700_000)
    second = mover.backup(source)
    target = Kopia(kopia.binary, tmp_path / "target-home", tmp_path / "target", "another password")
    target.create(*options)
    mover.environment["KOPIA_TARGET_PASSWORD"] = target.password
    assert len(mover.json("snapshot", "copy", target.repository, "--dry-run")["copied"]) == 2
    report = mover.json("snapshot", "copy", target.repository)
    copies = {one["id"]: one["copy"] for one in report["copied"]}
    assert copies.keys() == {first["id"], second["id"]}
    target.prove()
    target.restore(copies[second["id"]], tmp_path / "restored")
    assert_same_tree(source, tmp_path / "restored")
    target.restore(copies[first["id"]], tmp_path / "restored-first")
    assert not (tmp_path / "restored-first" / "added").exists()
    found = {one["id"]: one for one in target.snapshots()}
    assert {one: found[one]["startTime"] for one in found} == {
        copies[one["id"]]: one["startTime"] for one in (first, second)
    }
    assert found[copies[first["id"]]]["tags"] == {"tag:kind": "first"}


def test_a_second_copy_reads_and_stores_nothing_and_chosen_ones_share_their_data(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """Snapshots that are there are passed over; an unchanged one adds a manifest and no data."""
    mover.create()
    source = sample_tree(tmp_path / "source")
    first, second = mover.backup(source)["id"], mover.backup(source)["id"]
    target = Mover(tmp_path / "target-home", tmp_path / "target")
    target.create()
    assert len(mover.json("snapshot", "copy", target.repository, first)["copied"]) == 1
    before = _bytes(target.repository)
    report = mover.json("snapshot", "copy", target.repository)
    assert ([one["id"] for one in report["copied"]], report["present"]) == ([second], 1)
    assert _bytes(target.repository) == before
    again = mover.json("snapshot", "copy", target.repository)
    assert (again["copied"], again["present"], again["objects"]) == ([], 2, 0)
    refused = mover("snapshot", "copy", mover.repository, check=False)
    assert b"the same repository" in refused.stderr
    reader = Kopia(kopia.binary, tmp_path / "kopia-home", target.repository)
    reader.connect()
    reader.prove()


def test_sources_their_newest_snapshots_and_policies_are_chosen_as_kopia_migrate_does(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """Policies stand there as kopia had defined them; those of the target stay unless they are to be replaced."""
    kopia.create()
    source, other = (
        sample_tree(tmp_path / "source", large_bytes=1000),
        sample_tree(tmp_path / "other", large_bytes=1),
    )
    kopia.backup(source)
    newest = kopia.backup(source)
    kopia.backup(other)
    name = "{userName}@{host}:{path}".format(**newest["source"])
    kopia("policy", "set", name, "--keep-daily=77", "--add-ignore=*.tmp")
    kopia("policy", "set", "--global", "--keep-annual=55")
    target = Kopia(kopia.binary, tmp_path / "target-home", tmp_path / "target")
    target.create()
    only = ("--source", name, "--latest", "--policies")
    report = mover.json("snapshot", "copy", target.repository, *only)
    assert [one["id"] for one in report["copied"]] == [newest["id"]]
    assert report["policies"] == {"copied": [name], "present": []}
    everything = mover.json("snapshot", "copy", target.repository, "--policies", "--dry-run")
    assert everything["policies"] == {"copied": [], "present": ["(global)", name]}
    mover("snapshot", "copy", target.repository, "--overwrite-policies")
    assert target.json("policy", "show", name) == kopia.json("policy", "show", name)
    assert len(target.snapshots()) == 3
    target.prove()


def test_a_copy_that_was_killed_leaves_a_good_target_and_goes_on(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """Killed at some of its writes: no half snapshot is to be seen, and the next call finishes."""
    mover.create()
    source = sample_tree(tmp_path / "source", large_bytes=2_500_000, small_count=10)
    snapshot = mover.backup(source)["id"]
    target = Mover(tmp_path / "target-home", tmp_path / "target")
    target.create()
    for point in ("before:2", "after:2", "before:4"):
        mover("snapshot", "copy", target.repository, "--kill-at", point, check=False)
        assert target.snapshots() == []
    copy = mover.json("snapshot", "copy", target.repository, snapshot)["copied"][0]["copy"]
    reader = Kopia(kopia.binary, tmp_path / "kopia-home", target.repository)
    reader.connect()
    reader.prove()
    reader.restore(copy, tmp_path / "restored")
    assert_same_tree(source, tmp_path / "restored")
