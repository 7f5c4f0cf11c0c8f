"""From the arguments of `mover velero …` to an open store of backups, and the words that are left."""

from __future__ import annotations

import argparse

from mover.console import tell
from mover.opening import connection_options, location_with_files
from mover.password_sources import given_password
from mover.paths import readable
from repository.connection import Connection
from repository.errors import InvalidRequestError
from repository.location import store_url
from repository.requests import OpenOptions
from velero_store.store import VeleroStore, open_velero_store

STORE_TEXT = (
    "STORE is what a BackupStorageLocation points to: s3://bucket/prefix, azure://container/prefix or\n"
    "gcs://bucket/prefix (options: docs/object-stores.md), or a directory with a copy of the bucket. With\n"
    "--bsl FILE it is left out. Nothing is ever written there, and no cluster is asked. Without\n"
    "--password-file and KOPIA_PASSWORD the default password of Velero is tried."
)
# options that say which repository, which the store itself knows
MEANINGLESS = ("repo", "config", "namespace")


def add_words(parser: argparse.ArgumentParser, usage: str, what: str) -> None:
    """The positional words of a command, all of them at once: with `--bsl` the first one is not there."""
    parser.add_argument("words", metavar="WORD", nargs="*", help=what)
    parser.usage = f"{parser.prog} {usage} [options]"


def split_words(arguments: argparse.Namespace, least: int, most: int) -> tuple[str, list[str]]:
    """The store's URL, and the words behind it.

    Raises:
        InvalidRequestError: There are too few or too many.
    """
    for name in MEANINGLESS:
        if getattr(arguments, name) is not None:
            raise InvalidRequestError(
                f"--{name} is not for mover velero: the first word, or --bsl, is the store"
            )
    words = [readable(word) for word in arguments.words]  # as names that are not UTF-8 are stored
    store = _store_of_location(arguments) if arguments.bsl else words.pop(0) if words else ""
    if not store:
        raise InvalidRequestError(
            "no store: give s3://bucket/prefix, azure://…, gcs://…, a directory or --bsl FILE"
        )
    if not least <= len(words) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise InvalidRequestError(f"{len(words)} words behind the store, not {wanted}; see --help")
    return store, words


def _store_of_location(arguments: argparse.Namespace) -> str:
    files = location_with_files(arguments)
    return store_url(files.location, credentials_path=files.credentials_path, ca_path=files.ca_path)


def open_store(arguments: argparse.Namespace, store: str) -> VeleroStore:
    """Opens the store; Velero's default password is tried where none is given, and that is told."""
    options = OpenOptions(
        memory_limit_bytes=arguments.memory_limit,
        check_hashes=getattr(arguments, "rehash", None),
        connection=connection_options(arguments, Connection(url=store), read_only=True),
    )
    return open_velero_store(
        store, password=_password(arguments), options=options, on_default_password=_tell_default
    )


def _password(arguments: argparse.Namespace) -> bytes | None:
    given = given_password(arguments)
    return None if given is None else given[0]


def _tell_default() -> None:
    tell("opened with the default password of Velero: whoever reads the bucket reads the backups")
