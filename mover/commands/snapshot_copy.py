"""`mover snapshot copy`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mover import opening
from mover.arguments import SNAPSHOT_HELP, add_progress_options, add_writer_options, examples
from mover.console import count_text, say, say_json, size_text
from mover.password_sources import find_password
from mover.progress_display import ProgressDisplay
from mover.running import run
from repository import care, password_bytes, snapshot_choice
from repository.connection import Connection
from repository.errors import InvalidRequestError
from repository.requests import OpenOptions, Source
from repository.session import Session, open_repository
from repository.snapshot_names import SnapshotNames

TARGET_PASSWORD_VARIABLE = "KOPIA_TARGET_PASSWORD"  # noqa: S105 - a name


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `snapshot copy`."""
    add = parser.add_argument
    add("target", metavar="URL", help="the repository that gets the copies; it must exist")
    add("ids", metavar="SNAPSHOT", nargs="*", help=f"{SNAPSHOT_HELP} (default: all that are complete)")
    add(
        "--source",
        metavar="USER@HOST:PATH",
        action="append",
        default=[],
        help="those of this source; may be repeated",
    )
    add("--latest", action="store_true", help="of each source only the newest one")
    add("--incomplete", action="store_true", help="checkpoints and canceled ones too")
    add(
        "--policies",
        action="store_true",
        help="policies that the target lacks too: all, or those of exactly the sources that are copied",
    )
    add("--overwrite-policies", action="store_true", help="policies too, in place of those of the target")
    add("--dry-run", action="store_true", help="only say what would be copied")
    add(
        "--target-password-file",
        metavar="FILE",
        help=f"password of the target; else {TARGET_PASSWORD_VARIABLE}, else the same one",
    )
    add_writer_options(parser)
    add_progress_options(parser)
    parser.description = (
        "Copy snapshots into another repository, which may have another password, format and compression.\n"
        "What it has already is not stored twice. May be repeated: what was copied is passed over."
    )
    examples(
        parser,
        "mover snapshot copy /mnt/archive",
        "mover snapshot copy 's3://bucket/archive?region=eu-central-1' ID --target-password-file FILE",
        "mover snapshot copy /mnt/archive --source me@here:/home --latest --policies",
    )


def copy(arguments: argparse.Namespace) -> int:
    """Copies what the target lacks."""
    # what is stored anew is hashed: damage must not get a name of its own over there
    arguments.rehash = True
    if arguments.ids and (arguments.source or arguments.latest):
        raise InvalidRequestError("give IDs of snapshots, or --source and --latest, not both")
    arguments.source = [Source.parse(text) for text in arguments.source]
    with opening.open_session(arguments) as source, _target(arguments) as target:
        arguments.ids = SnapshotNames(source).ids(arguments.ids)
        policies = _copy_policies(arguments, source, target)
        report = _copy_snapshots(arguments, source, target)
    if policies:
        report["policies"] = asdict(policies)
    if arguments.json:
        say_json(report)
    elif not arguments.quiet:
        _say(report)
    return 0


def _copy_snapshots(arguments: argparse.Namespace, source: Session, target: Session) -> dict[str, Any]:
    chosen = tuple(arguments.ids)
    if arguments.source or arguments.latest:
        wanted = {"latest": arguments.latest, "incomplete": arguments.incomplete}
        chosen = snapshot_choice.choose(source, arguments.source, **wanted)
    options = care.SnapshotCopyOptions(
        snapshots=chosen, incomplete=arguments.incomplete, dry_run=arguments.dry_run
    )
    return run(
        lambda progress, cancel: care.copy_snapshots(
            source, target, options, progress=progress, cancel=cancel
        ),
        ProgressDisplay("snapshot copy", arguments),
    )


def _copy_policies(
    arguments: argparse.Namespace, source: Session, target: Session
) -> snapshot_choice.PolicyCopies | None:
    if not (arguments.policies or arguments.overwrite_policies):
        return None
    sources = arguments.source or [one.source for one in source.snapshots() if one.id in arguments.ids]
    return snapshot_choice.copy_policies(
        source,
        target,
        sources or None,
        overwrite=arguments.overwrite_policies,
        dry_run=arguments.dry_run,
    )


def _target(arguments: argparse.Namespace) -> Session:
    found = Connection(url=arguments.target)
    options = OpenOptions(
        memory_limit_bytes=arguments.memory_limit,
        connection=opening.connection_options(arguments, found, read_only=arguments.dry_run),
    )
    return open_repository(arguments.target, _target_password(arguments), options)


def _target_password(arguments: argparse.Namespace) -> bytes:
    if arguments.target_password_file:
        return password_bytes.of_file(Path(arguments.target_password_file))
    if (given := password_bytes.of_variable(TARGET_PASSWORD_VARIABLE)) is not None:
        return given
    return find_password(arguments, opening.find_connection(arguments))


def _say(report: dict[str, Any]) -> None:
    for one in report["copied"]:
        say(f"{one['source']}  {one['id']}" + (f" -> {one['copy']}" if one["copy"] else ""))
    verb = "to copy" if report["dry_run"] else "copied"
    say(f"{verb}: {count_text(len(report['copied']), 'snapshot')}; there already: {report['present']:,}")
    if policies := report.get("policies"):
        copied, present = len(policies["copied"]), len(policies["present"])
        say(f"policies {verb}: {copied:,}; there already: {present:,}")
    if report["objects"]:
        say(f"  {count_text(report['objects'], 'object')} read, {size_text(report['bytes'])}")


COMMANDS = {"snapshot copy": (configure, copy)}
