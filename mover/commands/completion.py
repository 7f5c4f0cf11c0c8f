"""`mover completion SHELL`: a script that a shell reads; the only user of `shtab`."""

from __future__ import annotations

import argparse
import re

from mover.arguments import add_general_options, examples
from mover.command_list import COMMANDS as ALL
from mover.command_list import GROUPS
from mover.commands import find
from mover.console import say

# what arguments are called whose values are files of this machine; a snapshot may be named by its path
FILES = re.compile(r"(FILE|DIR|PATH|TARGET|SOURCE|URL|SNAPSHOT.*)")
SHELLS = ("bash", "zsh", "fish", "tcsh")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `completion`."""
    parser.add_argument("shell", choices=SHELLS)
    examples(parser, 'eval "$(mover completion bash)"')


def completion(arguments: argparse.Namespace) -> int:
    """Prints the script."""
    import shtab  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - only here

    say(shtab.complete(whole_parser(), shell=arguments.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """All commands in one parser: only for completion, it imports every module."""
    top = argparse.ArgumentParser(prog="mover")
    add_general_options(top)
    commands = top.add_subparsers()
    groups = {
        group: commands.add_parser(group, help=f"{group} commands").add_subparsers()
        for group in sorted(GROUPS)
    }
    for words, (_, line) in ALL.items():
        parent = groups[words[0]] if len(words) > 1 else commands
        parser = parent.add_parser(words[-1], help=line)
        find(words)[0](parser)
        add_general_options(parser)
        parser.epilog = None
        _complete_files(parser)
    return top


def _complete_files(parser: argparse.ArgumentParser) -> None:
    import shtab  # noqa: PLC0415 - only here

    for action in parser._actions:  # noqa: SLF001 - argparse has no public name for them
        if isinstance(action.metavar, str) and FILES.fullmatch(action.metavar) and not action.choices:
            action.complete = shtab.FILE  # type: ignore[attr-defined]


COMMANDS = {"completion": (configure, completion)}
