"""`mover repo change-password`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mover import opening
from mover.arguments import add_writer_options, examples
from mover.console import say, say_json
from mover.password_sources import find_password
from repository import care, password_bytes
from repository.errors import InvalidRequestError
from repository.requests import OpenOptions

NEW_PASSWORD_VARIABLE = "KOPIA_NEW_PASSWORD"  # noqa: S105 - a name
MINUTE_SECONDS = 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `repo change-password`."""
    parser.add_argument(
        "--new-password-file",
        metavar="FILE",
        help=f"file with the new password; otherwise {NEW_PASSWORD_VARIABLE} is used",
    )
    add_writer_options(parser)
    parser.description = (
        "Change the password of a repository. May be repeated if it was cut off. Repositories of format 1 cannot\n"  # noqa: E501
        "change theirs."
    )
    examples(parser, "mover repo change-password --new-password-file ~/.new-password")


def change(arguments: argparse.Namespace) -> int:
    """Changes the password; says how long clients may go on with the old one."""
    found = opening.find_connection(arguments)
    old = find_password(arguments, found)
    new = _new_password(arguments)
    options = OpenOptions(connection=opening.connection_options(arguments, found))
    answer = care.change_password(found.url, old, new, options)
    if arguments.json:
        say_json(answer)
    elif not arguments.quiet:
        minutes = answer["copies_live_seconds"] // MINUTE_SECONDS
        say("an earlier change was finished" if answer["resumed"] else "the password was changed")
        say(f"  clients that run now may go on with the old one for up to {minutes} minutes")
        if found.password_file and not arguments.password_file:
            say(f"  the connection's password file {found.password_file} still holds the old one")
    return 0


def given_password(arguments: argparse.Namespace) -> bytes | None:
    """The new password that an argument or the environment gives; `None` if neither does.

    Raises:
        InvalidRequestError: What is given holds none.
    """
    if arguments.new_password_file:
        return password_bytes.of_file(Path(arguments.new_password_file))
    return password_bytes.of_variable(NEW_PASSWORD_VARIABLE)


def _new_password(arguments: argparse.Namespace) -> bytes:
    if (given := given_password(arguments)) is not None:
        return given
    if sys.stdin.isatty() and sys.stderr.isatty():
        import getpass  # noqa: PLC0415 - rarely

        new = getpass.getpass("new password: ")
        if new != getpass.getpass("new password again: "):
            raise InvalidRequestError("the two new passwords differ: nothing was changed")
        return password_bytes.check_new(password_bytes.typed(new))
    raise InvalidRequestError(
        f"no new password: set {NEW_PASSWORD_VARIABLE} or give --new-password-file FILE"
    )


COMMANDS = {"repo change-password": (configure, change)}
