"""`mover snapshot list|show|delete|expire|pin`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import PurePosixPath

from mover.arguments import SNAPSHOT_HELP, add_writer_options, examples, positive, tags
from mover.console import count_text, escaped, say, say_json, say_json_lines, size_text, tell
from mover.opening import open_session
from mover.paths import absolute
from repository.errors import InvalidRequestError
from repository.requests import Source
from repository.session import Session
from repository.snapshot_names import SnapshotNames
from repository.snapshots import Snapshot

PERIODS = ("latest", "hourly", "daily", "weekly", "monthly", "annual")


def configure_list(parser: argparse.ArgumentParser) -> None:
    """Options of `snapshot list`."""
    add = parser.add_argument
    add("source", metavar="SOURCE", nargs="?", help="only of this path or USER@HOST:PATH")
    add("-a", "--all", action="store_true", help="of all users and hosts (--json always lists them)")
    add(
        "-i",
        "--incomplete",
        action="store_true",
        help="checkpoints and canceled ones too (--json always lists them)",
    )
    add("--tag", "--tags", metavar="K:V", action="append", default=[], dest="tags", help="only with this tag")
    add("-n", "--max-results", metavar="N", type=positive, help="only so many newest of each source")
    examples(parser, "mover snapshot list --all", "mover snapshot list /home/me --json")


def list_(arguments: argparse.Namespace) -> int:
    """Lists snapshots by source and time; as JSON all of them, as `kopia snapshot list --json` does."""
    with open_session(arguments) as session:
        found = _found(arguments, session)
        listed = found if arguments.json else _wanted(found, arguments, session)
        listed = sorted(listed, key=lambda one: str(one.source))
        listed = _with_reasons(listed, session)
    groups = [list(group) for _, group in groupby(listed, key=lambda one: str(one.source))]
    if arguments.max_results:
        groups = [group[-arguments.max_results :] for group in groups]
    if arguments.json:
        say_json_lines(one.document for group in groups for one in group)
    else:
        _say_groups(groups)
        if not groups and not arguments.all and arguments.source is None:
            tell("only snapshots of this user and host are listed; others with --all")
    return 0


def _found(arguments: argparse.Namespace, session: Session) -> list[Snapshot]:
    """Snapshots with the tags; of a path also those of the directories above it, which hold it too."""
    wanted = tags(arguments.tags)
    if arguments.source is None:
        return session.snapshots(None, wanted)
    source = _source(arguments, session)
    paths = [PurePosixPath(source.path), *PurePosixPath(source.path).parents]
    return [one for path in paths for one in session.snapshots(replace(source, path=str(path)), wanted)]


def _source(arguments: argparse.Namespace, session: Session) -> Source:
    if "@" in arguments.source and ":" in arguments.source:
        return Source.parse(arguments.source)
    return session.source_of(absolute(arguments.source))


def _wanted(found: Iterable[Snapshot], arguments: argparse.Namespace, session: Session) -> list[Snapshot]:
    """Without `--all` the snapshots of this user and host; without `--incomplete` complete ones."""
    mine = session.source_of("")
    everyone = arguments.all or arguments.source is not None

    def is_wanted(one: Snapshot) -> bool:
        owner = (one.source.username, one.source.hostname)
        is_mine = everyone or owner == (mine.username, mine.hostname)
        return is_mine and (arguments.incomplete or not one.incomplete_reason)

    return [one for one in found if is_wanted(one)]


def _with_reasons(listed: list[Snapshot], session: Session) -> list[Snapshot]:
    """Says of each snapshot why it is kept, as `kopia snapshot list` does."""
    reasons: dict[str, list[str]] = {}
    for source in dict.fromkeys(one.source for one in listed):
        reasons |= session.retention_reasons(source)

    def with_reasons(one: Snapshot) -> Snapshot:
        found = reasons.get(one.id)
        return Snapshot({**one.document, "retentionReason": found}) if found else one

    return [with_reasons(one) for one in listed]


def _say_groups(groups: list[list[Snapshot]]) -> None:
    for group in groups:
        say(escaped(str(group[0].source)))
        for one in group:
            say(f"  {_line(one)}")
    if not groups:
        say("no snapshots")


def _line(snapshot: Snapshot) -> str:
    summary = snapshot.summary
    parts = [
        f"{snapshot.started_at:%Y-%m-%d %H:%M:%S} UTC",
        snapshot.id,
        size_text(summary.get("size", snapshot.root.size_bytes)),
        count_text(summary.get("files", 1), "file"),
    ]
    if summary.get("numFailed"):
        parts.append(f"{summary['numFailed']} failed")
    if snapshot.incomplete_reason:
        parts.append(f"incomplete: {snapshot.incomplete_reason}")
    parts += [f"pin:{pin}" for pin in snapshot.pins]
    parts += [f"{key.removeprefix('tag:')}:{value}" for key, value in sorted(snapshot.tags.items())]
    reasons = snapshot.document.get("retentionReason")
    return escaped("  ".join(parts) + (f"  ({','.join(reasons)})" if reasons else ""))


def configure_show(parser: argparse.ArgumentParser) -> None:
    """Options of `snapshot show`."""
    parser.add_argument("id", metavar="SNAPSHOT", help=SNAPSHOT_HELP)
    examples(parser, "mover snapshot show latest", "mover snapshot show ID --json | jq .stats")


def show(arguments: argparse.Namespace) -> int:
    """Prints the manifest."""
    with open_session(arguments) as session:
        snapshot = SnapshotNames(session).snapshot(arguments.id)
    if arguments.json:
        say_json(snapshot.document)
    else:
        say_json(snapshot.document, indent=2)
    return 0


def configure_delete(parser: argparse.ArgumentParser) -> None:
    """Options of `snapshot delete`."""
    parser.add_argument("ids", metavar="SNAPSHOT", nargs="+", help=SNAPSHOT_HELP)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    add_writer_options(parser)
    parser.description = (
        "Delete snapshots, and say which they were. Their data goes with maintenance. A source's path needs\n"
        "its time (PATH@TIME) here: one that meant the newest alone could be taken for all of them."
    )
    examples(parser, "mover snapshot delete ID ID", "mover snapshot delete /home/me@2026-11-30 --dry-run")


def delete(arguments: argparse.Namespace) -> int:
    """Deletes snapshots; their data goes with maintenance."""
    with open_session(arguments, read_only=arguments.dry_run) as session:
        names = SnapshotNames(session)
        for text in arguments.ids:
            if names.resolve(text).by_source:
                raise InvalidRequestError(
                    f"{text!r} names a source: say which of its snapshots, {text}@TIME or an ID"
                )
        found = list({one.id: one for one in map(names.snapshot, arguments.ids)}.values())
        if not arguments.dry_run:
            session.delete_snapshots([one.id for one in found])
    what = "would delete" if arguments.dry_run else "deleted"
    lines = [f"{what} {count_text(len(found), 'snapshot')}"]
    lines += [f"  {escaped(str(one.source))}  {_line(one)}" for one in found]
    document = {
        "deleted": [] if arguments.dry_run else [one.id for one in found],
        "dryRun": arguments.dry_run,
        "snapshots": [
            {"id": one.id, "source": str(one.source), "startTime": one.document["startTime"]} for one in found
        ],
    }
    return _report(arguments, document, "\n".join(lines))


def _report(arguments: argparse.Namespace, document: dict[str, object], text: str) -> int:
    if arguments.json:
        say_json(document)
    elif not arguments.quiet:
        say(text)
    return 0


def configure_expire(parser: argparse.ArgumentParser) -> None:
    """Options of `snapshot expire`."""
    parser.add_argument("sources", metavar="SOURCE", nargs="*", help="paths or USER@HOST:PATH (all of yours)")
    parser.add_argument("-a", "--all", action="store_true", help="of all users and hosts")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    rules = parser.add_argument_group("instead of the policy, this once (what is not given keeps nothing)")
    for period in PERIODS:
        also = ("--keep-last",) if period == "latest" else ()
        rules.add_argument(f"--keep-{period}", *also, metavar="N", type=positive, dest=f"keep_{period}")
    add_writer_options(parser)
    examples(
        parser,
        "mover snapshot expire --dry-run",
        "mover snapshot expire /home/me --keep-last 3 --keep-daily 7 --dry-run",
        "mover snapshot expire /home/me",
        "mover snapshot expire --all",
    )


def expire(arguments: argparse.Namespace) -> int:
    """Applies the retention policy."""
    retention = {
        f"keep{period.capitalize()}": count
        for period in PERIODS
        if (count := getattr(arguments, f"keep_{period}")) is not None
    }
    expired = _expired_by(arguments, retention) if retention else _expired(arguments)
    what = "would delete" if arguments.dry_run else "deleted"
    lines = [f"{what} {count_text(len(expired), 'snapshot')}", *(f"  {one}" for one in expired)]
    return _report(arguments, {"expired": expired, "dryRun": arguments.dry_run}, "\n".join(lines))


def _expired(arguments: argparse.Namespace) -> list[str]:
    expired: list[str] = []
    with open_session(arguments, read_only=False) as session:
        for source in _sources(arguments, session):
            expired += session.expire_snapshots(source, dry_run=arguments.dry_run)
    return expired


def _expired_by(arguments: argparse.Namespace, retention: dict[str, int]) -> list[str]:
    """Deletes what a retention that is nowhere defined does not keep."""
    expired: list[str] = []
    with open_session(arguments) as session:
        sources = _sources(arguments, session)
    for source in sources:
        with open_session(arguments, read_only=False) as session:
            expired += session.expired_by(source, retention)
    if expired and not arguments.dry_run:
        with open_session(arguments, read_only=False) as session:
            session.delete_snapshots(expired)
    return expired


def _sources(arguments: argparse.Namespace, session: Session) -> list[Source]:
    if arguments.sources:
        return [_source(argparse.Namespace(source=text), session) for text in arguments.sources]
    every = argparse.Namespace(all=arguments.all, source=None, incomplete=True)
    return list(dict.fromkeys(one.source for one in _wanted(session.snapshots(), every, session)))


def configure_pin(parser: argparse.ArgumentParser) -> None:
    """Options of `snapshot pin`."""
    parser.add_argument("ids", metavar="SNAPSHOT", nargs="+", help=SNAPSHOT_HELP)
    parser.add_argument("--add", metavar="PIN", action="append", default=[], help="repeatable")
    parser.add_argument("--remove", metavar="PIN", action="append", default=[], help="repeatable")
    add_writer_options(parser)
    examples(parser, "mover snapshot pin ID --add keep-for-audit")


def pin(arguments: argparse.Namespace) -> int:
    """Adds and removes pins; a changed snapshot has a new ID, which is printed."""
    with open_session(arguments, read_only=False) as session:
        changed = [
            session.pin_snapshot(one, add=arguments.add, remove=arguments.remove)
            for one in SnapshotNames(session).ids(arguments.ids)
        ]
    return _report(arguments, {"ids": changed}, "\n".join(changed))


COMMANDS = {
    "snapshot list": (configure_list, list_),
    "snapshot show": (configure_show, show),
    "snapshot delete": (configure_delete, delete),
    "snapshot expire": (configure_expire, expire),
    "snapshot pin": (configure_pin, pin),
}
