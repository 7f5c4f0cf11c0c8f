"""The commands: one module a group, imported only when it is used.

A module has `COMMANDS`: for each of its commands what adds its options, and what runs it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

from mover.arguments import add_general_options
from mover.command_list import COMMANDS
from mover.paths import is_text, readable
from mover.usage import wrong_options
from repository.errors import InvalidRequestError

PATHS = {"backup": frozenset({"path", "source_path"}), "restore": frozenset({"what", "target"})}
Configure = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]
CommandTable = dict[str, tuple[Configure, Run]]


class Parser(argparse.ArgumentParser):
    """A parser whose refusals are one line, with the option that was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Raises it as `UsageError`."""
        raise wrong_options(self.prog, message, self._option_string_actions)


def find(words: tuple[str, ...]) -> tuple[Configure, Run]:
    """What adds the options of a command and what runs it."""
    module = import_module(f"mover.commands.{COMMANDS[words][0]}")
    table: CommandTable = module.COMMANDS
    return table[" ".join(words)]


def parser_of(words: tuple[str, ...]) -> argparse.ArgumentParser:
    """The parser of one command."""
    name = " ".join(words)
    parser = Parser(
        prog=f"mover {name}", formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    find(words)[0](parser)
    add_general_options(parser)
    parser.description = parser.description or f"{COMMANDS[words][1].capitalize()}."
    return parser


def run(words: tuple[str, ...], arguments: list[str]) -> int:
    """Parses the arguments of a command and runs it; the exit code."""
    parsed = parser_of(words).parse_intermixed_args(arguments)
    _refuse_what_is_no_text(words, parsed)
    return find(words)[1](parsed)


def _refuse_what_is_no_text(words: tuple[str, ...], parsed: argparse.Namespace) -> None:
    """Paths of sources and targets may be any bytes; all else goes into documents and must be UTF-8.

    Raises:
        InvalidRequestError: An argument is not UTF-8, with its name.
    """
    allowed = PATHS.get(" ".join(words), frozenset())
    for name, value in vars(parsed).items():
        if name in allowed:
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not is_text(text):
                raise InvalidRequestError(f"{name.replace('_', '-')} {readable(text)!r} is not UTF-8")
