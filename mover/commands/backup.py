"""`mover backup PATH`."""

from __future__ import annotations

import argparse
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mover import exit_codes
from mover.ahead import look_ahead
from mover.arguments import (
    add_progress_options,
    add_writer_options,
    examples,
    filled,
    percent,
    positive,
    seconds,
    size,
    tags,
)
from mover.console import count_text, duration_text, say, say_json, size_text, tell
from mover.opening import open_session
from mover.paths import absolute, readable
from mover.progress_display import ProgressDisplay
from mover.running import run
from repository.errors import FilesystemError
from repository.requests import BackupOptions, Source, Stream
from repository.snapshot_names import SnapshotNames

if TYPE_CHECKING:
    from repository.engine import Ahead
    from repository.session import Session
    from repository.snapshots import BackupResult

FAILED_SHOWN_MAX = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `backup`."""
    add = parser.add_argument
    add("path", metavar="PATH", type=filled, help="directory, file or block device; with --stdin only a name")
    add(
        "--stdin",
        metavar="NAME",
        type=filled,
        help="read standard input: it becomes the file NAME in PATH",
    )
    add("--tag", "--tags", metavar="K:V", action="append", default=[], dest="tags", help="a tag; repeatable")
    add("--description", metavar="TEXT", default="", help="said of the snapshot")
    add("--pin", metavar="NAME", action="append", default=[], help="never let it expire; repeatable")
    add("--parallel", metavar="N", type=positive, help="files read at a time (the policy's, else one a core)")
    add("--compression", metavar="NAME", help="instead of the policy's: none, zstd, s2-default, …")
    add("--no-parent", action="store_true", help="read every file, whatever earlier snapshots say")
    add("--parent", metavar="SNAPSHOT", action="append", help="compare with this one; repeatable")
    add("--force-hash", metavar="PERCENT", type=percent, help="read so many of the unchanged files again")
    add("--user", metavar="NAME", help="recorded user")
    add("--host", metavar="NAME", help="recorded host")
    add("--source-path", metavar="PATH", help="recorded path")
    add("--override-source", metavar="U@H:PATH", help="recorded user, host and path at once")
    add("--start-time", metavar="TIME", help="recorded start, RFC 3339")
    add("--checkpoint-interval", metavar="TIME", type=seconds, help="time between checkpoints (45m)")
    add("--parallel-upload-above", metavar="SIZE", type=size, help="larger files are read in parts (2G)")
    add("--fail-fast", action="store_true", help="stop at the first entry that cannot be read")
    add("--ignore-identical", action="store_true", default=None, help="save nothing if nothing changed")
    add_progress_options(parser)
    add_writer_options(parser)
    parser.description = (
        "Back up PATH and save a snapshot. Files whose size, time, mode and owner are those of the last\n"
        "snapshot are not read again. Ctrl-C keeps what is stored; the next backup goes on from there."
    )
    examples(
        parser,
        "mover backup /home/me --tag kind:nightly",
        "mover backup /dev/vg/data --parallel 8",
        "pg_dump db | mover backup /databases/db --stdin db.sql",
    )


def backup(arguments: argparse.Namespace) -> int:
    """Takes a backup; 5 if entries could not be read, 10 if it was canceled."""
    options = _options(arguments)
    ahead = _look_ahead(arguments)
    with open_session(arguments, read_only=False) as session:
        source = _source(arguments, session)
        expected = _expected_bytes(session, source)
        display = ProgressDisplay("backup", arguments, bytes_expected=expected)
        options = _with_source(options, source, arguments)
        if arguments.parent and not arguments.no_parent:
            options = replace(options, parents=SnapshotNames(session).ids(arguments.parent))
        started = time.monotonic()
        result = run(
            lambda progress, cancel: session.backup(
                _resolved(arguments), options, progress=progress, cancel=cancel, ahead=ahead
            ),
            display,
        )
        if arguments.json:
            say_json(_document(result))
        elif not arguments.quiet:
            _summarize(result, time.monotonic() - started)
    _tell_failed(result)
    return _exit_code(result, fail_fast=arguments.fail_fast)


def _look_ahead(arguments: argparse.Namespace) -> Ahead | None:
    """Looks at the source while the key is derived, where that can spare work."""
    return None if arguments.stdin or arguments.no_parent else look_ahead(_resolved(arguments))


def _options(arguments: argparse.Namespace) -> BackupOptions:
    found = tags(arguments.tags)
    return BackupOptions(
        stream=Stream(sys.stdin.fileno(), arguments.stdin) if arguments.stdin else None,
        description=arguments.description,
        tags=found,
        pins=arguments.pin,
        parallelism=arguments.parallel,
        compression=arguments.compression,
        parents=() if arguments.no_parent else None,
        force_hash_percent=arguments.force_hash,
        checkpoint_interval_seconds=arguments.checkpoint_interval,
        fail_fast=arguments.fail_fast,
        start_time=arguments.start_time,
        parallel_upload_above_bytes=arguments.parallel_upload_above,
        ignore_identical=arguments.ignore_identical,
    )


def _with_source(options: BackupOptions, source: Source, arguments: argparse.Namespace) -> BackupOptions:
    return replace(options, source=source, block_device=not options.stream and _is_device(arguments.path))


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(Path(path).stat().st_mode)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FilesystemError(f"cannot read the source {path}: {reason}") from None


def _resolved(arguments: argparse.Namespace) -> str:
    """What is read: as in Kopia, a link that is named itself is followed."""
    path = Path(arguments.path)
    if arguments.stdin or not path.is_symlink():
        return absolute(arguments.path)
    return str(path.resolve())


def _source(arguments: argparse.Namespace, session: Session) -> Source:
    """What is recorded. A path that is not UTF-8 is recorded as Kopia's JSON would have it."""
    if arguments.override_source:
        return Source.parse(arguments.override_source)
    recorded = readable(arguments.source_path or absolute(arguments.path))
    default = session.source_of(recorded)
    return Source(arguments.user or default.username, arguments.host or default.hostname, recorded)


def _expected_bytes(session: Session, source: Source) -> int:
    """The size of the last snapshot: the best guess at this one's."""
    complete = [one for one in session.snapshots(source) if not one.incomplete_reason]
    return int(complete[-1].summary.get("size", 0)) if complete else 0


def _summarize(result: BackupResult, elapsed_seconds: float) -> None:
    snapshot, summary = result.snapshot, result.snapshot.summary
    what = f"snapshot {snapshot.id}" if result.saved else "no snapshot, nothing has changed,"
    unfinished = f" (incomplete: {snapshot.incomplete_reason})" if snapshot.incomplete_reason else ""
    say(f"{what} of {snapshot.source}{unfinished}")
    totals = (
        count_text(summary.get("files", 0), "file"),
        count_text(summary.get("dirs", 0), "directory"),
        count_text(summary.get("symlinks", 0), "link"),
        size_text(summary.get("size", 0)),
    )
    say(f"  {', '.join(totals)}")
    rate = size_text(result.bytes_read / elapsed_seconds) if elapsed_seconds else "0 B"
    say(f"  read {size_text(result.bytes_read)} in {duration_text(elapsed_seconds)} ({rate}/s)")
    say(f"  unchanged {count_text(result.files_cached, 'file')}, {size_text(result.bytes_cached)}")
    if result.vanished_count:
        vanished = count_text(result.vanished_count, "entry")
        say(f"  passed over {vanished} deleted while the backup ran")
    say(f"  stored {size_text(result.bytes_uploaded)}, known {size_text(result.bytes_deduplicated)}")


def _document(result: BackupResult) -> dict[str, Any]:
    """Kopia's document, and what Kopia does not count where there is any."""
    counted = {"vanishedCount": result.vanished_count, "namesNotUTF8": result.not_utf8_count}
    counted["lostPacks"] = result.lost_pack_count
    return dict(result.snapshot.document) | {name: count for name, count in counted.items() if count}


def _tell_failed(result: BackupResult) -> None:
    if result.lost_pack_count:
        packs = count_text(result.lost_pack_count, "pack")
        tell(f"{packs} of the repository gone: what was read is stored again; see mover repo repair")
    if result.not_utf8_count:
        names = count_text(result.not_utf8_count, "name")
        tell(f"{names} not UTF-8: stored as Kopia stores them, with � for each such byte; they come back so")
    for failed in result.failed[:FAILED_SHOWN_MAX]:
        tell(f"cannot back up {failed.path}: {failed.error}")
    if len(result.failed) > FAILED_SHOWN_MAX:
        tell(f"and {len(result.failed) - FAILED_SHOWN_MAX:,} more; see mover snapshot show")


def _exit_code(result: BackupResult, *, fail_fast: bool) -> int:
    failed = result.snapshot.stats.get("errorCount", 0)
    if result.snapshot.incomplete_reason == "canceled" and not (fail_fast and failed):
        return exit_codes.CANCELED
    return exit_codes.FAILED_ENTRIES if failed else exit_codes.DONE


COMMANDS = {"backup": (configure, backup)}
