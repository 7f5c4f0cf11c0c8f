"""Where a password comes from: a file, a command, the environment, the connection's file, a person.

A new one that is typed is asked for twice, and is never empty; what it is to lose it is said.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mover.console import tell
from repository import password_bytes
from repository.errors import InvalidRequestError

if TYPE_CHECKING:
    from repository.connection import Connection

PASSWORD_VARIABLE = "KOPIA_PASSWORD"  # noqa: S105 - a name
TRIES = 3
LOSS = "whoever loses this password loses the repository: there is no other way in, so keep it safe"


def given_password(arguments: argparse.Namespace) -> tuple[bytes, str] | None:
    """The password that the arguments or the environment give, and from where; `None` if neither does.

    Raises:
        InvalidRequestError: Both options are given, or one cannot be read or holds no password.
    """
    if arguments.password_file and arguments.password_command:
        raise InvalidRequestError("--password-file and --password-command do not go together")
    if arguments.password_file:
        path = Path(arguments.password_file)
        return password_bytes.of_file(path), f"the file {path}"
    if arguments.password_command:
        return _of_command(arguments.password_command), "the command of --password-command"
    found = password_bytes.of_variable(PASSWORD_VARIABLE)
    return None if found is None else (found, f"the variable {PASSWORD_VARIABLE}")


def find_password(arguments: argparse.Namespace, found: Connection) -> bytes:
    """The password of a repository; raises as `find_with_origin`."""
    return find_with_origin(arguments, found)[0]


def find_with_origin(arguments: argparse.Namespace, found: Connection) -> tuple[bytes, str]:
    """The password and, for whoever is refused with it, where it came from; asked for if nothing gives it.

    Raises:
        InvalidRequestError: There is none and nobody to ask.
    """
    if (given := given_password(arguments)) is not None:
        return given
    if found.password_file:
        path = Path(found.password_file)
        return password_bytes.of_file(path), f"the connection's file {path}"
    return password_bytes.typed(_ask("password of the repository: ")), "what was typed"


def new_password(arguments: argparse.Namespace) -> bytes:
    """The password of a repository that is to be made; a person types it twice.

    Raises:
        InvalidRequestError: None is given and nobody is there, or the two stay different or empty.
    """
    if (given := given_password(arguments)) is not None:
        return password_bytes.check_new(given[0])
    for _ in range(TRIES):
        first = _ask("password of the new repository: ")
        if not first:
            tell("a repository cannot have an empty password")
        elif first != _ask("the same password again: "):
            tell("the two passwords differ")
        else:
            password = password_bytes.check_new(password_bytes.typed(first))
            tell(LOSS)
            return password
    raise InvalidRequestError("no password was chosen: nothing was made")


def _ask(prompt: str) -> str:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidRequestError(
            f"no password: set {PASSWORD_VARIABLE}, or give --password-file or --password-command"
        )
    import getpass  # noqa: PLC0415 - rarely

    return getpass.getpass(prompt)


def _of_command(command: str) -> bytes:
    """What a command prints; it is split as a shell splits words, and no shell runs it.

    Its standard input and error are the terminal's, so that it may ask for a key's passphrase.
    """
    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    except (OSError, ValueError, IndexError) as error:
        reason = (error.strerror or "it failed").lower() if isinstance(error, OSError) else "it is no command"
        raise InvalidRequestError(f"cannot run --password-command {command!r}: {reason}") from None
    if done.returncode:
        raise InvalidRequestError(f"--password-command {command!r} ended with exit code {done.returncode}")
    password = password_bytes.trimmed(done.stdout)
    if not password:
        raise InvalidRequestError(f"--password-command {command!r} printed no password")
    return password
