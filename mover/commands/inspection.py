"""`mover content|blob|index`: what the repository is made of, read only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from mover.arguments import examples
from mover.console import say, say_json, say_json_lines
from mover.opening import open_session
from repository.errors import (
    BlobNotFoundError,
    ContentNotFoundError,
    InvalidRequestError,
    ObjectNotFoundError,
)

INDEX_PREFIXES = ("n", "xn", "xs", "xr")


def configure_content_list(parser: argparse.ArgumentParser) -> None:
    """Options of `content list`."""
    parser.add_argument(
        "--prefix", default="", help="one letter: k directories, m manifests, x index objects"
    )
    parser.add_argument("--deleted", action="store_true", help="deleted ones too")
    examples(parser, "mover content list --json", "mover content list --prefix k")


def content_list(arguments: argparse.Namespace) -> int:
    """Lists contents."""
    with open_session(arguments) as session:
        found = session.contents(arguments.prefix, include_deleted=arguments.deleted)
        return _say_all(arguments, found, ("contentID", "length", "packFile"))


def _say_all(
    arguments: argparse.Namespace, found: Iterable[Mapping[str, Any]], fields: tuple[str, ...]
) -> int:
    if arguments.json:
        say_json_lines(found)
    else:
        for one in found:
            say(" ".join(str(one[name]) for name in fields))
    return 0


def configure_content_inspect(parser: argparse.ArgumentParser) -> None:
    """Options of `content inspect`."""
    parser.add_argument("id", metavar="ID", help="the content")
    parser.add_argument("--raw", action="store_true", help="print its plain bytes")
    examples(parser, "mover content inspect ID", "mover content inspect ID --raw | jq .")


def content_inspect(arguments: argparse.Namespace) -> int:
    """Shows where a content is, or its bytes."""
    with open_session(arguments) as session:
        try:
            document = session.content_info(arguments.id)
        except ContentNotFoundError as error:  # not damage: it was asked for by hand
            raise ObjectNotFoundError(str(error)) from None
        if arguments.raw:
            return _write(session.content(arguments.id))
    return _say_document(arguments, document)


def _say_document(arguments: argparse.Namespace, document: Mapping[str, Any]) -> int:
    if arguments.json:
        say_json(document)
    else:
        for name, value in document.items():
            say(f"{name + ':':<16}{value}")
    return 0


def _write(data: bytes) -> int:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return 0


def configure_blob_list(parser: argparse.ArgumentParser) -> None:
    """Options of `blob list`."""
    parser.add_argument("--prefix", default="", help="beginning of the names: p, q packs, x, n indexes")
    examples(parser, "mover blob list", "mover blob list --prefix q --json")


def blob_list(arguments: argparse.Namespace) -> int:
    """Lists blobs by name."""
    with open_session(arguments) as session:
        found = sorted(session.blobs(arguments.prefix), key=lambda one: str(one["id"]))
    return _say_all(arguments, found, ("id", "length", "timestamp"))


def configure_blob_inspect(parser: argparse.ArgumentParser) -> None:
    """Options of `blob inspect`."""
    parser.add_argument("id", metavar="ID", help="the blob")
    parser.add_argument("--raw", action="store_true", help="print its bytes as stored")
    examples(parser, "mover blob inspect BLOB", "mover blob inspect kopia.repository --raw")


def blob_inspect(arguments: argparse.Namespace) -> int:
    """Shows a blob's length and time and, of a pack, the contents in it; or its bytes."""
    with open_session(arguments) as session:
        found = [one for one in session.blobs(arguments.id) if one["id"] == arguments.id]
        if not found:
            raise ObjectNotFoundError(f"there is no blob {arguments.id}")
        if arguments.raw:
            try:
                return _write(session.blob(arguments.id))
            except BlobNotFoundError as error:
                raise ObjectNotFoundError(str(error)) from None
        packed = session.contents(include_deleted=True) if arguments.id[:1] in "pq" else ()
        inside = sorted(
            (one for one in packed if one["packFile"] == arguments.id), key=lambda one: int(one["packOffset"])
        )
    document = {**found[0], "contents": inside}
    if arguments.json:
        say_json(document)
        return 0
    _say_document(arguments, found[0])
    return _say_all(arguments, inside, ("contentID", "packOffset", "length"))


def configure_index_list(parser: argparse.ArgumentParser) -> None:
    """`index list` has no options of its own."""
    examples(parser, "mover index list")


def index_list(arguments: argparse.Namespace) -> int:
    """Lists index blobs."""
    with open_session(arguments) as session:
        found = [one for prefix in INDEX_PREFIXES for one in session.blobs(prefix)]
    found.sort(key=lambda one: str(one["timestamp"]))
    return _say_all(arguments, found, ("id", "length", "timestamp"))


def configure_index_inspect(parser: argparse.ArgumentParser) -> None:
    """Options of `index inspect`."""
    parser.add_argument("id", metavar="ID", help="the index blob")
    examples(parser, "mover index inspect BLOB", "mover index inspect BLOB --json")


def index_inspect(arguments: argparse.Namespace) -> int:
    """Lists the entries of one index blob."""
    if not arguments.id.startswith(INDEX_PREFIXES):
        raise InvalidRequestError(f"{arguments.id!r} is not the name of an index blob; see mover index list")
    with open_session(arguments) as session:
        try:
            entries = session.index_entries(arguments.id)
        except BlobNotFoundError as error:
            raise ObjectNotFoundError(str(error)) from None
    return _say_all(arguments, entries, ("contentID", "packFile", "packOffset", "length", "deleted"))


COMMANDS = {
    "content list": (configure_content_list, content_list),
    "content inspect": (configure_content_inspect, content_inspect),
    "blob list": (configure_blob_list, blob_list),
    "blob inspect": (configure_blob_inspect, blob_inspect),
    "index list": (configure_index_list, index_list),
    "index inspect": (configure_index_inspect, index_inspect),
}
