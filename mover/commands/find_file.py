"""`mover find PATTERN`: in which snapshots a file is, and when it changed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby

from mover.arguments import SNAPSHOT_HELP, examples, filled
from mover.console import count_text, escaped, say, say_json_lines, size_text, tell
from mover.opening import open_session
from repository.finding import Found, find, matcher
from repository.session import Session
from repository.snapshot_names import SnapshotNames
from repository.snapshots import Snapshot


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `find`."""
    add = parser.add_argument
    add("pattern", metavar="PATTERN", type=filled, help="name, or path in the snapshot; * ? [] as in a shell")
    add("snapshots", metavar="SNAPSHOT", nargs="*", help=f"{SNAPSHOT_HELP} (all that are complete)")
    add("-i", "--ignore-case", action="store_true", help="capitals or not")
    add("--changed", action="store_true", help="only where it is not the same as in the snapshot before")
    parser.description = (
        "List the snapshots that have a file or directory, of each source the oldest first. A pattern with\n"
        "a / is of the whole path in the snapshot. `same` is what has not changed since the snapshot before."
    )
    examples(
        parser,
        "mover find letter.txt",
        "mover find 'documents/*.odt' --changed",
        "mover find '*.JPG' latest --ignore-case",
    )


def find_(arguments: argparse.Namespace) -> int:
    """Lists where it is; 0 also if it is nowhere, which is told."""
    matches, count = matcher(arguments.pattern, ignore_case=arguments.ignore_case), 0
    with open_session(arguments) as session:
        listed = (
            one
            for snapshots in _by_source(arguments, session)
            for one in find(session, snapshots, matches)
            if not (arguments.changed and one.same)
        )
        if arguments.json:
            say_json_lines(_document(one) for one in listed)
            return 0
        count = _say(listed)
    if not count:
        tell(f"no snapshot has {arguments.pattern!r}")
    elif not arguments.quiet:
        say(count_text(count, "finding"))
    return 0


def _by_source(arguments: argparse.Namespace, session: Session) -> Iterator[Sequence[Snapshot]]:
    names = SnapshotNames(session)
    if arguments.snapshots:
        found = list({one.id: one for one in map(names.snapshot, arguments.snapshots)}.values())
    else:
        found = [one for one in session.snapshots() if not one.incomplete_reason]
    ordered = sorted(found, key=lambda one: (str(one.source), one.started_at))
    for _, group in groupby(ordered, key=lambda one: str(one.source)):
        yield list(group)


def _say(found: Iterator[Found]) -> int:
    count = 0
    for snapshot, group in groupby(found, key=lambda one: one.snapshot):
        say(f"{snapshot.id}  {escaped(str(snapshot.source))}  {snapshot.started_at:%Y-%m-%d %H:%M:%S} UTC")
        for one in group:
            entry, version = one.entry, "same" if one.same else "changed"
            slash = "/" if entry.is_directory else ""
            modified = f"{entry.modified_at:%Y-%m-%d %H:%M:%S}"
            say(f"  {version:<7}  {size_text(entry.size_bytes):>9}  {modified}  {escaped(entry.path)}{slash}")
            count += 1
    return count


def _document(one: Found) -> dict[str, object]:
    return {
        "snapshot": one.snapshot.id,
        "source": one.snapshot.document["source"],
        "startTime": one.snapshot.document["startTime"],
        "path": one.entry.path,
        "same": one.same,
        "entry": dict(one.entry.document),
    }


COMMANDS = {"find": (configure, find_)}
