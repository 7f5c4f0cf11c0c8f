"""`find`, `stats`, `snapshot expire --keep-…`, `policy list|delete|export|import`, `cache`: on a real repository."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mover import cli
from repository.policies import Target
from repository.session import create_repository, open_repository

PASSWORD = "test-password"
Typed = Callable[..., tuple[int, str, str]]
RULE = {"retention": {"keepLatest": 5}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four snapshots of `docs`: a letter changes in the second, moves away in the third, comes back."""
    root = tmp_path_factory.mktemp("made")
    create_repository(str(root / "made"), PASSWORD)
    (root / "docs" / "post").mkdir(parents=True)
    (root / "docs" / "zeros").write_bytes(bytes(200_000))
    letter, ids = root / "docs" / "post" / "Letter.txt", []
    with open_repository(str(root / "made"), PASSWORD) as session:
        for text in ("first", "second", None, "second"):
            if text is None:
                letter.unlink()
            else:
                letter.write_text(text)
            ids.append(session.backup(root / "docs").snapshot.id)
        session.set_policy(Target("a", "b", "/c"), RULE)
    (root / "ids").write_text(json.dumps(ids))
    return root


@pytest.fixture
def place(made: Path) -> Iterator[Path]:
    """Its directory, with a fresh copy of the repository in `repository`."""
    shutil.copytree(made / "made", made / "repository")
    yield made
    shutil.rmtree(made / "repository")
    shutil.rmtree(made / "home", ignore_errors=True)


@pytest.fixture
def typed(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Runs the words; gives exit code, standard output and standard error."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("KOPIA_PASSWORD", PASSWORD)
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main([*words, "--repo", "repository"])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


def _ids(place: Path) -> list[str]:
    found: list[str] = json.loads((place / "ids").read_text())
    return found


def _listed(typed: Typed) -> list[str]:
    return [one["id"] for one in json.loads(typed("snapshot", "list", "--json")[1])]


def test_find_tells_where_a_file_is_and_when_it_changed(typed: Typed, place: Path) -> None:
    first, second, _, fourth = _ids(place)
    found = json.loads(typed("find", "Letter.txt", "--json")[1])
    assert [(one["snapshot"], one["path"], one["same"]) for one in found] == [
        (first, "post/Letter.txt", False),
        (second, "post/Letter.txt", False),
        (fourth, "post/Letter.txt", False),
    ]
    code, shown, _ = typed("find", "zer*", "--changed")
    assert code == 0
    assert first in shown
    assert "zeros" in shown
    assert second not in shown
    assert len(json.loads(typed("find", "zeros", "--json")[1])) == 4


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("letter.txt",), 0),
        (("letter.txt", "-i"), 3),
        (("post/*.txt",), 3),
        (("/post/Letter.txt", "latest"), 1),
        (("*/Letter.txt", "latest", "latest"), 1),
        (("post",), 4),
    ],
)
def test_find_takes_names_paths_and_snapshots(typed: Typed, words: tuple[str, ...], count: int) -> None:
    assert len(json.loads(typed("find", *words, "--json")[1])) == count


def test_stats_counts_what_is_stored_once(typed: Typed, place: Path) -> None:
    found = json.loads(typed("stats", "--json")[1])
    assert found["snapshotCount"] == 4
    assert found["restoreSize"] == 4 * 200_000 + len("first") + 2 * len("second")
    assert 200_000 < found["contentSize"] < 250_000  # the zeros once, letters and directories
    assert found["dedupRatio"] == round(found["restoreSize"] / found["contentSize"], 3)
    assert found["blobSize"] == sum(path.stat().st_size for path in (place / "repository").rglob("*.f"))
    one = json.loads(typed("stats", "latest", "--json")[1])
    assert one["restoreSize"] == 200_000 + len("second")
    assert "1:" in typed("stats")[1]


def test_expire_by_a_rule_of_this_once_keeps_the_policy(typed: Typed, place: Path) -> None:
    ids = _ids(place)
    code, out, _ = typed("snapshot", "expire", "--keep-last", "2", "--dry-run", "--json")
    assert (code, sorted(json.loads(out)["expired"])) == (0, sorted(ids[:2]))
    assert _listed(typed) == ids
    policies = typed("policy", "list", "--json")[1]
    assert typed("snapshot", "expire", "docs", "--keep-latest", "1")[0] == 0
    assert _listed(typed) == ids[3:]
    assert typed("policy", "list", "--json")[1] == policies
    typed("restore", "latest", "target")
    assert (place / "target" / "post" / "Letter.txt").read_text() == "second"
    shutil.rmtree(place / "target")


def test_policies_are_exported_deleted_and_imported_again(typed: Typed, place: Path) -> None:
    file = place / "home" / "policies.json"
    file.parent.mkdir()
    assert typed("policy", "export", str(file))[0] == 0
    assert json.loads(file.read_text())["a@b:/c"] == RULE
    assert typed("policy", "export", str(file))[0] == 30  # what is there is not overwritten
    assert "a@b:/c" in typed("policy", "delete", "a@b:/c", "--dry-run")[1]
    assert typed("policy", "delete", "a@b:/c")[0] == 0
    assert "a@b:/c" not in typed("policy", "list")[1]
    assert typed("policy", "delete", "a@b:/c")[0] == 2
    assert typed("policy", "import", str(file))[0] == 0
    with open_repository(str(place / "repository"), PASSWORD) as session:
        assert session.policy(Target("a", "b", "/c")) == RULE


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "x",
        '{"a@b:/d": 5}',
        '{"nobody": {}}',
        '{"a@b:/c": {}, "a@b:/d": {"compression": {"compressorName": "x"}}}',
    ],
)
def test_a_file_that_is_wrong_anywhere_changes_nothing(text: str, typed: Typed, place: Path) -> None:
    file = place / "home" / "policies.json"
    file.parent.mkdir()
    file.write_text(text)
    code, _, said = typed("policy", "import", str(file))
    assert code == 2, said
    with open_repository(str(place / "repository"), PASSWORD) as session:
        assert session.policy(Target("a", "b", "/c")) == RULE


def test_the_cache_is_told_and_cleared_and_nothing_else_is(typed: Typed, place: Path) -> None:
    cache = place / "home" / ".cache" / "kopia-data-mover" / "blobs"
    storage = cache / "0123456789abcdef"
    storage.mkdir(parents=True)
    (storage / "xn0").write_bytes(bytes(1000))
    (cache / "letters").mkdir()
    (cache / "letters" / "mine").write_text("mine")
    (cache / "0123456789abcdee").symlink_to(cache / "letters")
    found = json.loads(typed("cache", "info", "--json")[1])
    assert (found["directory"], found["fileCount"], found["size"]) == (str(cache), 1, 1000)
    assert typed("cache", "clear")[0] == 0
    assert sorted(os.listdir(cache)) == ["0123456789abcdee", "letters"]
    assert (cache / "letters" / "mine").read_text() == "mine"


def test_what_is_found_gives_a_terminal_no_orders(typed: Typed, place: Path) -> None:
    (place / "hostile").mkdir(exist_ok=True)
    (place / "hostile" / "a\x1b[31m\nb").write_text("x")
    assert typed("backup", "hostile")[0] == 0
    code, shown, _ = typed("find", "a*b")
    assert code == 0
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 3  # the snapshot, the file, the count
