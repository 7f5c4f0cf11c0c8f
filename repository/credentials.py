"""What a BackupStorageLocation needs beside itself: the Secrets that it names, as files of this process.

For a location that stands in a file on a disk, with its Secrets in the same file or the credentials in one of
their own. In a cluster the agent mounts the Secrets instead. Secrets go into private files, never into a
URL, a log or a `repr`.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository.errors import InvalidRequestError

Document = Mapping[str, Any]
KIND = "BackupStorageLocation"


@dataclass(frozen=True, slots=True)
class LocationFiles:
    """A location's `spec`, and the files with what it refers to; a path that is empty is not needed."""

    location: Document
    credentials_path: str
    ca_path: str


def read_location(path: Path) -> list[Document]:
    """The documents of a YAML or JSON file.

    Raises:
        InvalidRequestError: It cannot be read.
    """
    import yaml  # noqa: PLC0415 - slow to import, rarely needed

    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # The parser's message would show the line, which may be a secret's.
        raise InvalidRequestError(f"cannot read {path}: {type(error).__name__}") from None
    flat = [one for document in documents if isinstance(document, Mapping) for one in _items(document)]
    return [one for one in flat if isinstance(one, Mapping)]


def _items(document: Document) -> Iterable[Document]:
    items: Sequence[Document] = (
        document.get("items") or [document] if document.get("kind") == "List" else [document]
    )
    return items


def location_files(
    documents: Sequence[Document], directory: Path, credentials_path: str = ""
) -> LocationFiles:
    """The one location of `documents`; its Secrets and certificate are written to `directory`.

    `credentials_path` wins over the Secret that the location names.

    Raises:
        InvalidRequestError: There is not exactly one location, or a Secret that it names is missing.
    """
    locations = [one for one in documents if one.get("kind") == KIND]
    if len(locations) != 1:
        raise InvalidRequestError(f"one {KIND} is needed, there are {len(locations)}")
    spec: Document = locations[0].get("spec") or {}
    store: Document = spec.get("objectStorage") or {}
    if not credentials_path and spec.get("credential"):
        secret = secret_value(documents, spec["credential"])
        credentials_path = write_private(directory / "credentials", secret)
    authority = b""
    if store.get("caCertRef"):
        authority = secret_value(documents, store["caCertRef"])
    elif store.get("caCert"):
        authority = _decoded(store["caCert"], "objectStorage.caCert")
    ca_path = write_private(directory / "ca.pem", authority) if authority else ""
    return LocationFiles(spec, credentials_path, ca_path)


def secret_value(documents: Sequence[Document], reference: Document) -> bytes:
    """The value of a key of a Secret among `documents`.

    Raises:
        InvalidRequestError: There is no such Secret or key.
    """
    name, key = reference.get("name", ""), reference.get("key", "")
    for one in documents:
        if one.get("kind") != "Secret" or (one.get("metadata") or {}).get("name") != name:
            continue
        if key in (one.get("stringData") or {}):
            return str(one["stringData"][key]).encode()
        if key in (one.get("data") or {}):
            return _decoded(one["data"][key], f"Secret {name}, key {key}")
        raise InvalidRequestError(f"Secret {name} has no key {key!r}")
    raise InvalidRequestError(
        f"Secret {name!r} is not in the location's file: put it there, or give --credentials-file"
    )


def _decoded(text: str, what: str) -> bytes:
    try:
        # A block of YAML may be folded over lines; nothing else may be in it.
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError, AttributeError):
        raise InvalidRequestError(f"{what} is not base64") from None


def write_private(path: Path, secret: bytes) -> str:
    """Writes a file that only its owner can read; gives its path."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    return str(path)
