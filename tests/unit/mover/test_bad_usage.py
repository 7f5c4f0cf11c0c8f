"""Whatever is typed: one line that says what is wrong, the exit code of wrong usage, never a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mover import cli
from repository.session import create_repository, open_repository

PASSWORD = "test-password"
USAGE, PERMANENT = 2, 30
MOVER = Path(sys.executable).parent / "mover"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a repository, a source, and one snapshot of it."""
    root = tmp_path_factory.mktemp("place")
    (root / "source").mkdir()
    (root / "source" / "file").write_bytes(os.urandom(300_000))
    create_repository(str(root / "repository"), PASSWORD)
    with open_repository(str(root / "repository"), PASSWORD) as session:
        (root / "id").write_text(session.backup(root / "source").snapshot.id)
    return root


@pytest.fixture
def typed(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> object:
    """Runs the words in a line; gives exit code, standard output and standard error."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("KOPIA_PASSWORD", PASSWORD)
    monkeypatch.setenv("HOME", str(place / "home"))

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(list(words))
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


WRONG = [
    "snapshot list --repo=",
    "snapshot list --config=",
    "snapshot list --password-file=",
    "snapshot list --repo http://x/y",
    "snapshot list --repo source/file",
    "snapshot list --repo s3://",
    "snapshot list -n -3",
    "snapshot list -n 0",
    "snapshot list a@b:",
    "snapshot expire a@:x",
    "backup source --start-time yesterday",
    "backup source --compression nope",
    "backup source --parallel 0",
    "backup source --parallel 99999999999999999999",
    "backup source --checkpoint-interval nan",
    "backup source --memory-limit 64M",
    "backup source --override-source x",
    "backup source --tag nocolon",
    "backup source --tag a:b --tag a:c",
    "backup source --bogus",
    "backup source more",
    "backup",
    "restore ID",
    "restore ID - --json",
    "verify --percent 101",
    "verify --percent nan",
    "policy set --global --compression nope",
    "policy set --global --metadata-compression nope",
    "policy set --global --splitter nope",
    "policy set --global --add-ignore [a",
    "policy set --global --keep-latest -5",
    "policy set --global --keep-latest x",
    "policy set bla@",
    "policy set",
    "content inspect zz",
    "index inspect kopia.repository",
    "cat ID",
    "ls ID/file/x",
    "repo create other --block-hash nope",
    "repo create other --encryption nope",
    "repo create other --object-splitter nope",
    "completion xonsh",
    "repo",
    "bogus",
    "",
]


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_is_one_line_and_the_exit_code_2(line: str, typed, place: Path) -> None:
    words = line.replace("ID", (place / "id").read_text()).split()
    needs_repository = words and words[0] not in {"completion", "bogus"} and "--repo" not in line
    if needs_repository and "--config" not in line and "repo create" not in line and line != "repo":
        words += ["--repo", "repository"]
    code, out, err = typed(*words)
    assert code == USAGE, err
    assert not out
    assert "Traceback" not in err
    assert "mistake of the program" not in err
    assert err.startswith('{"error": ' if "--json" in words else "mover: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["backup", ""], ["restore", "ID", ""], ["restore", "", "x"], ["repo", "connect", ""]]
)
def test_an_empty_path_is_not_taken_for_the_current_directory(words: list[str], typed) -> None:
    code, _, err = typed(*words, *([] if words[0] == "repo" else ["--repo", "repository"]))
    assert code == USAGE
    assert "it is empty" in err


@pytest.mark.parametrize(
    "document",
    ["[]", "{}", "null", '{"url": 5}', '{"storage": 5}', '{"storage": {"type": "filesystem"}}', "x"],
)
def test_a_file_that_is_no_connection_is_refused(document: str, typed, place: Path) -> None:
    (place / "config.json").write_text(document)
    code, _, err = typed("snapshot", "list", "--config", "config.json")
    assert code == USAGE
    assert "config.json" in err
    assert "mistake of the program" not in err


def test_kopias_connection_file_is_never_written_or_removed(typed, place: Path) -> None:
    config = place / "repository.config"
    config.write_text(
        json.dumps({"storage": {"type": "filesystem", "config": {"path": str(place / "repository")}}})
    )
    before = config.read_bytes()
    assert typed("repo", "disconnect", "--config", str(config))[0] == USAGE
    assert typed("repo", "connect", "repository", "--config", str(config))[0] == USAGE
    assert config.read_bytes() == before
    assert typed("snapshot", "list", "--all", "--config", str(config))[0] == 0


def _shell(place: Path, line: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "KOPIA_PASSWORD": PASSWORD,
        "HOME": str(place),
        "M": str(MOVER),
        "ID": (place / "id").read_text(),
    }
    script = f"set -o pipefail; R='--repo repository'; {line}"
    return subprocess.run(
        ["bash", "-c", script],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    "line", ["$M ls -r $ID $R | head -c 1", "$M cat $ID/file $R | head -c 1", "$M --help | head -1"]
)
def test_a_reader_that_has_seen_enough_is_no_error(line: str, place: Path) -> None:
    done = _shell(place, line)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        "ls $ID",
        "cat $ID/file",
        "restore $ID -",
        "restore $ID - --format tar",
        "snapshot list --json --all",
        "repo status",
    ],
)
def test_output_that_cannot_be_written_is_an_error(command: str, place: Path) -> None:
    done = _shell(place, f"$M {command} $R > /dev/full")
    assert done.returncode == PERMANENT
    assert "no space left" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_closed_standard_streams_do_no_harm(place: Path) -> None:
    """Without them the repository's files would get their numbers, and messages would be written into packs."""
    for line in (
        "$M backup source $R --no-parent >&- 2>&- <&-",
        "$M backup source $R >&-",
        "$M backup nowhere $R 2>&-",
    ):
        done = _shell(place, line)
        assert done.returncode == (PERMANENT if "nowhere" in line else 0), done.stderr
    assert _shell(place, "$M verify --percent 100 $R").returncode == 0


def test_strange_places_are_only_places(place: Path) -> None:
    for name in ("sp ace", "ünï-日本", "per%20cent", "-dash"):
        done = _shell(
            place, f"$M repo create './{name}' --repo x && $M backup source --repo './{name}' && $M ls --json"
        )
        assert "created" in done.stdout, done.stderr
        assert "snapshot" in done.stdout
        assert done.returncode == USAGE
    url = "file://" + str(place) + "/sp%20ace"
    assert "source" in _shell(place, f"$M snapshot list --all --repo {url}").stdout
