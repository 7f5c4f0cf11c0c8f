"""What is printed for scripts: the same documents as the real program prints, where it prints the same thing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import Kopia, Mover

pytestmark = pytest.mark.kopia


@pytest.fixture
def filled(kopia: Kopia, mover: Mover, tmp_path: Path) -> Path:
    """A source with a snapshot by each program, in one repository with policies."""
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "below" / "file").write_text("some text that is worth compressing " * 400)
    (source / "link").symlink_to("below/file")
    kopia.create()
    kopia("policy", "set", source, "--compression=zstd", "--keep-latest=3")
    kopia.backup(source, "--tags=kind:first")
    (source / "more").write_text("more")
    mover.backup(source, "--tag", "kind:second", "--description", "ours")
    return source


def _ordered(found: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return sorted(found, key=lambda one: str(one[key]))


def test_lists_are_kopias(filled: Path, kopia: Kopia, mover: Mover) -> None:
    for words, key in (
        (("snapshot", "list", "--all"), "id"),
        (("content", "list"), "contentID"),
        (("blob", "list"), "id"),
    ):
        assert _ordered(mover.json(*words), key) == _ordered(kopia.json(*words), key)
    assert any("compression" in one for one in mover.json("content", "list"))
    assert _ordered(mover.json("policy", "show"), "id") == _ordered(kopia.json("policy", "list"), "id")


def test_policies_go_through_a_file_from_either_program_to_the_other(
    filled: Path, kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    assert _ordered(mover.json("policy", "list"), "id") == _ordered(kopia.json("policy", "list"), "id")
    mover("policy", "export", tmp_path / "ours.json")
    kopia("policy", "export", "--to-file", tmp_path / "kopias.json")
    ours, theirs = (json.loads((tmp_path / name).read_text()) for name in ("ours.json", "kopias.json"))
    assert ours == theirs
    assert ours
    mover("policy", "delete", filled)
    assert str(filled) not in mover("policy", "list").stdout.decode()
    kopia("policy", "import", "--from-file", tmp_path / "ours.json")
    mover("policy", "import", tmp_path / "kopias.json")
    kopia("policy", "export", "--to-file", tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == ours


def test_without_all_programs_are_told_of_every_snapshot_too(
    filled: Path, kopia: Kopia, mover: Mover
) -> None:
    kopia.backup(filled, "--override-source=somebody@elsewhere:/there")
    for words in (
        ("snapshot", "list"),
        ("snapshot", "list", str(filled / "below")),
        ("snapshot", "list", "/"),
    ):
        listed = _ordered(kopia.json(*words), "id")
        assert _ordered(mover.json(*words), "id") == listed
        assert len(listed) == {2: 3, 3: 2 if words[-1] != "/" else 0}[len(words)]
    assert b"somebody" not in mover("snapshot", "list").stdout


def test_the_status_has_kopias_fields(filled: Path, kopia: Kopia, mover: Mover) -> None:
    ours, theirs = mover.json("repo", "status"), kopia.json("repository", "status")
    for field in ("uniqueIDHex", "contentFormat", "objectFormat"):
        assert ours[field] == theirs[field]
    assert ours["storage"]["type"] == theirs["storage"]["type"]
    assert ours["storage"]["config"]["path"] == theirs["storage"]["config"]["path"]
    assert ours["clientOptions"].items() <= theirs["clientOptions"].items()
    assert ours["volume"].keys() == theirs["volume"].keys()


def test_the_history_of_maintenance_has_kopias_fields(filled: Path, kopia: Kopia, mover: Mover) -> None:
    ours, theirs = mover.json("maintenance", "info"), kopia.json("maintenance", "info")
    assert ours.keys() == theirs.keys()
    assert ours["schedule"].keys() == theirs["schedule"].keys()
    assert ours["schedule"]["runs"].keys() == theirs["schedule"]["runs"].keys()
