"""What can be asked of the engine: one frozen class a request, and its JSON.

A field that is `None` is left to the engine's default. Shapes: `native/src/requests.rs`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from repository.errors import InvalidRequestError

# Buffers are this much of 128 MiB: the interpreter, index tables and packs need the rest.
UPLOAD_SHARE = 44 / 128
RESTORE_SHARE = 40 / 128
BUFFERS_MIN_BYTES = 8 << 20
FILE_NAME_BYTES_MAX = 255  # NAME_MAX of Linux


def encode(request: Any) -> str:
    """The JSON of a request, without the fields that are `None`."""
    return json.dumps(_without_none(asdict(request)))


def _without_none(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in document.items()
        if value is not None
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """Limits of a storage; `None` is no limit. They hold to 10 % over any two seconds."""

    upload_bytes_per_second: int | None = None
    download_bytes_per_second: int | None = None
    requests_per_second: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How the storage is used. `sync=False` leaves durability to the system, as Kopia 0.22 does.

    The cache keeps index blobs and metadata packs of storages that are far; it needs both of its fields.
    """

    sync: bool | None = None
    read_only: bool = False
    throttle: Throttle = field(default_factory=Throttle)
    cache_directory: str | None = None
    cache_bytes_max: int | None = None
    kill_point: str | None = None  # crash tests only


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """How a repository is made; the defaults are Kopia's.

    `owner` is the `user@host` that is to maintain it; `shards` are the directory levels of a file system.
    """

    hash: str | None = None
    encryption: str | None = None
    splitter: str | None = None
    format_version: int | None = None
    max_pack_size_bytes: int | None = None
    ecc_overhead_percent: int | None = None
    key_derivation: str | None = None
    retention_mode: str | None = None
    retention_period_seconds: int | None = None
    owner: str | None = None
    global_policy: bool | None = None
    shards: Sequence[int] | None = None
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """How a repository is opened; user and host go into the snapshots that are taken.

    `check_hashes` hashes again what is read. Without, the seal is relied on, as in Kopia: it authenticates
    every content under its own ID. Verifying `contents` hashes in any case.
    """

    username: str | None = None
    hostname: str | None = None
    memory_limit_bytes: int | None = None
    check_hashes: bool | None = None
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)


@dataclass(frozen=True, slots=True)
class Source:
    """What snapshots are of: Kopia's `user@host:path`."""

    username: str
    hostname: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Source:
        """Reads `user@host:path`; `InvalidRequestError` for anything else."""
        owner, colon, path = text.partition(":")
        username, at, hostname = owner.partition("@")
        if not (colon and at and username and hostname and path):
            raise InvalidRequestError(f"{text!r} is not USER@HOST:PATH")
        return cls(username, hostname, path)

    def __str__(self) -> str:
        return f"{self.username}@{self.hostname}:{self.path}"


@dataclass(frozen=True, slots=True)
class Stream:
    """An open file descriptor to read to its end, and the name of the file that it becomes.

    Raises:
        InvalidRequestError: No file can have that name, so that it could never be restored.
    """

    file_descriptor: int
    file_name: str

    def __post_init__(self) -> None:
        name = self.file_name
        too_long = len(name.encode("utf-8", "surrogateescape")) > FILE_NAME_BYTES_MAX
        if name in {"", ".", ".."} or "/" in name or "\0" in name or too_long:
            raise InvalidRequestError(f"{name!r} is not the name of one file: it could never be restored")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOptions:
    """How a backup is taken.

    `source` is what is recorded, if not the path with this user and host. `parents`: `None` is Kopia's
    choice, an empty sequence no parent (every file is read). `tags` become labels as they are; Kopia's
    command line puts `tag:` before their keys. `compression` is used instead of the policy's.
    """

    source: Source | None = None
    stream: Stream | None = None
    block_device: bool = False
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    checkpoint_tags: Mapping[str, str] = field(default_factory=dict)
    pins: Sequence[str] = ()
    parallelism: int | None = None
    compression: str | None = None
    directory_compression: str | None = None
    repository_splitter: bool = False
    parents: Sequence[str] | None = None
    force_hash_percent: float | None = None
    checkpoint_interval_seconds: float | None = None
    fail_fast: bool = False
    start_time: str | None = None
    memory_budget_bytes: int | None = None
    parallel_upload_above_bytes: int | None = None
    disable_ignore_rules: bool = False
    ignore_identical: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedBlocksQuery:
    """Where a changed-block service is, and what it is asked; an empty `base` asks for what is allocated.

    `address` is `host:port`, `authority` PEM, `base` the driver's handle of an earlier snapshot. The token's
    file is read anew for each attempt. `patience_seconds`: the longest time between two parts of the answer.
    """

    address: str
    authority: str
    token_path: str
    namespace: str
    snapshot: str
    base: str = ""
    patience_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockBackupOptions:
    """How a device is backed up in Velero's block layout.

    `parent` is the snapshot whose pieces are taken over where nothing changed. `direct` reads past the page
    cache where the device allows it.
    """

    source: Source
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    pins: Sequence[str] = ()
    parent: str | None = None
    reads_under_way: int | None = None
    memory_budget_bytes: int | None = None
    direct: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRestoreOptions:
    """How a device is restored; without `overwrite` an image file must not be there yet."""

    parallelism: int | None = None
    memory_budget_bytes: int | None = None
    overwrite: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """How a restore is made.

    `format`: `tree` to a directory, file or block device; `device` over an existing file in place; `stream`
    (the bytes of one file) and `tar` to `file_descriptor`. `overwrite`: `always`, `skip` what is there and
    equal (so an interrupted restore goes on), `never`.
    """

    format: str = "tree"
    file_descriptor: int | None = None
    overwrite: str | None = None
    delete_extra: bool | None = None
    sparse: bool | None = None
    owners: bool | None = None
    modes: bool | None = None
    times: bool | None = None
    ignore_permission_errors: bool | None = None
    ignore_errors: bool | None = None
    parallelism: int | None = None
    memory_budget_bytes: int | None = None
    sync: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """What is verified: `snapshots` (all if none), or all `contents` that indexes name.

    Structure is always checked whole; of file data `percent` is read back, another part for another `seed`.
    """

    snapshots: Sequence[str] = ()
    contents: bool = False
    percent: float | None = None
    seed: int | None = None
    parallelism: int | None = None
    memory_budget_bytes: int | None = None


def restore_buffers_bytes(memory_limit_bytes: int | None) -> int | None:
    """The share of a restore's or verification's buffers in a limit; `None` for the default limit."""
    if memory_limit_bytes is None:
        return None
    return max(int(memory_limit_bytes * RESTORE_SHARE), BUFFERS_MIN_BYTES)


def upload_buffers_bytes(memory_limit_bytes: int | None) -> int | None:
    """The share of the upload's buffers in a memory limit; `None` for the default limit."""
    if memory_limit_bytes is None:
        return None
    return max(int(memory_limit_bytes * UPLOAD_SHARE), BUFFERS_MIN_BYTES)
