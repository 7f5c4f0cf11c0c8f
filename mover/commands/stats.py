"""`mover stats`: how large snapshots are, what of it is stored once, and what compression saves."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mover.arguments import SNAPSHOT_HELP, examples
from mover.console import count_text, say, say_json, size_text
from mover.opening import open_session
from repository import care
from repository.session import Session
from repository.snapshot_names import SnapshotNames
from repository.snapshots import Snapshot


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `stats`."""
    parser.add_argument(
        "snapshots", metavar="SNAPSHOT", nargs="*", help=f"{SNAPSHOT_HELP}: only their sizes (all)"
    )
    parser.description = (
        "Show how large snapshots are when restored, how large their contents are stored once\n"
        "(deduplicated), compressed, and as blobs. The last three are of the whole repository: snapshots\n"
        "share contents."
    )
    examples(parser, "mover stats", "mover stats latest --json")


def stats(arguments: argparse.Namespace) -> int:
    """Shows sizes and ratios."""
    with open_session(arguments) as session:
        if arguments.snapshots:
            names = SnapshotNames(session)
            found = list({one.id: one for one in map(names.snapshot, arguments.snapshots)}.values())
            document = _of_snapshots(found)
        else:
            document = _of_snapshots(session.snapshots()) | _of_repository(session)
            document |= _ratios(document)
    if arguments.json:
        say_json(document)
    else:
        _say(document)
    return 0


def _of_snapshots(found: list[Snapshot]) -> dict[str, Any]:
    return {
        "snapshotCount": len(found),
        "sourceCount": len({one.source for one in found}),
        "fileCount": sum(int(one.summary.get("files", 0)) for one in found),
        "restoreSize": sum(int(one.summary.get("size", 0)) for one in found),
    }


def _of_repository(session: Session) -> dict[str, Any]:
    """Sizes of what is stored; a content is counted once, however many snapshots have it."""
    count = plain = packed = 0
    for one in session.contents():
        count += 1
        plain += int(one["originalLength"])
        packed += int(one["length"])
    blobs: Mapping[str, Mapping[str, int]] = care.health(session)["blobs"]
    return {
        "contentCount": count,
        "contentSize": plain,
        "packedSize": packed,
        "blobCount": sum(one["count"] for one in blobs.values()),
        "blobSize": sum(one["bytes"] for one in blobs.values()),
    }


def _ratios(document: Mapping[str, Any]) -> dict[str, float | None]:
    def ratio(large: str, small: str) -> float | None:
        return round(document[large] / document[small], 3) if document[small] else None

    return {
        "dedupRatio": ratio("restoreSize", "contentSize"),
        "compressionRatio": ratio("contentSize", "packedSize"),
    }


def _say(document: Mapping[str, Any]) -> None:
    snapshots = count_text(document["snapshotCount"], "snapshot")
    files = count_text(document["fileCount"], "file")
    say(f"{snapshots} of {count_text(document['sourceCount'], 'source')}, {files}")
    rows = [("restored", document["restoreSize"], "")]
    if "contentSize" in document:
        rows += [
            ("stored once", document["contentSize"], _times(document, "dedupRatio")),
            ("compressed", document["packedSize"], _times(document, "compressionRatio")),
            ("in the storage", document["blobSize"], count_text(document["blobCount"], "blob")),
        ]
    for name, size, remark in rows:
        say(f"  {name:<14} {size_text(size):>10}  {remark}".rstrip())


def _times(document: Mapping[str, Any], name: str) -> str:
    return f"1:{document[name]:.2f}" if document[name] is not None else ""


COMMANDS = {"stats": (configure, stats)}
