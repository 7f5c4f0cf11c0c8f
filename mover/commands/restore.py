"""`mover restore ID[/SUB/PATH] TARGET`."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mover import exit_codes
from mover.archive_file import archive_file
from mover.arguments import SNAPSHOT_HELP, add_progress_options, examples, filled, positive
from mover.console import count_text, duration_text, say, say_json, size_text, tell
from mover.opening import open_session
from mover.paths import absolute, readable
from mover.progress_display import ProgressDisplay
from mover.running import run
from repository.block_image import BlockImage, cut_to_device_size, find_block_image
from repository.errors import InvalidRequestError
from repository.requests import BlockRestoreOptions, RestoreOptions
from repository.snapshot_names import SnapshotNames, described
from repository.snapshots import RestoreResult

if TYPE_CHECKING:
    from repository.engine import CancelToken, Progress
    from repository.session import Session

FAILED_SHOWN_MAX = 20
STANDARD_OUTPUT = "-"
DAMAGE = frozenset({"CorruptedError", "BlobNotFoundError", "ContentNotFoundError"})


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `restore`."""
    add = parser.add_argument
    add("what", metavar="SNAPSHOT[/SUB]", type=filled, help=f"{SNAPSHOT_HELP}; or a part of it")
    add(
        "target",
        metavar="TARGET",
        type=filled,
        help="directory, file, block device, or - for standard output",
    )
    add("--format", choices=("tree", "tar"), default="tree", help="as files, or one tar archive")
    add_restore_options(parser)
    add_progress_options(parser)
    parser.description = (
        "Restore a snapshot or a part of it. Nothing outside of TARGET is written; a file that fails is not\n"
        "left with wrong bytes. --overwrite skip goes on with an interrupted restore."
    )
    examples(
        parser,
        "mover restore latest /tmp/restored",
        "mover restore /home/me@2026-11-30/documents /tmp/documents",
        "mover restore ID/documents/letter.txt -",
        "mover restore ID archive.tar --format tar",
        "mover restore ID /dev/vg/data",
    )


def add_restore_options(parser: argparse.ArgumentParser) -> None:
    """How files are written, for whatever restores."""
    add = parser.add_argument
    add("--overwrite", choices=("always", "skip", "never"), default="always", help="what is there already")
    add("--parallel", metavar="N", type=positive, help="threads (one a core)")
    add("--no-sparse", action="store_true", help="write zeros where files have holes")
    add("--delete-extra", action="store_true", help="delete what the snapshot does not have")
    add("--skip-owners", action="store_true", help="leave users and groups")
    add("--skip-permissions", action="store_true", help="leave permission bits")
    add("--skip-times", action="store_true", help="leave times")
    add("--no-ignore-permission-errors", action="store_true", help="fail where attributes are refused")
    add("--fail-fast", action="store_true", help="stop at the first entry that fails")
    add("--rehash", action="store_true", help="also hash what is read; its seal is checked in any case")
    add("--sync", action="store_true", help="return when everything is on stable storage")


def restore(arguments: argparse.Namespace) -> int:
    """Restores; 5 if entries failed, 40 if that was because the repository is damaged."""
    arguments.what = readable(arguments.what)  # as names that are not UTF-8 are stored
    options, target = restore_options(arguments), absolute(arguments.target)
    started = time.monotonic()
    with ExitStack() as ends:
        session = ends.enter_context(open_session(arguments))
        arguments.what = told_path(session, arguments.what, quiet=arguments.quiet)
        descriptor = ends.enter_context(stream_target(arguments, options.format))
        image = _told_image(session, arguments)
        options = replace(options, file_descriptor=descriptor)
        to_device = Path(target).is_block_device() and find_block_image(session, arguments.what) is not None
        result = run(
            lambda progress, cancel: (
                _restore_device(session, arguments, progress=progress, cancel=cancel)
                if to_device
                else session.restore(arguments.what, target, options, progress=progress, cancel=cancel)
            ),
            ProgressDisplay("restore", arguments),
        )
        if image is not None and not result.failed_count:
            is_part = "/" in arguments.what.rstrip("/")
            cut_to_device_size(Path(target) if is_part else Path(target) / image.name, image)
    return report(arguments, result, time.monotonic() - started)


def told_path(session: Session, text: str, *, quiet: bool) -> str:
    """`ID/SUB/PATH` of what is restored; which snapshot that is is told before anything is written."""
    named = SnapshotNames(session).resolve(text)
    if named.snapshot is not None and not quiet:
        snapshot = named.snapshot
        age = duration_text(max((datetime.now(UTC) - snapshot.started_at).total_seconds(), 0))
        tell(f"{text} is {described(snapshot)}, {age} ago")
    return named.path


def report(arguments: argparse.Namespace, result: RestoreResult, elapsed_seconds: float) -> int:
    """Prints what a restore came to; gives the exit code."""
    _summarize(arguments, result, elapsed_seconds)
    tell_failures(result)
    return exit_code(result)


def tell_failures(result: RestoreResult, above: str = "") -> None:
    """The first entries that failed; `above` goes before their paths."""
    for failed in result.failures[:FAILED_SHOWN_MAX]:
        tell(f"cannot restore {above}{failed.path or '.'}: {failed.error}")
    if result.failed_count > FAILED_SHOWN_MAX:
        tell(f"and {result.failed_count - FAILED_SHOWN_MAX:,} more")
    for refused in result.refused[:FAILED_SHOWN_MAX]:
        tell(f"{above.rstrip('/')}: {refused.error}" if above else refused.error)
    if result.refused_count > FAILED_SHOWN_MAX:
        tell(f"and {result.refused_count - FAILED_SHOWN_MAX:,} more whose attributes were refused")


def _restore_device(
    session: Session, arguments: argparse.Namespace, *, progress: Progress, cancel: CancelToken
) -> RestoreResult:
    """Restore what velero-block wrote to a device: its real size, and a thin one stays thin."""
    options = BlockRestoreOptions(parallelism=arguments.parallel)
    snapshot_id, target = arguments.what.split("/", 1)[0], absolute(arguments.target)
    done = session.restore_block(snapshot_id, target, options, progress=progress, cancel=cancel)
    return RestoreResult(
        file_count=1,
        directory_count=0,
        symlink_count=0,
        skipped_count=0,
        deleted_count=0,
        file_bytes=done.device_bytes,
        storage_requests=0,
        storage_bytes=done.storage_bytes,
        needed_bytes=done.storage_bytes,
        failed_count=0,
        failures=(),
        refused_count=0,
        refused=(),
    )


def _told_image(session: Session, arguments: argparse.Namespace) -> BlockImage | None:
    """Say that an image file is made where a user may have expected the files of a volume."""
    if arguments.format == "tar" or arguments.target == STANDARD_OUTPUT:
        return None
    if Path(arguments.target).is_block_device():
        return None
    image = find_block_image(session, arguments.what)
    if image is not None:
        tell(
            f"{arguments.what} is the image of a block device (made by velero-block): it is restored as one "
            f"file of {image.size_bytes:,} bytes, not as the files of a volume"
        )
    return image


def stream_target(arguments: argparse.Namespace, form: str) -> AbstractContextManager[int | None]:
    """Where a restore to one stream writes; an archive that is there stays until the new one is whole."""
    if arguments.target == STANDARD_OUTPUT:
        return nullcontext(sys.stdout.fileno())
    if form == "tar":
        return archive_file(arguments.target, replace=arguments.overwrite != "never", sync=arguments.sync)
    return nullcontext(None)


def restore_options(arguments: argparse.Namespace) -> RestoreOptions:
    """The options of a restore, but for the descriptor of `stream_target`."""
    form = arguments.format
    if arguments.target == STANDARD_OUTPUT:
        form = "tar" if form == "tar" else "stream"
        if arguments.json:
            raise InvalidRequestError("--json and a restore to standard output do not go together")
    return RestoreOptions(
        format=form,
        overwrite=arguments.overwrite,
        delete_extra=arguments.delete_extra,
        sparse=not arguments.no_sparse,
        owners=not arguments.skip_owners,
        modes=not arguments.skip_permissions,
        times=not arguments.skip_times,
        ignore_permission_errors=not arguments.no_ignore_permission_errors,
        ignore_errors=not arguments.fail_fast,
        parallelism=arguments.parallel,
        sync=arguments.sync,
    )


def _summarize(arguments: argparse.Namespace, result: RestoreResult, elapsed_seconds: float) -> None:
    if arguments.json:
        say_json(document(result))
        return
    if arguments.quiet:
        return
    line = tell if arguments.target == STANDARD_OUTPUT else say
    parts = [
        count_text(result.file_count, "file"),
        count_text(result.directory_count, "directory"),
        count_text(result.symlink_count, "link"),
        size_text(result.file_bytes),
    ]
    parts += [f"{number:,} {what}" for number, what in _remarks(result) if number]
    rate = size_text(result.file_bytes / elapsed_seconds) if elapsed_seconds else "0 B"
    line(f"restored {', '.join(parts)} in {duration_text(elapsed_seconds)} ({rate}/s)")


def _remarks(result: RestoreResult) -> list[tuple[int, str]]:
    return [
        (result.skipped_count, "there already"),
        (result.deleted_count, "deleted"),
        (result.failed_count, "failed"),
        (result.refused_count, "without owner, permissions or times"),
    ]


def document(result: RestoreResult) -> dict[str, object]:
    """What `--json` says of a restore."""
    return {
        "fileCount": result.file_count,
        "dirCount": result.directory_count,
        "symlinkCount": result.symlink_count,
        "skippedCount": result.skipped_count,
        "deletedCount": result.deleted_count,
        "totalSize": result.file_bytes,
        "storageRequests": result.storage_requests,
        "storageBytes": result.storage_bytes,
        "neededBytes": result.needed_bytes,
        "readAmplification": round(result.storage_bytes / result.needed_bytes, 3)
        if result.needed_bytes
        else 1,
        "errorCount": result.failed_count,
        "refusedCount": result.refused_count,
        "refused": [{"path": one.path, "error": one.error} for one in result.refused],
        "errors": [{"path": one.path, "error": one.error} for one in result.failures],
    }


def exit_code(result: RestoreResult) -> int:
    """5 if entries failed, 40 if that was because the repository is damaged."""
    if any(one.kind in DAMAGE for one in result.failures):
        return exit_codes.CORRUPTED
    incomplete = result.failed_count or result.refused_count
    return exit_codes.FAILED_ENTRIES if incomplete else exit_codes.DONE


COMMANDS = {"restore": (configure, restore)}
