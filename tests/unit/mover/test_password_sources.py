"""Where a password comes from: typed twice when it is new, printed by a command, and which one was refused."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

from mover import cli
from repository.errors import RepositoryNotFoundError
from repository.session import create_repository, open_repository

MOVER = str(Path(sys.executable).parent / "mover")
PASSWORD = "test-password"


def _at_a_terminal(words: list[str], answers: list[str], home: Path) -> tuple[int, str]:
    """Runs `mover` at a terminal, where each question is answered; the exit code and all that was shown."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(MOVER, [MOVER, *words], {"HOME": str(home), "PATH": "/usr/bin"})  # noqa: S606
    shown, left = b"", list(answers)
    while True:
        try:
            shown += os.read(terminal, 1024)
        except OSError:  # the program has ended
            break
        if left and shown.endswith(b": ") and shown.count(b": ") > len(answers) - len(left):
            os.write(terminal, left.pop(0).encode() + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown.decode()


def test_a_new_password_is_typed_twice_and_its_loss_explained(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    code, shown = _at_a_terminal(["repo", "create", str(place)], ["hello", "hello"], tmp_path)
    assert code == 0, shown
    assert "loses the repository" in shown
    open_repository(str(place), "hello").close()


def test_a_typing_error_or_an_empty_password_makes_no_repository(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    code, shown = _at_a_terminal(["repo", "create", str(place)], ["hello", "hallo", "", "a", "b"], tmp_path)
    assert code == 2, shown
    assert "differ" in shown
    assert "cannot have an empty password" in shown
    with pytest.raises(RepositoryNotFoundError):
        open_repository(str(place), "hello")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an empty repository and its password in a file."""
    root = tmp_path_factory.mktemp("place")
    create_repository(str(root / "repository"), PASSWORD)
    (root / "password").write_text(f"{PASSWORD}\n")
    return root


def test_a_command_prints_the_password_and_the_variable_names_the_repository(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOVER_REPOSITORY", str(place / "repository"))
    monkeypatch.setenv("KOPIA_PASSWORD", "another")
    assert cli.main(["repo", "status", "--password-command", f"cat '{place / 'password'}'"]) == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("false", "ended with exit code 1"),
        ("true", "printed no password"),
        ("/no/such/program", "no such file"),
        ("'", "it is no command"),
        (" ", "it is no command"),
    ],
)
def test_a_command_that_gives_none_is_told(
    command: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["repo", "status", "--repo", str(place), "--password-command", command]) == 2
    assert said in capsys.readouterr().err


def test_a_refused_password_is_named_by_where_it_came_from(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOPIA_PASSWORD", "another")
    assert cli.main(["snapshot", "list", "--repo", str(place / "repository")]) == 32
    assert "the variable KOPIA_PASSWORD" in capsys.readouterr().err
