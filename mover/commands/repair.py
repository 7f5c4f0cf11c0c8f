"""`mover repo repair`."""

from __future__ import annotations

import argparse
from typing import Any

from mover import exit_codes, opening
from mover.arguments import add_progress_options, add_writer_options, examples
from mover.console import count_text, say, say_json, size_text
from mover.progress_display import ProgressDisplay
from mover.running import run
from repository import care
from repository.requests import OpenOptions

SHOWN_MAX = 50


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `repo repair`."""
    parser.add_argument("--commit", action="store_true", help="repair; without this only look")
    parser.add_argument(
        "--all-packs",
        action="store_true",
        help="take in what only packs know, though no index blob is damaged (index blobs were deleted)",
    )
    add_writer_options(parser)
    add_progress_options(parser)
    parser.description = (
        "Look for a lost format blob, damaged index blobs and lost packs, and repair what can be: the format blob\n"  # noqa: E501
        "from its copies, entries from the packs' own indexes. Tells exactly which files lost packs take along.\n"  # noqa: E501
        "Without --commit nothing is changed. Exit code 40 if anything is damaged and not repaired."
    )
    examples(parser, "mover repo repair", "mover repo repair --commit")


def repair(arguments: argparse.Namespace) -> int:
    """Looks, and repairs with `--commit`."""
    found = opening.find_connection(arguments)
    options = OpenOptions(
        username=found.username or None,
        hostname=found.hostname or None,
        memory_limit_bytes=arguments.memory_limit,
        connection=opening.connection_options(arguments, found, read_only=not arguments.commit),
    )
    password = opening.find_password(arguments, found)
    answer = run(
        lambda _progress, cancel: care.repair(
            found.url,
            password,
            options,
            dry_run=not arguments.commit,
            all_packs=arguments.all_packs,
            cancel=cancel,
        ),
        ProgressDisplay("repair", arguments),
    )
    if arguments.json:
        say_json(answer)
    elif not arguments.quiet:
        _say(answer["report"], committed=arguments.commit)
    if answer["sound"]:
        return exit_codes.DONE
    lost = (answer["report"]["lost_packs"] or {}).get("affected_count")
    repaired = arguments.commit and answer["report"]["indexes"] is not None and not lost
    return exit_codes.DONE if repaired else exit_codes.CORRUPTED


def _say(report: dict[str, Any], *, committed: bool) -> None:
    say(_format_text(report["format"]))
    if report["indexes"] is not None:
        _say_indexes(report["indexes"], committed=committed)
    if report["lost_packs"] is not None:
        _say_lost(report["lost_packs"])


def _format_text(found: dict[str, Any]) -> str:
    if found["state"] == "sound":
        return "format blob: sound"
    if "copy_in" not in found:
        return f"format blob: {found['state']}, and no copy was found: restore kopia.repository from a backup"
    done = "restored" if found["restored"] else "can be restored (--commit)"
    return f"format blob: {found['state']}, {done} from {found['copy_in']}"


def _say_indexes(found: dict[str, Any], *, committed: bool) -> None:
    recovered = found["recovered"]
    say(f"index blobs: {count_text(len(found['damaged']), 'damaged blob')}")
    for blob in found["damaged"][:SHOWN_MAX]:
        say(f"  {blob['name']}: {blob['why']}")
    for blob in found["packs_without_index"][:SHOWN_MAX]:
        say(f"  no index in pack {blob['name']}: {blob['why']}")
    if recovered["count"]:
        verb = "taken in" if committed else "can be taken in (--commit)"
        say(
            f"  {count_text(recovered['count'], 'content')}, {size_text(recovered['bytes'])}, {verb} from packs"  # noqa: E501
        )


def _say_lost(found: dict[str, Any]) -> None:
    say(f"lost packs: {len(found['packs']):,}")
    if not found["packs"]:
        return
    contents = found["contents"]
    say(f"  {count_text(contents['count'], 'content')}, {size_text(contents['bytes'])} are gone")
    say(f"  {count_text(found['affected_count'], 'entry')} of snapshots cannot be read whole:")
    for entry in found["affected"][:SHOWN_MAX]:
        say(f"    {entry['snapshot']}/{entry['path']}{'/' if entry['directory'] else ''}")
    if found["affected_count"] > SHOWN_MAX:
        say(f"    and {found['affected_count'] - SHOWN_MAX:,} more (--json has them)")
    say("  back up the same data again: what is lost is stored anew and heals the snapshots")


COMMANDS = {"repo repair": (configure, repair)}
