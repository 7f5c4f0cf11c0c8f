"""From arguments and environment to an open repository: which one, whose password, who we are."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mover import throttle
from mover.console import tell
from mover.password_sources import find_with_origin
from repository import connection, engine
from repository.connection import Connection
from repository.errors import InvalidPasswordError, InvalidRequestError
from repository.identity import identified
from repository.requests import ConnectionOptions, OpenOptions, encode

if TYPE_CHECKING:
    from repository.credentials import LocationFiles
    from repository.session import Session

VELERO_CLIENT = "default"  # user and host of Velero's movers


def connection_path(arguments: argparse.Namespace) -> Path:
    """The connection file that `repo connect` writes."""
    return Path(arguments.config) if arguments.config else connection.default_path()


def find_connection(arguments: argparse.Namespace) -> Connection:
    """The repository that is meant: `--bsl`, else `--repo`, else `--config`, else the connection in force."""
    if arguments.bsl:
        return _connection_of_location(arguments)
    if arguments.repo is not None:
        return Connection(url=arguments.repo)
    return connection.load(Path(arguments.config)) if arguments.config else connection.find()


def _connection_of_location(arguments: argparse.Namespace) -> Connection:
    """What Velero's node-agent would open, as the client that it would be."""
    from repository.location import repository_url  # noqa: PLC0415 - rarely

    if not arguments.namespace:
        raise InvalidRequestError("--bsl needs --namespace: each namespace has a repository of its own")
    files = location_with_files(arguments)
    url = repository_url(
        files.location, arguments.namespace, credentials_path=files.credentials_path, ca_path=files.ca_path
    )
    return Connection(
        url=url,
        username=VELERO_CLIENT,
        hostname=VELERO_CLIENT,
        read_only=files.location.get("accessMode") == "ReadOnly",
    )


def location_with_files(arguments: argparse.Namespace) -> LocationFiles:
    """The location of `--bsl`; its credentials are read again while the process runs, and live as long."""
    import atexit  # noqa: PLC0415 - rarely
    import tempfile  # noqa: PLC0415 - rarely, and slow to import

    from repository.credentials import location_files, read_location  # noqa: PLC0415 - rarely

    directory = tempfile.TemporaryDirectory(prefix="mover-")
    atexit.register(directory.cleanup)
    return location_files(
        read_location(Path(arguments.bsl)), Path(directory.name), arguments.credentials_file or ""
    )


def cache_directory(arguments: argparse.Namespace) -> str:
    """Where blobs are cached."""
    if arguments.cache_directory:
        return str(arguments.cache_directory)
    base = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/")) / ".cache"
    return str(Path(base) / "kopia-data-mover" / "blobs")


def connection_options(
    arguments: argparse.Namespace, found: Connection, *, read_only: bool = False
) -> ConnectionOptions:
    """How the storage is used."""
    kept = found.upload_bytes_per_second, found.download_bytes_per_second
    return ConnectionOptions(
        throttle=throttle.throttle_of(arguments, *kept),
        sync=False if getattr(arguments, "no_sync", False) else None,
        read_only=read_only,
        cache_directory=None if arguments.no_cache else cache_directory(arguments),
        cache_bytes_max=arguments.cache_limit,
        kill_point=arguments.kill_at,
    )


def open_session(arguments: argparse.Namespace, *, read_only: bool = True) -> Session:
    """Opens the repository that is meant; for reading only, unless the command writes."""
    found = find_connection(arguments)
    wanted = OpenOptions(
        username=found.username or None,
        hostname=found.hostname or None,
        memory_limit_bytes=arguments.memory_limit,
        check_hashes=getattr(arguments, "rehash", None),
        connection=connection_options(arguments, found, read_only=read_only or found.read_only),
    )
    options, (password, origin) = identified(wanted), find_with_origin(arguments, found)
    opened = _beside(lambda: engine.Repository.open(found.url, password, encode(options)))
    # Imported while the key is derived, which takes longer.
    from repository.session import Session  # noqa: PLC0415

    try:
        session = Session(opened(), options)
    except InvalidPasswordError as error:
        raise InvalidPasswordError(f"{error}: it was {origin}", context=error.context) from None
    finally:
        tell_warnings()
    if arguments.throttle_file:
        throttle.watch(Path(arguments.throttle_file), session.set_throttle)
    return session


def tell_warnings() -> None:
    """What the engine warns of while it opens, whatever becomes of the command."""
    for level, text in engine.drain_events():
        if level in {"error", "warning"}:
            tell(f"{level}: {text}")


def _beside(work: Callable[[], engine.Repository]) -> Callable[[], engine.Repository]:
    """Starts `work` in a thread; what is given waits for it and gives, or raises, what it did."""
    results: list[engine.Repository] = []
    failures: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            failures.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()

    def wait() -> engine.Repository:
        try:
            thread.join()
        except KeyboardInterrupt:
            thread.join()  # the interpreter must not end while the engine is at work
            raise
        if failures:
            raise failures[0]
        return results[0]

    return wait
