"""The objects of the bucket: listed by folder, read within bounds, unpacked within bounds.

Rules of Velero's own reader (`pkg/persistence/object_store.go`): an object that is not there is none, bytes
after a JSON value are ignored. Whatever is larger, deeper or more broken than any real store is a
`CorruptedError` that names the object.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from repository.engine import ObjectStore
from repository.errors import BlobNotFoundError, CorruptedError
from repository.requests import ConnectionOptions, encode

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Stored and unpacked length of one document; Velero itself unpacks 1 GiB.
STORED_BYTES_MAX = 64 << 20
DOCUMENT_BYTES_MAX = 256 << 20
STREAM_PIECE_BYTES = 8 << 20
FOLDER_LENGTH_MAX = 1_000_000
UNPACKING_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error)


class Bucket:
    """Reads the objects below a store's prefix."""

    def __init__(self, native: ObjectStore) -> None:
        self._native = native

    @classmethod
    def open(cls, url: str, options: ConnectionOptions | None = None) -> Bucket:
        """Connects to the store; what the storage refuses is told at the first request."""
        return cls(ObjectStore.open(url, encode(options or ConnectionOptions())))

    @property
    def place(self) -> str:
        """Where it is, without secrets."""
        return self._native.describe()

    def requests(self) -> int:
        """How many requests were made so far."""
        return sum(one["requests"] for one in json.loads(self._native.storage_metrics()))

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders right below `prefix`, which ends in `/`, sorted."""
        return sorted(name for name, _ in self._below(prefix) if name.endswith("/"))

    def lengths(self, prefix: str) -> dict[str, int]:
        """Names and lengths of the objects right below `prefix`."""
        return {name: length for name, length in self._below(prefix) if not name.endswith("/")}

    def _below(self, prefix: str) -> Iterator[tuple[str, int]]:
        batches = self._native.list_folder(prefix)
        count = 0
        try:
            for batch in batches:
                for one in map(json.loads, batch):
                    count += 1
                    if count > FOLDER_LENGTH_MAX:
                        raise CorruptedError(f"{prefix} has more than {FOLDER_LENGTH_MAX:,} objects")
                    yield one["id"].removeprefix(prefix), one["length"]
        finally:
            batches.close()

    def read(self, key: str) -> bytes | None:
        """The stored bytes of a small object; `None` if it is not there."""
        try:
            stored = self._native.read(key, 0, STORED_BYTES_MAX + 1)
        except BlobNotFoundError:
            return None
        if len(stored) > STORED_BYTES_MAX:
            raise _damaged(key, f"it is longer than {STORED_BYTES_MAX:,} bytes")
        return stored

    def document(self, key: str) -> Any:
        """The JSON value of an object, unpacked if its name ends in `.gz`; `None` if it is not there."""
        stored = self.read(key)
        if stored is None:
            return None
        plain = unpacked(key, stored) if key.endswith(".gz") else stored
        try:
            return json.JSONDecoder().raw_decode(plain.decode(errors="replace").lstrip())[0]
        except (ValueError, RecursionError):
            raise _damaged(key, "it is not JSON") from None

    def stream(self, key: str) -> io.BufferedReader:
        """The stored bytes of an object of any length, read on by pieces of 8 MiB."""
        return io.BufferedReader(_ObjectStream(self._native, key), STREAM_PIECE_BYTES)


def unpacked(key: str, stored: bytes) -> bytes:
    """What `stored` unpacks to.

    Raises:
        CorruptedError: It is no gzip, is cut off, or unpacks to more than any document has.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(stored)) as file:
            plain = file.read(DOCUMENT_BYTES_MAX + 1)
    except UNPACKING_ERRORS as error:
        raise _damaged(key, f"it cannot be unpacked: {error}") from None
    if len(plain) > DOCUMENT_BYTES_MAX:
        raise _damaged(key, f"it unpacks to more than {DOCUMENT_BYTES_MAX:,} bytes")
    return plain


def _damaged(key: str, why: str) -> CorruptedError:
    return CorruptedError(f"cannot read {key}: {why}", context={"object": key})


class _ObjectStream(io.RawIOBase):
    """An object from its beginning to its end, one request a piece."""

    def __init__(self, native: ObjectStore, key: str) -> None:
        self._native, self._key, self._offset = native, key, 0
        self._is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        if self._is_over:
            return 0
        piece = self._native.read(self._key, self._offset, len(view))
        view[: len(piece)] = piece
        self._offset += len(piece)
        self._is_over = len(piece) < len(view)
        return len(piece)
