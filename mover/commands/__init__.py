"""The commands: one module a group, imported only when it is used.

A module has `COMMANDS`: for each of its commands what adds its options, and what runs it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module

from mover.arguments import add_general_options
from mover.command_list import COMMANDS

Configure = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]
CommandTable = dict[str, tuple[Configure, Run]]


def find(words: tuple[str, ...]) -> tuple[Configure, Run]:
    """What adds the options of a command and what runs it."""
    module = import_module(f"mover.commands.{COMMANDS[words][0]}")
    table: CommandTable = module.COMMANDS
    return table[" ".join(words)]


def parser_of(words: tuple[str, ...]) -> argparse.ArgumentParser:
    """The parser of one command."""
    name = " ".join(words)
    parser = argparse.ArgumentParser(
        prog=f"mover {name}", formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    find(words)[0](parser)
    add_general_options(parser)
    parser.description = parser.description or f"{COMMANDS[words][1].capitalize()}."
    return parser


def run(words: tuple[str, ...], arguments: list[str]) -> int:
    """Parses the arguments of a command and runs it; the exit code."""
    return find(words)[1](parser_of(words).parse_intermixed_args(arguments))
