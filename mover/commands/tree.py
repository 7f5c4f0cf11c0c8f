"""`mover ls`, `mover cat`, `mover diff`: looking into snapshots."""

from __future__ import annotations

import argparse
import shutil
import stat
import sys
from collections.abc import Iterable

from mover.arguments import SNAPSHOT_HELP, examples
from mover.console import escaped, say, say_json_lines
from mover.opening import open_session
from repository.snapshot_names import SnapshotNames
from repository.snapshots import Difference, Entry

COPY_BYTES = 1 << 20
TYPES = {"d": stat.S_IFDIR, "s": stat.S_IFLNK}
# Go's places of the three bits that are not permissions
SPECIAL = ((0x80_0000, stat.S_ISUID), (0x40_0000, stat.S_ISGID), (0x10_0000, stat.S_ISVTX))
SIGNS = {"added": "+", "removed": "-", "modified": "M"}


def configure_ls(parser: argparse.ArgumentParser) -> None:
    """Options of `ls`."""
    parser.add_argument("path", metavar="SNAPSHOT[/PATH]", help=f"{SNAPSHOT_HELP}, or a directory in it")
    parser.add_argument("-l", "--long", action="store_true", help="mode, size, time and object too")
    parser.add_argument("-r", "--recursive", action="store_true", help="everything below too")
    examples(parser, "mover ls -l latest", "mover ls --recursive ID/documents")


def ls(arguments: argparse.Namespace) -> int:
    """Lists a directory."""
    with open_session(arguments) as session:
        path = SnapshotNames(session).path(arguments.path)
        walked = session.walk(path) if arguments.recursive else session.entries(path)
        say_entries(arguments, walked)
    return 0


def say_entries(arguments: argparse.Namespace, walked: Iterable[Entry]) -> None:
    """Prints what a listing gave, but for the directory itself."""
    entries = (entry for entry in walked if entry.path)
    if arguments.json:
        say_json_lines(_with_path(entry) if arguments.recursive else entry.document for entry in entries)
    else:
        for entry in entries:
            say(_long(entry) if arguments.long else _path(entry))


def _with_path(entry: Entry) -> dict[str, object]:
    return {"path": entry.path, **entry.document}


def _path(entry: Entry) -> str:
    return escaped(entry.path) + ("/" if entry.is_directory else "")


def _long(entry: Entry) -> str:
    special = sum(bit for go, bit in SPECIAL if entry.mode & go)
    mode = stat.filemode(TYPES.get(entry.type, stat.S_IFREG) | entry.mode & 0o777 | special)
    size = f"{entry.size_bytes:>12}"
    return f"{mode} {size} {entry.modified_at:%Y-%m-%d %H:%M:%S} UTC {entry.object_id:<34} {_path(entry)}"


def configure_cat(parser: argparse.ArgumentParser) -> None:
    """Options of `cat`."""
    parser.add_argument("path", metavar="SNAPSHOT/PATH", help=f"a file in {SNAPSHOT_HELP}")
    examples(
        parser, "mover cat latest/documents/letter.txt | less", "mover cat /home/me@2026-11-30/letter.txt"
    )


def cat(arguments: argparse.Namespace) -> int:
    """Prints the bytes of a file."""
    with (
        open_session(arguments) as session,
        session.open_file(SnapshotNames(session).path(arguments.path)) as file,
    ):
        shutil.copyfileobj(file, sys.stdout.buffer, COPY_BYTES)
        sys.stdout.buffer.flush()
    return 0


def configure_diff(parser: argparse.ArgumentParser) -> None:
    """Options of `diff`."""
    parser.add_argument("before", metavar="SNAPSHOT[/PATH]", help="the earlier tree")
    parser.add_argument("after", metavar="SNAPSHOT[/PATH]", help="the later tree")
    examples(parser, "mover diff latest@2d latest", "mover diff EARLIER/documents LATER/documents --json")


def diff(arguments: argparse.Namespace) -> int:
    """Lists what is not the same in two trees: + added, - removed, M modified."""
    with open_session(arguments) as session:
        names = SnapshotNames(session)
        say_differences(arguments, session.diff(names.path(arguments.before), names.path(arguments.after)))
    return 0


def say_differences(arguments: argparse.Namespace, found: Iterable[Difference]) -> None:
    """Prints what a comparison gave."""
    if arguments.json:
        say_json_lines(_document(one) for one in found)
    else:
        for one in found:
            say(f"{SIGNS[one.change]} {escaped(one.path) or '.'}")


def _document(one: Difference) -> dict[str, object]:
    return {
        "path": one.path,
        "change": one.change,
        "before": one.before and one.before.document,
        "after": one.after and one.after.document,
    }


COMMANDS = {"ls": (configure_ls, ls), "cat": (configure_cat, cat), "diff": (configure_diff, diff)}
