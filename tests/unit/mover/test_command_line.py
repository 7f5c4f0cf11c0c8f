"""Words to commands: order of options, help, wrong usage, and what start-up imports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mover import cli
from mover.command_list import COMMANDS, VALUE_OPTIONS, help_text
from mover.commands import find, parser_of
from mover.commands.completion import SHELLS, whole_parser


@pytest.mark.parametrize(
    ("arguments", "words", "rest"),
    [
        (["backup", "/x"], ("backup",), ["/x"]),
        (["--repo", "/r", "snapshot", "list", "--all"], ("snapshot", "list"), ["--repo", "/r", "--all"]),
        (["--repo=/r", "ls", "ID"], ("ls",), ["--repo=/r", "ID"]),
        (["snapshot", "--json", "show", "ID"], ("snapshot", "show"), ["--json", "ID"]),
        (["restore", "ID", "-", "--repo", "r"], ("restore",), ["ID", "-", "--repo", "r"]),
        (["--help"], (), ["--help"]),
        ([], (), []),
        (["repo"], ("repo",), []),
        (["--repo"], (), ["--repo"]),
        (["--", "backup"], (), ["--", "backup"]),
    ],
)
def test_options_may_stand_before_and_after_the_words(
    arguments: list[str], words: tuple[str, ...], rest: list[str]
) -> None:
    assert cli.split_command(arguments) == (words, rest)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_exists_and_has_help(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(find(words)[1])
    assert cli.main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"mover {' '.join(words)}" in shown
    assert "--repo" in shown
    assert "examples:" in shown


def test_every_general_option_with_a_value_is_known_to_the_splitter() -> None:
    parser = parser_of(("repo", "status"))
    with_value = {
        option
        for action in parser._actions
        if action.option_strings and action.nargs != 0
        for option in action.option_strings
    }
    assert with_value == VALUE_OPTIONS


def test_positional_arguments_may_stand_apart() -> None:
    parsed = parser_of(("snapshot", "delete")).parse_intermixed_args(["A", "--json", "B"])
    assert parsed.ids == ["A", "B"]


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["repo"], [], ["backup"], ["snapshot", "nonsense"], ["verify", "--percent", "101"]],
)
def test_wrong_usage_ends_with_2_and_one_line_to_the_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "usage" in shown.err or "--help" in shown.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bakcup /x", "no command 'bakcup': did you mean backup?; see mover --help"),
        ("snapshot lits", "no command 'snapshot lits': did you mean snapshot list?"),
        ("init", "did you mean repo create?"),
        ("forget --keep-last 3", "did you mean snapshot expire?"),
        ("xyzzy", "no command 'xyzzy'; see mover --help"),
        ("backup /x --paralel=3", "backup: unrecognized arguments: --paralel=3: did you mean --parallel?"),
        ("snapshot delete x --dryrun", "did you mean --dry-run?; see mover snapshot delete --help"),
        ("restore x y --overwrite alway", "invalid choice: 'alway'"),
        ("restore x", "the following arguments are required: TARGET"),
    ],
)
def test_what_is_mistyped_is_one_line_with_what_was_meant(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert said in shown.err
    assert cli.main([*line.split(), "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["exitCode"] == 2


def test_help_lists_every_command_and_a_group_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(line in shown for _, line in COMMANDS.values())
    assert cli.main(["snapshot", "--help"]) == 0
    assert capsys.readouterr().out.strip() == help_text(("snapshot",))


def test_completion_knows_all_commands() -> None:
    assert whole_parser().parse_args(["snapshot", "list", "--all"]).all
    assert SHELLS


def test_help_waits_for_no_import_that_it_does_not_use() -> None:
    code = "import sys; from mover import cli; cli.main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    unwanted = {"argparse", "asyncio", "json", "repository._native", "shtab", "typing_extensions", "logging"}
    assert not unwanted & set(done.stderr.split())


BASH = """
source <(mover completion bash)
complete=$(complete -p mover | sed 's/.*-F \\([^ ]*\\).*/\\1/')
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $complete mover "${@: -1}"; echo "${COMPREPLY[@]}"; }
ask mover snapshot ex; ask mover backup --compr; ask mover restore --overwrite ""
cd "$(mktemp -d)"; touch home_of_files; ask mover backup home_; ask mover backup --password-file home_
"""
FISH = "mover completion fish | source; complete -C 'mover snapshot ex'; complete -C 'mover backup --compr'"


@pytest.mark.parametrize(
    ("shell", "script", "expected"),
    [
        ("bash", BASH, ["expire", "--compression", "always skip never", "home_of_files", "home_of_files"]),
        ("fish", FISH, ["expire", "--compression"]),
    ],
)
def test_shells_complete_what_they_are_told(shell: str, script: str, expected: list[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"SKIPPED WITHOUT PROOF: no {shell}: apt-get install {shell}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [shell, "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == expected, done.stderr
