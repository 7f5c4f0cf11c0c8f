"""`mover repo sync-to`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from mover import opening
from mover.arguments import add_progress_options, add_writer_options, examples, positive
from mover.console import count_text, say, say_json, size_text
from mover.progress_display import ProgressDisplay
from mover.running import run
from repository import care


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `repo sync-to`."""
    add = parser.add_argument
    add("target", metavar="URL", help="where the copy is, or is to be made")
    add("--delete", action="store_true", help="delete blobs that only the copy has")
    add("--must-exist", action="store_true", help="fail unless the copy was begun before")
    add("--dry-run", action="store_true", help="only say what would be copied and deleted")
    add("--parallel", metavar="N", type=positive, help="blobs copied at a time, each held in memory (4)")
    add_writer_options(parser)
    add_progress_options(parser)
    parser.description = (
        "Copy the repository to another place, blob by blob and sealed as it is: the same password opens\n"
        "the copy. May be repeated, and goes on where it was cut off. Others may write to the source.\n"
        "The copy is a backup of the repository, not a second one: maintain only one of the two."
    )
    examples(
        parser,
        "mover repo sync-to /mnt/offsite/repository",
        "mover repo sync-to 's3://bucket/copy?region=eu-central-1' --delete",
    )


def sync_to(arguments: argparse.Namespace) -> int:
    """Copies what the target lacks."""
    found = opening.find_connection(arguments)
    # a copy is read once and whole: nothing of it belongs into the cache
    connection = replace(opening.connection_options(arguments, found), cache_directory=None)
    options = care.SyncToOptions(
        delete=arguments.delete,
        dry_run=arguments.dry_run,
        must_exist=arguments.must_exist,
        parallel=arguments.parallel,
        connection=connection,
    )
    report = run(
        lambda progress, cancel: care.sync_to(
            found.url, arguments.target, options, progress=progress, cancel=cancel
        ),
        ProgressDisplay("copy", arguments),
    )
    if arguments.json:
        say_json(report)
    elif not arguments.quiet:
        _say(report, delete=arguments.delete)
    return 0


def _amount(found: dict[str, Any]) -> str:
    return f"{count_text(found['count'], 'blob')}, {size_text(found['bytes'])}"


def _say(report: dict[str, Any], *, delete: bool) -> None:
    verb = "to copy" if report["dry_run"] else "copied"
    say(f"{verb}: {_amount(report['copied'])}; there already: {_amount(report['present'])}")
    if report["extra"]["count"]:
        done = "to delete" if report["dry_run"] and delete else "deleted" if delete else "kept (--delete)"
        say(f"  only in the copy: {_amount(report['extra'])}, {done}")
    if report["copied"]["count"] and not report["keeps_times"]:
        say(
            "  this storage gives blobs the time of the copy: maintenance of the copy takes them for new,\n"
            "  and frees space later"
        )


COMMANDS = {"repo sync-to": (configure, sync_to)}
