"""`mover repo repair`."""

from __future__ import annotations

import argparse
from typing import Any

from mover import exit_codes, opening
from mover.arguments import add_progress_options, add_writer_options, examples
from mover.console import count_text, say, say_json, size_text
from mover.password_sources import find_password
from mover.progress_display import ProgressDisplay
from mover.running import run
from repository import care
from repository.requests import OpenOptions

SHOWN_MAX = 50


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `repo repair`."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--commit", action="store_true", help="repair; without this only look")
    either.add_argument("--dry-run", action="store_true", help="only look, as without any option")
    parser.add_argument(
        "--all-packs",
        action="store_true",
        help="take in what only packs know, though no index blob is damaged (some index blobs were deleted)",
    )
    parser.add_argument(
        "--read-packs",
        action="store_true",
        help="read every pack back: contents whose bytes are damaged are found, and taken for lost",
    )
    add_writer_options(parser)
    add_progress_options(parser)
    parser.description = (
        "Look for a lost format blob, damaged index blobs, and packs that are lost, cut off or damaged, and repair\n"  # noqa: E501
        "what can be: the format blob from its copies, entries from the packs' own indexes. Tells exactly which\n"  # noqa: E501
        "files are lost. Without --commit nothing is changed. Exit code 40 if anything is damaged and not repaired."  # noqa: E501
    )
    examples(
        parser, "mover repo repair", "mover repo repair --commit", "mover repo repair --read-packs --commit"
    )


def repair(arguments: argparse.Namespace) -> int:
    """Looks, and repairs with `--commit`."""
    found = opening.find_connection(arguments)
    opened = OpenOptions(
        username=found.username or None,
        hostname=found.hostname or None,
        memory_limit_bytes=arguments.memory_limit,
        connection=opening.connection_options(arguments, found, read_only=not arguments.commit),
    )
    options = care.RepairOptions(
        dry_run=not arguments.commit,
        all_packs=arguments.all_packs,
        read_packs=arguments.read_packs,
        open=opened,
    )
    password = find_password(arguments, found)
    answer = run(
        lambda progress, cancel: care.repair(found.url, password, options, progress=progress, cancel=cancel),
        ProgressDisplay("repair", arguments),
    )
    if arguments.json:
        say_json(answer)
    elif not arguments.quiet:
        _say(answer["report"], committed=arguments.commit)
    if answer["sound"]:
        return exit_codes.DONE
    lost = (answer["report"]["lost"] or {}).get("affected_count")
    repaired = arguments.commit and answer["report"]["indexes"] is not None and not lost
    return exit_codes.DONE if repaired else exit_codes.CORRUPTED


def _say(report: dict[str, Any], *, committed: bool) -> None:
    say(_format_text(report["format"]))
    if report["indexes"] is not None:
        _say_indexes(report["indexes"], committed=committed)
    if report["lost"] is not None:
        _say_lost(report["lost"])


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
    unindexed = found["unindexed_packs"]
    if unindexed["count"] and not recovered["count"]:
        say(f"  {count_text(unindexed['count'], 'pack')}, {size_text(unindexed['bytes'])}, stand in no index")
        say("  (left by a backup that was cut off; if index blobs were deleted, --all-packs takes them in)")


def _say_lost(found: dict[str, Any]) -> None:
    for names, what in ((found["packs"], "lost"), (found["short_packs"], "cut off")):
        if names or what == "lost":
            say(f"{what} packs: {len(names):,}")
        for name in names[:SHOWN_MAX]:
            say(f"  {name}")
    contents, damaged = found["contents"], found["damaged"]
    if contents["count"]:
        say(f"  {count_text(contents['count'], 'content')}, {size_text(contents['bytes'])}, are gone")
    if damaged["count"]:
        say(f"damaged contents: {damaged['count']:,}, {size_text(damaged['bytes'])}")
    if found["manifest_contents"]:
        kept = count_text(found["manifest_contents"], "content")
        say(f"  {kept} of manifests: snapshots and policies that were only there are gone")
    if found["affected_count"]:
        _say_affected(found)


def _say_affected(found: dict[str, Any]) -> None:
    say(f"  {count_text(found['affected_count'], 'entry')} of snapshots cannot be read whole:")
    for entry in found["affected"][:SHOWN_MAX]:
        say(f"    {entry['snapshot']}/{entry['path']}{'/' if entry['directory'] else ''}")
    if found["affected_count"] > SHOWN_MAX:
        say(f"    and {found['affected_count'] - SHOWN_MAX:,} more (--json has them)")
    say("  repair with --commit, then back up the same data again with --force-hash 100:")
    say("  what is lost is stored anew and heals the snapshots")


COMMANDS = {"repo repair": (configure, repair)}
