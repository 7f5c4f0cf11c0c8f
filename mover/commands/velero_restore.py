"""`mover velero restore`: a file, a volume, or all volumes of a backup, straight from the bucket."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mover import exit_codes
from mover.arguments import add_progress_options, examples
from mover.commands.restore import (
    add_restore_options,
    document,
    exit_code,
    report,
    restore_options,
    stream_target,
    tell_failures,
)
from mover.commands.tree import COPY_BYTES
from mover.commands.velero import say_table
from mover.console import count_text, duration_text, say, say_json, size_text, tell
from mover.paths import absolute
from mover.progress_display import ProgressDisplay
from mover.running import run
from mover.velero_opening import STORE_TEXT, add_words, open_store, split_words
from repository.engine import CancelToken, Progress
from repository.errors import CanceledError, DataMoverError, FilesystemError, InvalidRequestError
from repository.requests import RestoreOptions
from repository.snapshots import RestoreResult
from velero_store.reader import VolumeReader
from velero_store.store import Backup, VeleroStore
from velero_store.targets import target_paths
from velero_store.volumes import State, Volume

# States of which nothing can be had from the bucket, through nobody's choice
LOST = frozenset({State.FAILED, State.SNAPSHOT_ONLY, State.FOREIGN, State.PENDING, State.UNREADABLE})
RESTORED, NOT_RESTORED, LEFT_OUT, BROKEN = "restored", "not restored", "left out", "failed"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `velero restore`."""
    add_words(
        parser,
        "STORE BACKUP (NS/PVC[/PATH] TARGET | --all --into DIR)",
        "the store, a backup, a volume or a path in it, and a directory, file, device or -",
    )
    parser.add_argument("--all", action="store_true", help="every volume of the backup")
    parser.add_argument("--into", metavar="DIR", help="with --all: gets NAMESPACE/PVC for each volume")
    parser.add_argument(
        "--format", choices=("tree", "tar"), default="tree", help="as files, or one tar archive"
    )
    add_restore_options(parser)
    add_progress_options(parser)
    parser.description = (
        "Restore from a backup. A block device becomes a sparse image of its size, or is written over a\n"
        "device. --all makes DIR/NS/PVC, DIR/NS/pods/POD/VOLUME and DIR/NS/PVC.img, and\n"
        "ends with 5 if a volume could not be had. --overwrite skip goes on where it was ended.\n\n"
        f"{STORE_TEXT}"
    )
    examples(
        parser,
        "mover velero restore s3://bucket/prefix latest --all --into /srv/rescued",
        "mover velero restore s3://bucket/prefix latest shop/data/db/dump.sql dump.sql",
        "mover velero restore /mnt/bucket nightly-20261130 shop/disk /dev/vg/disk",
    )


def restore(arguments: argparse.Namespace) -> int:
    """Restores; 5 if something could not be, 40 if that was because the repository is damaged."""
    if arguments.all != bool(arguments.into):
        raise InvalidRequestError("--all and --into DIR go together")
    url, words = split_words(arguments, *((1, 1) if arguments.all else (3, 3)))
    with open_store(arguments, url) as store:
        backup = store.backup(words[0])
        if arguments.all:
            return _restore_all(arguments, store, backup)
        volume, inside = backup.choose(words[1])
        return _restore_one(arguments, store.reader(volume), inside, words[2])


def _restore_one(arguments: argparse.Namespace, reader: VolumeReader, inside: str, target: str) -> int:
    if not reader.is_empty:
        reader.what(inside)  # before a target is made
    arguments.target = target
    options = restore_options(arguments)
    if options.format == "stream" and reader.is_block:
        # The engine would give the padding of the image too.
        with reader.open_file(inside) as image:
            shutil.copyfileobj(image, sys.stdout.buffer, COPY_BYTES)
            sys.stdout.buffer.flush()
        return exit_codes.DONE
    started = time.monotonic()
    with stream_target(arguments, options.format) as descriptor:
        adapted = _adapted(replace(options, file_descriptor=descriptor), reader)
        result = run(
            lambda progress, cancel: reader.restore(
                inside, absolute(target), adapted, progress=progress, cancel=cancel
            ),
            ProgressDisplay("restore", arguments, bytes_expected=reader.volume.size_bytes or 0),
        )
    return report(arguments, result, time.monotonic() - started)


def _adapted(options: RestoreOptions, reader: VolumeReader) -> RestoreOptions:
    """An image has no owner, mode and time of its own."""
    return replace(options, owners=False, modes=False, times=False) if reader.is_block else options


@dataclass(slots=True)
class _Outcome:
    """What became of one volume."""

    volume: Volume
    target: Path
    what: str
    reason: str = ""
    result: RestoreResult | None = None
    code: int = exit_codes.DONE


def _restore_all(arguments: argparse.Namespace, store: VeleroStore, backup: Backup) -> int:
    if arguments.format == "tar":
        raise InvalidRequestError("--all restores files: --format tar is of one volume")
    into = Path(arguments.into).absolute()
    if into.exists() and not into.is_dir():
        raise InvalidRequestError(f"{into} is no directory")
    volumes = [store.resolved(one) for one in backup.volumes(detail=True)]
    for damage in backup.damages():
        tell(f"backup {backup.name}: {damage}; what is restored comes from the rest of it")
    arguments.target = arguments.into
    options = restore_options(arguments)
    outcomes: list[_Outcome] = []
    started = time.monotonic()
    try:
        run(_worker(store, volumes, into, options, outcomes), _display(arguments, volumes))
    except CanceledError:
        tell(f"{len(outcomes)} of {len(volumes)} volumes are done; --overwrite skip goes on with the others")
        raise
    _report_all(arguments, outcomes, time.monotonic() - started)
    lost = [exit_codes.FAILED_ENTRIES] if backup.damages() else []
    return max((one.code for one in outcomes), default=exit_codes.DONE) or max(lost, default=exit_codes.DONE)


def _display(arguments: argparse.Namespace, volumes: Sequence[Volume]) -> ProgressDisplay:
    expected = sum(one.size_bytes or 0 for one in volumes if one.is_readable)
    return ProgressDisplay("restore", arguments, bytes_expected=expected)


def _worker(
    store: VeleroStore,
    volumes: Sequence[Volume],
    into: Path,
    options: RestoreOptions,
    outcomes: list[_Outcome],
) -> Callable[[Progress, CancelToken], None]:
    """Restores one volume after the other; each has all the memory and all the threads."""

    def work(progress: Progress, cancel: CancelToken) -> None:
        readers = [store.reader(one) for one in volumes]
        paths = target_paths([(one.volume, _is_block(one)) for one in readers])
        for reader, path in zip(readers, paths, strict=True):
            if cancel.is_canceled:
                raise CanceledError("canceled")
            outcomes.append(_restored(reader, into / path, options, progress, cancel))

    return work


def _is_block(reader: VolumeReader) -> bool:
    """What fails here fails again when the volume is restored, and is told then."""
    try:
        return reader.is_block
    except DataMoverError:
        return False


def _restored(
    reader: VolumeReader, target: Path, options: RestoreOptions, progress: Progress, cancel: CancelToken
) -> _Outcome:
    volume = reader.volume
    if volume.state in LOST:
        return _Outcome(volume, target, NOT_RESTORED, volume.reason, code=exit_codes.FAILED_ENTRIES)
    if volume.state is State.SKIPPED:
        return _Outcome(volume, target, LEFT_OUT, volume.reason)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        result = reader.restore("", target, _adapted(options, reader), progress=progress, cancel=cancel)
    except CanceledError:
        raise
    except OSError as error:
        raise FilesystemError(f"cannot make {target.parent}: {error.strerror}") from None
    except DataMoverError as error:
        code = exit_codes.of_error(error)
        code = code if code == exit_codes.CORRUPTED else exit_codes.FAILED_ENTRIES
        return _Outcome(volume, target, BROKEN, str(error), code=code)
    return _Outcome(volume, target, RESTORED, volume.reason, result, exit_code(result))


def _report_all(arguments: argparse.Namespace, outcomes: Sequence[_Outcome], elapsed_seconds: float) -> None:
    for one in outcomes:
        if one.result:
            tell_failures(one.result, f"{one.volume.path}/")
    if arguments.json:
        say_json({"volumes": [_outcome_document(one) for one in outcomes]})
        return
    if arguments.quiet:
        for one in outcomes:
            if one.code:
                tell(f"{one.volume.path}: {one.what}: {one.reason}")
        return
    say_table(("VOLUME", "FILES", "SIZE", "RESULT", "TARGET"), [_outcome_row(one) for one in outcomes])
    done = [one.result for one in outcomes if one.result]
    parts = [
        f"restored {count_text(len(done), 'volume')} of {len(outcomes)}",
        count_text(sum(one.file_count for one in done), "file"),
        size_text(sum(one.file_bytes for one in done)),
    ]
    failed = sum(one.failed_count for one in done)
    refused = sum(one.refused_count for one in done)
    parts += [f"{failed:,} failed"] if failed else []
    parts += [f"{refused:,} without owner, permissions or times"] if refused else []
    say(f"{', '.join(parts)} in {duration_text(elapsed_seconds)}")


def _outcome_row(one: _Outcome) -> Sequence[str]:
    reason = f": {one.reason}" if one.reason else ""
    if one.result is None:
        return one.volume.path, "-", "-", one.what + reason, "-"
    failed = f", {one.result.failed_count:,} failed" if one.result.failed_count else ""
    size = size_text(one.result.file_bytes)
    return one.volume.path, f"{one.result.file_count:,}", size, one.what + failed + reason, str(one.target)


def _outcome_document(one: _Outcome) -> dict[str, object]:
    restored = {"target": str(one.target), "restore": document(one.result)} if one.result else {}
    return one.volume.document() | {"result": one.what, "resultReason": one.reason or None} | restored


COMMANDS = {"velero restore": (configure, restore)}
