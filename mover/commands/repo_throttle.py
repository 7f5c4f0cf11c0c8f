"""`mover repo throttle get|set`: the limits that belong to the connection, as in Kopia."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from mover import opening
from mover.arguments import examples, size
from mover.console import say, say_json, size_text
from repository import connection
from repository.errors import InvalidRequestError

UNLIMITED = "unlimited"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `repo throttle`, named as Kopia's."""
    parser.add_argument("what", choices=("get", "set"), nargs="?", default="get", help="show (get) or change")
    for direction in ("upload", "download"):
        parser.add_argument(
            f"--{direction}-bytes-per-second",
            metavar="SIZE",
            type=_limit,
            help=f"{direction}, or {UNLIMITED}",
        )
    parser.description = (
        "Limits that belong to the connection: every command that uses it obeys them from its start on.\n"
        "--max-upload-speed and --max-download-speed are for one command, --throttle-file changes it running."
    )
    examples(parser, "mover repo throttle", "mover repo throttle set --upload-bytes-per-second 10M")


def _limit(text: str) -> int:
    return 0 if text == UNLIMITED else size(text)


def throttle(arguments: argparse.Namespace) -> int:
    """Shows or changes the limits of the connection in force."""
    limits = {
        name: getattr(arguments, name) for name in ("upload_bytes_per_second", "download_bytes_per_second")
    }
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if arguments.repo or arguments.bsl:
        raise InvalidRequestError("limits belong to a connection: leave --repo and --bsl out")
    found = opening.find_connection(arguments)
    if arguments.what == "get" and given:
        raise InvalidRequestError("to change limits say: mover repo throttle set")
    if arguments.what == "set":
        if not given:
            raise InvalidRequestError(
                "say which limit: --upload-bytes-per-second, --download-bytes-per-second"
            )
        found = replace(found, **given)
        connection.save(_path(arguments), found)
    now = {name: getattr(found, name) for name in limits}
    if arguments.json:
        say_json(now)
    elif not arguments.quiet:
        for name, limit in now.items():
            say(f"{name.partition('_')[0] + ':':<10}{size_text(limit) + '/s' if limit else UNLIMITED}")
    return 0


def _path(arguments: argparse.Namespace) -> Path:
    """The connection file of ours that is in force; Kopia's own is never changed."""
    path = opening.connection_path(arguments)
    if not path.exists():
        raise InvalidRequestError("the connection is kopia's own: change it by kopia repository throttle set")
    return path


COMMANDS = {"repo throttle": (configure, throttle)}
