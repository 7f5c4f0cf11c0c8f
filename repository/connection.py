"""Which repository is meant when none is named: a connection file of ours, or Kopia's `repository.config`.

A connection file holds no password, at most the path of a file that does. Of Kopia's file the storage,
user, host, limits and the password that `kopia` may have kept beside it are read; it is never written.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from repository.errors import InvalidRequestError, RepositoryNotFoundError
from repository.password_bytes import KOPIA_SUFFIX

REPOSITORY_VARIABLE = "MOVER_REPOSITORY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A repository and who we are there. `password_file` may be empty; a speed of 0 is no limit."""

    url: str
    username: str = ""
    hostname: str = ""
    read_only: bool = False
    password_file: str = ""
    upload_bytes_per_second: int = 0
    download_bytes_per_second: int = 0


def configuration_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where configuration files live."""
    return Path(environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config")


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Our connection file if none is named."""
    return configuration_directory(environment) / "kopia-data-mover" / "connection.json"


def kopia_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Kopia's connection file if none is named."""
    named = environment.get("KOPIA_CONFIG_PATH")
    return Path(named) if named else configuration_directory(environment) / "kopia" / "repository.config"


def save(path: Path, connection: Connection) -> None:
    """Writes a connection file, whole or not at all, readable by its owner only.

    Raises:
        InvalidRequestError: The file is Kopia's.
    """
    refuse_kopias(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    text = json.dumps(asdict(connection), indent=2) + "\n"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def remove(path: Path) -> None:
    """Forgets a connection; it is no error if there is none.

    Raises:
        InvalidRequestError: The file is Kopia's.
    """
    refuse_kopias(path)
    path.unlink(missing_ok=True)


def refuse_kopias(path: Path) -> None:
    """Kopia's connection file is only ever read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(document, dict) and "storage" in document:
        raise InvalidRequestError(f"{path} is kopia's own connection file: it is read, never changed")


def load(path: Path) -> Connection:
    """Reads a connection file of either program.

    Raises:
        RepositoryNotFoundError: There is no such file.
        InvalidRequestError: It is no connection file, or its storage is not known.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RepositoryNotFoundError(f"not connected: there is no {path}") from None
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"cannot read the connection file {path}: {_reason(error)}") from None
    try:
        return _checked(_of_kopia(path, document) if "storage" in document else Connection(**document))
    except (TypeError, KeyError):
        raise InvalidRequestError(f"{path} is not a connection file of mover or kopia") from None


def _checked(found: Connection) -> Connection:
    texts = (found.url, found.username, found.hostname, found.password_file)
    if not all(isinstance(text, str) for text in texts) or not isinstance(found.read_only, bool):
        raise TypeError
    return found


def _reason(error: OSError | ValueError) -> str:
    """Why a file could not be read, in words."""
    return (error.strerror or "it failed").lower() if isinstance(error, OSError) else "not text"


def find(environment: Mapping[str, str] = os.environ) -> Connection:
    """The connection in force: the URL in MOVER_REPOSITORY, else our file, else Kopia's.

    Raises:
        RepositoryNotFoundError: There is none.
    """
    if url := environment.get(REPOSITORY_VARIABLE):
        return Connection(url=url)
    for path in (default_path(environment), kopia_path(environment)):
        if path.exists():
            return load(path)
    raise RepositoryNotFoundError(
        f"not connected: give --repo URL, set {REPOSITORY_VARIABLE}, or run mover repo connect URL"
    )


def _of_kopia(path: Path, document: Mapping[str, Any]) -> Connection:
    from repository import kopia_storage  # noqa: PLC0415 - rarely

    kind, config = document["storage"]["type"], document["storage"]["config"]
    try:
        url = kopia_storage.storage_url(kind, config, _keep)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"cannot use the connection in {path}: {error}") from None
    beside = Path(f"{path}{KOPIA_SUFFIX}")
    upload, download = kopia_storage.speeds(config)
    return Connection(
        url=url,
        username=document.get("username", ""),
        hostname=document.get("hostname", ""),
        read_only=bool(document.get("readonly", False)),
        password_file=str(beside) if beside.exists() else "",
        upload_bytes_per_second=upload,
        download_bytes_per_second=download,
    )


def _keep(name: str, secret: bytes) -> str:
    """Writes a private file that lives as long as the process: credentials are read again while it runs."""
    import shutil  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    from repository.credentials import write_private  # noqa: PLC0415

    directory = tempfile.mkdtemp(prefix="mover-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return write_private(Path(directory) / name, secret)
