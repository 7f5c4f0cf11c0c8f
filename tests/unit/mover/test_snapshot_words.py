"""`latest`, short IDs, paths and times through the commands: the bytes that come back are those of that time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mover import cli
from repository.session import create_repository, open_repository

PASSWORD = "test-password"
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two snapshots of `docs` and one of `other`; `ids` names them."""
    root = tmp_path_factory.mktemp("made")
    create_repository(str(root / "made"), PASSWORD)
    ids = {}
    with open_repository(str(root / "made"), PASSWORD) as session:
        for name, directory in (("old", "docs"), ("new", "docs"), ("other", "other")):
            (root / directory).mkdir(exist_ok=True)
            (root / directory / "letter").write_text(f"{name} letter")
            ids[name] = session.backup(root / directory).snapshot.id
    (root / "ids").write_text(json.dumps(ids))
    return root


@pytest.fixture
def place(made: Path) -> Iterator[Path]:
    """Its directory, with a fresh copy of the repository in `repository`."""
    shutil.copytree(made / "made", made / "repository")
    yield made
    for name in ("repository", "second", "target"):
        shutil.rmtree(made / name, ignore_errors=True)


@pytest.fixture
def typed(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Runs the words; gives exit code, standard output and standard error."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("KOPIA_PASSWORD", PASSWORD)
    monkeypatch.setenv("HOME", str(place / "home"))

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main([*words, "--repo", "repository"])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


def _ids(place: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((place / "ids").read_text())
    return found


def _start(place: Path, name: str) -> str:
    with open_repository(str(place / "repository"), PASSWORD) as session:
        return str(session.snapshot(_ids(place)[name]).document["startTime"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("latest",), "other letter"),
        (("docs",), "new letter"),
        (("{place}/docs",), "new letter"),
        (("docs@{old}",), "old letter"),
        (("latest@{old}",), "old letter"),
        (("{short}",), "old letter"),
    ],
)
def test_restore_cat_and_ls_take_every_name(
    typed: Typed, place: Path, words: tuple[str], expected: str
) -> None:
    short = _ids(place)["old"][:12]
    word = words[0].format(place=place, old=_start(place, "old"), short=short)
    code, _, said = typed("restore", word, "target")
    assert code == 0, said
    assert (place / "target" / "letter").read_text() == expected
    assert f"{word} is " in said
    assert " ago" in said
    assert typed("cat", f"{word}/letter")[:2] == (0, expected)
    assert typed("ls", word)[:2] == (0, "letter\n")


def test_diff_verify_show_and_backup_take_them_too(typed: Typed, place: Path) -> None:
    assert typed("diff", f"docs@{_start(place, 'old')}", "docs")[1] == "M .\nM letter\n"
    assert json.loads(typed("snapshot", "show", "docs", "--json")[1])["id"] == _ids(place)["new"]
    verified = json.loads(typed("verify", "latest", "--percent", "100", "--json")[1])
    assert verified["stats"]["processedObjectCount"] == 2  # a file and its directory, not all snapshots
    assert typed("backup", "docs", "--parent", "docs")[0] == 0


def test_delete_says_what_it_deletes_and_dry_run_deletes_nothing(typed: Typed, place: Path) -> None:
    ids = _ids(place)
    code, out, _ = typed("snapshot", "delete", f"docs@{_start(place, 'old')}", "--dry-run")
    assert code == 0
    assert "would delete 1 snapshot" in out
    assert ids["old"] in out
    assert str(place / "docs") in out
    assert typed("snapshot", "show", ids["old"])[0] == 0
    code, out, _ = typed("snapshot", "delete", "latest", ids["other"], "--json")
    assert json.loads(out)["deleted"] == [ids["other"]]
    listed = [one["id"] for one in json.loads(typed("snapshot", "list", "--all", "--json")[1])]
    assert sorted(listed) == sorted([ids["old"], ids["new"]])


def test_delete_takes_no_source_for_its_newest_snapshot(typed: Typed, place: Path) -> None:
    code, _, said = typed("snapshot", "delete", "docs")
    assert code == 2
    assert "docs@TIME" in said
    assert len(json.loads(typed("snapshot", "list", "--all", "--json")[1])) == 3


def test_pin_and_copy_take_them(typed: Typed, place: Path) -> None:
    code, out, _ = typed("snapshot", "pin", "docs", "--add", "audit")
    assert code == 0
    assert json.loads(typed("snapshot", "show", out.strip(), "--json")[1])["pins"] == ["audit"]
    create_repository(str(place / "second"), PASSWORD)
    assert typed("snapshot", "copy", "second", "latest")[0] == 0
    with open_repository(str(place / "second"), PASSWORD) as session:
        (copied,) = session.snapshots()
        assert session.open_file(f"{copied.id}/letter").read() == b"other letter"


def test_nothing_is_restored_under_a_name_that_is_unknown(typed: Typed, place: Path) -> None:
    code, _, said = typed("restore", "latset", "target")
    assert code != 0
    assert "did you mean latest?" in said
    assert len(said.splitlines()) == 1
    assert not (place / "target").exists()
