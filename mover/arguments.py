"""Options that every command has, and how their texts are read."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from repository.errors import InvalidRequestError

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
CACHE_LIMIT_DEFAULT_BYTES = 5000 << 20  # Velero's cacheLimitMB
PROGRESS_INTERVAL_DEFAULT_SECONDS = 10.0
SECONDS_MAX = 1e9  # some thirty years
MEMORY_LIMIT_MIN_BYTES = 96 << 20
WHOLE_MAX = (1 << 31) - 1
SNAPSHOT_HELP = "a snapshot: ID or its beginning, latest, a source's path, latest@TIME, PATH@TIME"


def size(text: str) -> int:
    """Bytes: a number with K, M, G or T (powers of 1024), or without."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 512M or 2GiB")
    return int(float(found[1]) * UNITS[found[2].lower()])


def memory_limit(text: str) -> int:
    """Bytes, and enough of them: a bound that cannot hold is no bound."""
    value = size(text)
    if value < MEMORY_LIMIT_MIN_BYTES:
        raise argparse.ArgumentTypeError(
            f"{text} is too little: deriving the key takes 64M, so 96M is the least"
        )
    return value


def filled(text: str) -> str:
    """A text that is not empty: a variable that was never set is no path, and not the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def percent(text: str) -> float:
    """A number from 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:  # noqa: PLR2004 - percent
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return value


def positive(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= WHOLE_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def seconds(text: str) -> float:
    """A length of time: seconds, or with s, m, h or d behind it."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        value = float(number) * unit
    except ValueError:
        value = -1
    if not 0 <= value < SECONDS_MAX:  # also false for what is no number
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time like 90, 45m, 2h or 30d")
    return value


def tags(texts: Sequence[str]) -> dict[str, str]:
    """`KEY:VALUE` texts as the labels that Kopia's command line makes of them.

    Raises:
        InvalidRequestError: There is no colon, or a key twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, colon, value = text.partition(":")
        if not key or not colon:
            raise InvalidRequestError(f"tag {text!r} is not KEY:VALUE")
        if f"tag:{key}" in found:
            raise InvalidRequestError(f"tag {key!r} is given twice")
        found[f"tag:{key}"] = value
    return found


def add_general_options(parser: argparse.ArgumentParser) -> None:
    """The options that every command has."""
    group = parser.add_argument_group("general options")
    add = group.add_argument
    add(
        "--repo",
        metavar="URL",
        type=filled,
        help="the repository: a path or a URL (else that of MOVER_REPOSITORY, else of the connection)",
    )
    add(
        "--bsl",
        metavar="FILE",
        type=filled,
        help="the repository of a BackupStorageLocation in YAML, as Velero opens it",
    )
    add("--namespace", metavar="NS", help="with --bsl: the namespace of the volumes")
    add(
        "--credentials-file",
        metavar="FILE",
        help="with --bsl: the credentials, if their Secret is not in FILE",
    )
    add(
        "--config",
        metavar="FILE",
        type=filled,
        help="connection file of mover or of kopia (repository.config)",
    )
    add(
        "--password-file",
        metavar="FILE",
        type=filled,
        help="file with the password; otherwise KOPIA_PASSWORD is used",
    )
    add(
        "--password-command",
        metavar="COMMAND",
        type=filled,
        help="command that prints the password, such as 'pass show backups'",
    )
    add("--cache-directory", metavar="DIR", help="where indexes, and metadata of far storages, are kept")
    add(
        "--cache-limit",
        metavar="SIZE",
        type=size,
        default=CACHE_LIMIT_DEFAULT_BYTES,
        help="its bound (5000M)",
    )
    add("--no-cache", action="store_true", help="keep nothing on the local disk")
    add("--max-upload-speed", metavar="SIZE", type=size, help="bytes per second put to the storage")
    add("--max-download-speed", metavar="SIZE", type=size, help="bytes per second got from the storage")
    add("--throttle-file", metavar="FILE", help="both limits in JSON; read again whenever it changes")
    add(
        "--memory-limit", metavar="SIZE", type=memory_limit, help="bound of the memory of this process (128M)"
    )
    add("--json", action="store_true", help="print one JSON document on standard output")
    add("--quiet", action="store_true", help="no progress and no summary")
    add("--debug", action="store_true", help="show the trace of a failure")
    add("--kill-at", help=argparse.SUPPRESS)


def add_progress_options(parser: argparse.ArgumentParser) -> None:
    """Options of commands that take long."""
    parser.add_argument(
        "--progress-interval-seconds",
        metavar="N",
        type=seconds,
        default=PROGRESS_INTERVAL_DEFAULT_SECONDS,
        help="a line of progress this often where standard error is no terminal (10)",
    )


def add_writer_options(parser: argparse.ArgumentParser) -> None:
    """Options of commands that write to the repository."""
    parser.add_argument(
        "--no-sync",
        action="store_true",
        help="leave it to the system when data reaches stable storage, as kopia does",
    )


def examples(parser: argparse.ArgumentParser, *lines: str) -> None:
    """Puts examples at the end of the help."""
    parser.epilog = "\n".join(["examples:", *(f"  {line}" for line in lines)])
