"""`mover verify [ID…]`."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mover import exit_codes
from mover.arguments import SNAPSHOT_HELP, add_progress_options, examples, percent, positive
from mover.console import count_text, duration_text, say, say_json, size_text, tell
from mover.opening import open_session
from mover.progress_display import ProgressDisplay
from mover.running import run
from repository.requests import VerifyOptions
from repository.snapshot_names import SnapshotNames

if TYPE_CHECKING:
    from repository.snapshots import Damage, VerifyResult

DAMAGES_SHOWN_MAX = 50


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `verify`."""
    add = parser.add_argument
    add("ids", metavar="SNAPSHOT", nargs="*", help=f"{SNAPSHOT_HELP} (all of the repository)")
    add("--percent", metavar="0..100", type=percent, default=0.0, help="share of file data to read back (0)")
    add("--contents", action="store_true", help="every content of the repository instead of snapshots")
    add("--seed", metavar="N", type=int, default=0, help="another number reads another share")
    add("--rehash", action="store_true", help="also hash what is read; its seal is checked in any case")
    add("--parallel", metavar="N", type=positive, help="threads (one a core)")
    add_progress_options(parser)
    parser.description = (
        "Check that every object of snapshots is in the index, and that packs hold it; read back as much of\n"
        "the data as wanted: every content is authenticated, with --rehash and --contents also hashed.\n"
        "Exit code 40 if anything is damaged."
    )
    examples(parser, "mover verify", "mover verify --percent 100", "mover verify latest --percent 5 --json")


def verify(arguments: argparse.Namespace) -> int:
    """Verifies; 40 if anything is damaged."""
    wanted = VerifyOptions(
        contents=arguments.contents,
        percent=arguments.percent,
        seed=arguments.seed,
        parallelism=arguments.parallel,
    )
    started = time.monotonic()
    with open_session(arguments) as session:
        options = replace(wanted, snapshots=SnapshotNames(session).ids(arguments.ids))
        result = run(
            lambda progress, cancel: session.verify(options, progress=progress, cancel=cancel),
            ProgressDisplay("verify", arguments),
        )
    _report(arguments, result, time.monotonic() - started)
    for damage in result.damages[:DAMAGES_SHOWN_MAX]:
        tell(_damage_text(damage))
    if result.damage_count > DAMAGES_SHOWN_MAX:
        tell(f"and {result.damage_count - DAMAGES_SHOWN_MAX:,} more")
    return exit_codes.CORRUPTED if result.damage_count else exit_codes.DONE


def _damage_text(damage: Damage) -> str:
    place = f"{damage.snapshot}/{damage.path}" if damage.snapshot else damage.path
    return f"{place}: {damage.error}" if place else damage.error


def _report(arguments: argparse.Namespace, result: VerifyResult, elapsed_seconds: float) -> None:
    if arguments.json:
        say_json(_document(result))
    elif not arguments.quiet:
        parts = [
            count_text(result.file_count, "file"),
            count_text(result.directory_count, "directory"),
            count_text(result.content_count, "content"),
        ]
        say(f"verified {', '.join(parts)} in {duration_text(elapsed_seconds)}")
        say(f"  read back {count_text(result.read_count, 'content')}, {size_text(result.read_bytes)}")
        say(
            f"  {count_text(result.damage_count, 'damage')} found"
            if result.damage_count
            else "  no damage found"
        )


def _document(result: VerifyResult) -> dict[str, object]:
    """Named as `kopia snapshot verify --json` does, where that has the same number."""
    return {
        "stats": {
            "processedObjectCount": result.file_count + result.directory_count,
            "contentCount": result.content_count,
            "readContentCount": result.read_count,
            "readBytes": result.read_bytes,
        },
        "errorCount": result.damage_count,
        "errors": [
            {"snapshot": one.snapshot, "path": one.path, "error": one.error, **one.context}
            for one in result.damages
        ],
    }


COMMANDS = {"verify": (configure, verify)}
