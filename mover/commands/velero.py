"""`mover velero ls|show|cat|find|diff`: Velero's backups straight from their bucket."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from mover.arguments import examples
from mover.commands.tree import COPY_BYTES, say_differences, say_entries
from mover.console import count_text, say, say_json, size_text, tell
from mover.velero_opening import STORE_TEXT, add_words, open_store, split_words
from repository.errors import InvalidRequestError, ObjectNotFoundError
from repository.snapshots import Difference, Entry
from velero_store.reader import VolumeReader
from velero_store.store import Backup, VeleroStore
from velero_store.volumes import State, Volume

BACKUPS_AT_ONCE = 8
MESSAGES_SHOWN_MAX = 20
Row = Sequence[str]


def configure_ls(parser: argparse.ArgumentParser) -> None:
    """Options of `velero ls`."""
    add_words(parser, "STORE [BACKUP [NS/PVC[/DIR]]]", "the store, a backup, a volume and a directory in it")
    parser.add_argument(
        "-l", "--long", action="store_true", help="of backups their volumes too; of files all"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="of files everything below too")
    parser.add_argument("--check", action="store_true", help="of volumes whether their snapshots are there")
    parser.description = (
        "List the backups of a store; with BACKUP (or latest, or latest:SCHEDULE) its volumes; with NS/PVC,\n"
        f"or NS/pods/POD/VOLUME for volumes of pods, the files.\n\n{STORE_TEXT}"
    )
    examples(
        parser,
        "mover velero ls s3://bucket/prefix",
        "mover velero ls s3://bucket/prefix latest:nightly",
        "mover velero ls --bsl bsl.yaml nightly-20261130 shop/data/db -l",
    )


def ls(arguments: argparse.Namespace) -> int:
    """Lists backups, volumes or files."""
    url, words = split_words(arguments, 0, 2)
    with open_store(arguments, url) as store:
        if not words:
            _ls_backups(arguments, store)
        elif len(words) == 1:
            _ls_volumes(arguments, store, store.backup(words[0]))
        else:
            volume, inside = store.backup(words[0]).choose(words[1])
            with store.reader(volume) as reader:
                found = reader.walk(inside) if arguments.recursive else reader.entries(inside)
                say_entries(arguments, found)
    return 0


def _ls_backups(arguments: argparse.Namespace, store: VeleroStore) -> None:
    backups = sorted(store.backups(), key=lambda one: (str(one.summary()["startTime"] or ""), one.name))
    if not backups:
        tell(f"there are no backups in {store.bucket.place}: is this the bucket and prefix of the location?")
    volumes = _volumes_of_each(backups) if arguments.long else [None] * len(backups)
    if arguments.json:
        say_json([_backup_document(one, found) for one, found in zip(backups, volumes, strict=True)])
        return
    rows = [_backup_row(one, found) for one, found in zip(backups, volumes, strict=True)]
    heads = (
        "NAME",
        "PHASE",
        "STARTED",
        "EXPIRES",
        "ERRORS",
        "SCHEDULE",
        *(("VOLUMES", "SIZE") if arguments.long else ()),
    )
    say_table(heads, rows)


def _volumes_of_each(backups: Sequence[Backup]) -> list[list[Volume] | None]:
    with ThreadPoolExecutor(BACKUPS_AT_ONCE) as pool:
        return list(pool.map(lambda one: one.volumes(), backups))


def _backup_document(backup: Backup, volumes: list[Volume] | None) -> dict[str, object]:
    document = backup.summary()
    if volumes is not None:
        document |= {"volumes": len(volumes), "size": sum(one.size_bytes or 0 for one in volumes)}
    return document


def _backup_row(backup: Backup, volumes: list[Volume] | None) -> Row:
    found = backup.summary()
    row = [str(found[key] or "-") for key in ("name", "phase", "startTime", "expires", "errors", "schedule")]
    if volumes is not None:
        row += [str(len(volumes)), size_text(sum(one.size_bytes or 0 for one in volumes))]
    return row


def _ls_volumes(arguments: argparse.Namespace, store: VeleroStore, backup: Backup) -> None:
    volumes = backup.volumes(detail=arguments.long)
    if arguments.check:
        volumes = [store.checked(one) for one in volumes]
    _tell_damages(backup)
    if arguments.json:
        say_json([one.document() for one in volumes])
        return
    heads = ("VOLUME", "METHOD", "SIZE", "TAKEN", "STATE", "SNAPSHOT")
    say_table(heads, [_volume_row(one) for one in volumes])


def _tell_damages(backup: Backup) -> None:
    for damage in backup.damages():
        tell(f"backup {backup.name}: {damage}; what is listed comes from the rest of it")


def _volume_row(volume: Volume) -> Row:
    size = "-" if volume.size_bytes is None else size_text(volume.size_bytes)
    taken = f"{volume.taken_at:%Y-%m-%dT%H:%M:%SZ}" if volume.taken_at else "-"
    reason = f" ({volume.reason})" if volume.reason and volume.state is not State.EMPTY else ""
    return (
        volume.path,
        volume.method.value,
        size,
        taken,
        volume.state.value + reason,
        volume.snapshot_id or "-",
    )


def say_table(heads: Row, rows: Sequence[Row]) -> None:
    """Lines with columns below their heads."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        say("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def configure_show(parser: argparse.ArgumentParser) -> None:
    """Options of `velero show`."""
    add_words(parser, "STORE BACKUP [NS/PVC]", "the store, a backup, and a volume of it")
    parser.description = (
        "Show a backup: its phase, errors and warnings, what was in it, its volumes; or of a volume where\n"
        f"it lies: repository and snapshot, for whichever program reads it.\n\n{STORE_TEXT}"
    )
    examples(
        parser, "mover velero show s3://bucket/prefix latest", "mover velero show /mnt/bucket B shop/data"
    )


def show(arguments: argparse.Namespace) -> int:
    """Shows a backup or a volume."""
    url, words = split_words(arguments, 1, 2)
    with open_store(arguments, url) as store:
        backup = store.backup(words[0])
        if len(words) > 1:
            _show_volume(arguments, store, backup, words[1])
        else:
            _show_backup(arguments, backup)
    return 0


def _show_backup(arguments: argparse.Namespace, backup: Backup) -> None:
    volumes, results, resources = backup.volumes(detail=True), backup.results(), backup.resources()
    counts = {kind: len(names) for kind, names in resources.items()}
    _tell_damages(backup)
    document = backup.summary() | {
        "messages": results,
        "resources": counts,
        "volumes": [one.document() for one in volumes],
        "damages": backup.damages(),
    }
    if arguments.json:
        say_json(document)
        return
    for name, found in backup.summary().items():
        if found not in (None, []):
            say(f"{name}: {', '.join(map(str, found)) if isinstance(found, list) else found}")
    for kind, messages in results.items():
        for message in messages[:MESSAGES_SHOWN_MAX]:
            say(f"{kind.removesuffix('s')}: {message}")
    say(f"resources: {', '.join(f'{count} {kind}' for kind, count in counts.items()) or 'not listed'}")
    say(f"volumes: {len(volumes)}")
    if volumes:
        say_table(
            ("VOLUME", "METHOD", "SIZE", "TAKEN", "STATE", "SNAPSHOT"), [_volume_row(one) for one in volumes]
        )


def _show_volume(arguments: argparse.Namespace, store: VeleroStore, backup: Backup, path: str) -> None:
    backup.volumes(detail=True)
    volume = store.resolved(backup.volume(path))
    document = volume.document() | {"repository": None, "backup": backup.name}
    if volume.snapshot_id and volume.state is State.RESTORABLE:
        document["repository"] = store.shown_repository(volume.namespace)
    if arguments.json:
        say_json(document)
        return
    for name, found in document.items():
        if found is not None:
            say(f"{name}: {found}")


def configure_cat(parser: argparse.ArgumentParser) -> None:
    """Options of `velero cat`."""
    add_words(parser, "STORE BACKUP NS/PVC/FILE", "the store, a backup, and a file of a volume")
    parser.description = f"Print the bytes of a file, or the image of a block device.\n\n{STORE_TEXT}"
    examples(parser, "mover velero cat s3://bucket/prefix latest shop/data/db/dump.sql | less")


def cat(arguments: argparse.Namespace) -> int:
    """Prints a file."""
    url, words = split_words(arguments, 2, 2)
    with open_store(arguments, url) as store:
        volume, inside = store.backup(words[0]).choose(words[1])
        with store.reader(volume) as reader:
            if not inside and not reader.is_block:
                raise InvalidRequestError(f"{words[1]} is a whole volume: name a file in it")
            with reader.open_file(inside) as file:
                shutil.copyfileobj(file, sys.stdout.buffer, COPY_BYTES)
                sys.stdout.buffer.flush()
    return 0


def configure_find(parser: argparse.ArgumentParser) -> None:
    """Options of `velero find`."""
    add_words(parser, "STORE NS/PVC [PATH]", "the store, a volume, and a file or directory in it")
    parser.description = (
        "List the backups that have a volume, or a file of it, the newest first. `same` is what has not\n"
        f"changed since the backup before: it is the same object of the repository.\n\n{STORE_TEXT}"
    )
    examples(
        parser,
        "mover velero find s3://bucket/prefix shop/data",
        "mover velero find /mnt/bucket shop/data db/dump.sql",
    )


def find(arguments: argparse.Namespace) -> int:
    """Lists where a volume, or a file of it, is."""
    url, words = split_words(arguments, 1, 2)
    path = "/".join(words)
    with open_store(arguments, url) as store:
        found = list(_versions(store, path))
        if not found:
            raise ObjectNotFoundError(f"no backup in {store.bucket.place} has {path}")
        for one, older in zip(found, [*found[1:], {}], strict=True):
            one["same"] = bool(one["objectID"]) and one["objectID"] == older.get("objectID")
        if arguments.json:
            say_json(found)
        else:
            heads = ("BACKUP", "TAKEN", "SIZE", "MODIFIED", "VERSION", "OBJECT")
            say_table(heads, [_version_row(one) for one in found])
            versions = {one["objectID"] for one in found if one["objectID"]}
            say(f"{count_text(len(found), 'backup')}, {count_text(len(versions), 'version')}")
    return 0


def _versions(store: VeleroStore, path: str) -> Iterator[dict[str, object]]:
    backups = sorted(store.backups(), key=lambda one: str(one.summary()["startTime"] or ""), reverse=True)
    for backup, _ in zip(backups, _volumes_of_each(backups), strict=True):
        try:
            volume, inside = backup.choose(path)
            entry = _entry_or_none(store, volume, inside)
        except ObjectNotFoundError:
            continue
        yield {
            "backup": backup.name,
            "startTime": backup.summary()["startTime"],
            "state": volume.state.value,
            "reason": volume.reason or None,
            "objectID": entry.object_id if entry else None,
            "size": entry.size_bytes if entry else None,
            "mtime": entry.document.get("mtime") if entry else None,
        }


def _entry_or_none(store: VeleroStore, volume: Volume, inside: str) -> Entry | None:
    """The entry; nothing where the volume cannot be read, which is told instead."""
    volume = store.resolved(volume)
    return store.reader(volume).entry(inside) if volume.state is State.RESTORABLE else None


def _version_row(one: dict[str, object]) -> Row:
    if one["objectID"] is None:
        return str(one["backup"]), str(one["startTime"] or "-"), "-", "-", str(one["state"]), "-"
    size = one["size"]
    return (
        str(one["backup"]),
        str(one["startTime"] or "-"),
        size_text(size if isinstance(size, int) else 0),
        str(one["mtime"] or "-")[:19],
        "same" if one["same"] else "changed",
        str(one["objectID"]),
    )


def configure_diff(parser: argparse.ArgumentParser) -> None:
    """Options of `velero diff`."""
    add_words(parser, "STORE BACKUP_A BACKUP_B NS/PVC[/DIR]", "the store, two backups, a volume of both")
    parser.description = (
        f"List what is not the same in a volume: + added, - removed, M modified.\n\n{STORE_TEXT}"
    )
    examples(parser, "mover velero diff s3://bucket/prefix nightly-1 nightly-2 shop/data")


def diff(arguments: argparse.Namespace) -> int:
    """Compares a volume in two backups."""
    url, words = split_words(arguments, 3, 3)
    with open_store(arguments, url) as store:
        sides = [store.backup(name).choose(words[2]) for name in words[:2]]
        readers = [store.reader(volume) for volume, _ in sides]
        say_differences(arguments, _differences(readers, [inside for _, inside in sides]))
    return 0


def _differences(readers: Sequence[VolumeReader], inside: Sequence[str]) -> Iterator[Difference]:
    before, after = readers
    if before.is_empty or after.is_empty:
        for reader, path, change in ((before, inside[0], "removed"), (after, inside[1], "added")):
            for entry in reader.walk(path):
                if entry.path:
                    sides = (entry, None) if change == "removed" else (None, entry)
                    yield Difference(entry.path, change, *sides)
        return
    yield from after.session().diff(before.what(inside[0]), after.what(inside[1]))


COMMANDS = {
    "velero ls": (configure_ls, ls),
    "velero show": (configure_show, show),
    "velero cat": (configure_cat, cat),
    "velero find": (configure_find, find),
    "velero diff": (configure_diff, diff),
}
