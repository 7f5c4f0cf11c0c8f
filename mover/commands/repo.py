"""`mover repo create|connect|disconnect|status`."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from mover import opening
from mover.arguments import add_writer_options, examples, filled, positive, seconds
from mover.commands.health import say_health
from mover.console import say, say_json, size_text
from mover.password_sources import find_password, new_password
from repository import connection
from repository.connection import Connection
from repository.errors import InvalidRequestError, UnsupportedFormatError
from repository.identity import default_hostname, default_username
from repository.requests import CreateOptions, OpenOptions
from repository.session import create_repository, open_repository

MIB = 1 << 20
STORAGE_TYPES = {"file": "filesystem", "azure": "azureBlob"}  # Kopia's names where they differ
PROTECTIONS = {"versions": "versions of objects", "objectLock": "object lock"}


def configure_create(parser: argparse.ArgumentParser) -> None:
    """Options of `repo create`, named as Kopia's."""
    add = parser.add_argument
    add("url", metavar="URL", type=filled, help="a path or a URL: file:, s3:, azure:, gcs:")
    add("--format-version", type=int, choices=(1, 2, 3), help="version of the repository format (3)")
    add("--block-hash", metavar="NAME", help="hash of contents (BLAKE2B-256-128)")
    add("--encryption", metavar="NAME", help="cipher of contents (AES256-GCM-HMAC-SHA256)")
    add("--object-splitter", metavar="NAME", help="where files are cut (DYNAMIC-4M-BUZHASH)")
    add("--ecc-overhead-percent", metavar="N", type=int, help="room for error correction (0: none)")
    add("--format-block-key-derivation-algorithm", metavar="NAME", help="(scrypt-65536-8-1)")
    add("--max-pack-size-mb", metavar="N", type=positive, help="packs are closed at so many MiB (20)")
    add("--retention-mode", choices=("GOVERNANCE", "COMPLIANCE"), help="object lock of the storage")
    add("--retention-period", metavar="TIME", type=seconds, help="how long blobs are locked, like 720h")
    add("--no-global-policy", action="store_true", help="do not write Kopia's default policy")
    _add_identity(parser)
    add_writer_options(parser)
    examples(
        parser,
        "mover repo create /srv/backups",
        "mover repo create /srv/backups --block-hash BLAKE3-256 --ecc-overhead-percent 2",
    )


def _add_identity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--override-username", metavar="NAME", help="user in new snapshots (yours)")
    parser.add_argument("--override-hostname", metavar="NAME", help="host in new snapshots (this one)")


def create(arguments: argparse.Namespace) -> int:
    """Makes a repository and connects to it; not where `--repo` says that no connection is wanted."""
    found = _connection(arguments)
    pack_size = arguments.max_pack_size_mb
    period = arguments.retention_period
    options = CreateOptions(
        hash=arguments.block_hash,
        encryption=arguments.encryption,
        splitter=arguments.object_splitter,
        format_version=arguments.format_version,
        max_pack_size_bytes=None if pack_size is None else pack_size * MIB,
        ecc_overhead_percent=arguments.ecc_overhead_percent,
        key_derivation=arguments.format_block_key_derivation_algorithm,
        retention_mode=arguments.retention_mode,
        retention_period_seconds=None if period is None else int(period),
        owner=f"{found.username}@{found.hostname}",
        global_policy=not arguments.no_global_policy,
        connection=opening.connection_options(arguments, found),
    )
    password = new_password(arguments)
    try:
        create_repository(found.url, password, options)
    except UnsupportedFormatError as error:  # it was asked for by name
        raise InvalidRequestError(str(error)) from None
    return _save(arguments, found, "created")


def _connection(arguments: argparse.Namespace) -> Connection:
    url = arguments.url if "://" in arguments.url else str(Path(arguments.url).absolute())
    password_file = str(Path(arguments.password_file).absolute()) if arguments.password_file else ""
    return Connection(
        url=url,
        username=arguments.override_username or default_username(),
        hostname=arguments.override_hostname or default_hostname(),
        password_file=password_file,
        upload_bytes_per_second=arguments.max_upload_speed or 0,
        download_bytes_per_second=arguments.max_download_speed or 0,
    )


def _save(arguments: argparse.Namespace, found: Connection, done: str) -> int:
    if not arguments.repo:
        connection.save(opening.connection_path(arguments), found)
    if arguments.json:
        say_json({"url": found.url})
    elif not arguments.quiet:
        say(f"{done}: {found.url}")
    return 0


def configure_connect(parser: argparse.ArgumentParser) -> None:
    """Options of `repo connect`."""
    parser.add_argument("url", metavar="URL", type=filled, help="a path or a URL: file:, s3:, azure:, gcs:")
    parser.add_argument("--readonly", action="store_true", help="never write to it")
    _add_identity(parser)
    examples(parser, "mover repo connect /srv/backups --password-file ~/.backup-password")


def connect(arguments: argparse.Namespace) -> int:
    """Opens the repository once, to see that it can be, and remembers it."""
    found = replace(_connection(arguments), read_only=arguments.readonly)
    options = OpenOptions(connection=opening.connection_options(arguments, found, read_only=True))
    open_repository(found.url, find_password(arguments, found), options).close()
    return _save(arguments, found, "connected")


def configure_disconnect(parser: argparse.ArgumentParser) -> None:
    """`repo disconnect` has no options of its own."""
    examples(parser, "mover repo disconnect")


def disconnect(arguments: argparse.Namespace) -> int:
    """Forgets the connection; it is no error if there is none."""
    connection.remove(opening.connection_path(arguments))
    if arguments.json:
        say_json({})
    elif not arguments.quiet:
        say("disconnected")
    return 0


def configure_status(parser: argparse.ArgumentParser) -> None:
    """Options of `repo status`."""
    parser.add_argument("--brief", action="store_true", help="do not list the blobs to see what hurts")
    examples(parser, "mover repo status", "mover repo status --repo /srv/backups --json")


def status(arguments: argparse.Namespace) -> int:
    """Shows format, location and what hurts; with `--json` Kopia's document (`repo health` has the rest)."""
    with opening.open_session(arguments) as session:
        document = session.status()
        _name_as_kopia(document, read_only=opening.find_connection(arguments).read_only)
        if arguments.json:
            say_json(document)
            return 0
        for name, value in _status_lines(document):
            say(f"{name + ':':<22}{value}")
        if not arguments.brief:
            say_health(session)
    return 0


def _name_as_kopia(document: dict[str, Any], *, read_only: bool) -> None:
    """What Kopia's document has beside the engine's; what is off is left out."""
    client, content, storage = document["clientOptions"], document["contentFormat"], document["storage"]
    client["readonly"] = read_only  # this session is for reading only in any case
    if not read_only:
        del client["readonly"]
    if not content["ecc"]:
        del content["ecc"], content["eccOverheadPercent"]
    scheme, _, place = storage["url"].partition("://")
    storage["type"] = STORAGE_TYPES.get(scheme, scheme)
    if storage["type"] == "filesystem":
        storage["config"] = {"path": place}
    document["volume"] = _volume(storage["url"])


def _volume(url: str) -> dict[str, int]:
    """Capacity and room of a file system; nothing of other storages."""
    try:
        found = os.statvfs(url.removeprefix("file://"))
    except OSError:
        return {}
    return {"capacity": found.f_blocks * found.f_frsize, "available": found.f_bavail * found.f_frsize}


def _status_lines(document: dict[str, Any]) -> list[tuple[str, object]]:
    client, content = document["clientOptions"], document["contentFormat"]
    lines = [
        ("Storage", document["storage"]["url"]),
        ("Unique ID", document["uniqueIDHex"]),
        ("Client", f"{client['username']}@{client['hostname']}"),
        ("Format version", content["version"]),
        ("Hash", content["hash"]),
        ("Encryption", content["encryption"]),
        ("Error correction", f"{content['eccOverheadPercent']} %" if "ecc" in content else "none"),
        ("Splitter", document["objectFormat"]["splitter"]),
        ("Pack size", size_text(content["maxPackSize"])),
        ("Index version", content["indexVersion"]),
        ("Epochs", "enabled" if content["epochParameters"]["Enabled"] else "disabled"),
    ]
    if found := document["storage"].get("protection"):
        has = [words for name, words in PROTECTIONS.items() if found[name]]
        lines.insert(1, ("Protection", ", ".join(has) or "none: what is deleted is gone"))
    if document["volume"]:
        lines.insert(1, ("Storage available", size_text(document["volume"]["available"])))
    return lines


COMMANDS = {
    "repo create": (configure_create, create),
    "repo connect": (configure_connect, connect),
    "repo disconnect": (configure_disconnect, disconnect),
    "repo status": (configure_status, status),
}
