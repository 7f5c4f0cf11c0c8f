"""`mover cache info|clear`: what is kept on the local disk of storages that are far."""

from __future__ import annotations

import argparse
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mover.arguments import examples
from mover.console import count_text, say, say_json, size_text
from mover.opening import cache_directory

# The engine keeps the blobs of each storage in a directory with such a name; nothing else is ever touched.
OF_A_STORAGE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Cached:
    """The cached blobs of one storage."""

    directory: Path
    file_count: int
    size_bytes: int


def _cached(directory: Path) -> list[Cached]:
    if not directory.is_dir():
        return []
    names = sorted(one.name for one in os.scandir(directory) if one.is_dir(follow_symlinks=False))
    found = []
    for name in filter(OF_A_STORAGE.fullmatch, names):
        sizes = [size for _, size in _files(directory / name)]
        found.append(Cached(directory / name, len(sizes), sum(sizes)))
    return found


def _files(directory: Path) -> Iterator[tuple[Path, int]]:
    """Regular files and their sizes; others may take some away meanwhile."""
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield path, status.st_size


def configure_info(parser: argparse.ArgumentParser) -> None:
    """`cache info` has no options of its own."""
    examples(parser, "mover cache info", "mover cache info --cache-directory /var/cache/mover")


def info(arguments: argparse.Namespace) -> int:
    """Shows where the cache is, and how large."""
    directory = Path(cache_directory(arguments))
    found = _cached(directory)
    return _report(arguments, directory, found, "")


def configure_clear(parser: argparse.ArgumentParser) -> None:
    """`cache clear` has no options of its own."""
    parser.description = (
        "Delete the blobs that are cached of all storages; whoever is at work fetches them again. Nothing\n"
        "of a repository is lost: everything in the cache is a copy."
    )
    examples(parser, "mover cache clear")


def clear(arguments: argparse.Namespace) -> int:
    """Deletes what is cached."""
    directory = Path(cache_directory(arguments))
    found = _cached(directory)
    for one in found:
        for path, _ in _files(one.directory):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody caches something at this moment
            one.directory.rmdir()
    return _report(arguments, directory, found, "deleted ")


def _report(arguments: argparse.Namespace, directory: Path, found: list[Cached], verb: str) -> int:
    files, size = sum(one.file_count for one in found), sum(one.size_bytes for one in found)
    if arguments.json:
        say_json(
            {
                "directory": str(directory),
                "storageCount": len(found),
                "fileCount": files,
                "size": size,
                "limit": arguments.cache_limit,
                "cleared": bool(verb),
            }
        )
    elif not arguments.quiet:
        of = count_text(len(found), "storage")
        bound = "" if verb else f", at most {size_text(arguments.cache_limit)}"
        say(f"{directory}: {verb}{count_text(files, 'file')} of {of}, {size_text(size)}{bound}")
    return 0


COMMANDS = {"cache info": (configure_info, info), "cache clear": (configure_clear, clear)}
