"""The vocabulary between agent and mover: requests in, progress and results out; versioned JSON.

A request reaches the mover as a file, progress leaves it as lines on standard output, the result through the
termination message, in which upstream's fields come first: upstream's agent could read it. Nothing here is
secret: credentials are named by the paths of mounted files.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

Json = dict[str, Any]

VERSION = 1
CANCELED_TEXT = "data path is canceled"
PROGRESS_EVENT, END_EVENT = "progress", "end"
TERMINATION_LENGTH_MAX = 4096


class ProtocolError(ValueError):
    """A request or report cannot be read: made by another version, or damaged."""

    temporary = False


@dataclass(frozen=True, slots=True)
class RepositoryAccess:
    """Where the repository is, as the BackupStorageLocation says it, and which files hold the secrets.

    `location` is the `spec` of the BackupStorageLocation, `name` its name. The repository is
    `<prefix>/kopia/<volume_namespace>/`. Paths are empty where there is no such secret; the file of
    the spare password is there only while the password is changed.
    """

    name: str
    location: Json
    volume_namespace: str
    password_path: str
    spare_password_path: str = ""
    credentials_path: str = ""
    ca_certificate_path: str = ""
    cache_path: str = ""
    cache_limit_mib: int = 0


NO_PARENT = "none"  # a `parent_snapshot`: every file is read


@dataclass(frozen=True, slots=True)
class ChangeTracking:
    """Where the driver's changed-block service is asked about the snapshot that is backed up.

    `authority` is PEM in base64, as its SnapshotMetadataService says; the token is a mounted file.
    """

    address: str
    authority: str
    token_path: str
    namespace: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """Back one volume up. `source_path` and `tags` go into the snapshot manifest (contract 6.1, 6.2).

    `parent_snapshot` is `spec.parentSnapshot` of Velero 1.19: `none` is a full backup, the ID of a snapshot
    that one, empty and `auto` the newest of the chain.
    """

    move: str
    uid: str
    path: str
    volume_mode: str
    repository: RepositoryAccess
    source_path: str
    tags: dict[str, str] = field(default_factory=dict)
    parent_snapshot: str = ""
    parallel: int = 0
    progress_seconds: float = 5.0
    tracking: ChangeTracking | None = None


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """Restore one volume. `done_file` names the file that a pod's init container waits for; empty: none."""

    move: str
    uid: str
    path: str
    volume_mode: str
    repository: RepositoryAccess
    snapshot_id: str
    done_file: str = ""
    parallel: int = 0
    write_sparse_files: bool = True
    progress_seconds: float = 5.0


Request = BackupRequest | RestoreRequest
R = TypeVar("R", BackupRequest, RestoreRequest)
_KINDS: dict[str, type[BackupRequest | RestoreRequest]] = {
    "backup": BackupRequest,
    "restore": RestoreRequest,
}


def encode_request(request: Request) -> str:
    """Write a request as one line of JSON."""
    kind = "backup" if isinstance(request, BackupRequest) else "restore"
    return json.dumps({"version": VERSION, "kind": kind} | asdict(request), separators=(",", ":"))


def decode_request(text: str) -> Request:
    """Read a request.

    Raises:
        ProtocolError: no JSON, another version, an unknown kind, or fields that are missing or unknown.
    """
    document = _document(text, "request")
    version, kind = document.pop("version", None), document.pop("kind", None)
    if version != VERSION:
        raise ProtocolError(f"request has version {version}, this mover reads {VERSION}")
    if kind not in _KINDS:
        raise ProtocolError(f"request is of unknown kind {kind!r}")
    document["repository"] = _build(RepositoryAccess, document.get("repository"))
    if document.get("tracking") is not None:
        document["tracking"] = _build(ChangeTracking, document["tracking"])
    request: Request = _build(_KINDS[kind], document)
    return request


def _build(kind: type[Any], document: Any) -> Any:
    if not isinstance(document, dict):
        raise ProtocolError(f"request has no {kind.__name__}")
    unknown = set(document) - {known.name for known in fields(kind)}
    if unknown:
        raise ProtocolError(f"request has unknown fields {sorted(unknown)}")
    try:
        return kind(**document)
    except TypeError as error:
        raise ProtocolError(f"request is incomplete: {error}") from error


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a mover is. `total_bytes` is 0 while nobody knows it (block devices, first scan)."""

    total_bytes: int = 0
    done_bytes: int = 0
    read_bytes: int = 0
    hashed_bytes: int = 0
    uploaded_bytes: int = 0
    cached_bytes: int = 0
    files: int = 0
    stage: str = ""


def encode_progress(progress: Progress) -> str:
    """Write progress as one log line."""
    return json.dumps({"event": PROGRESS_EVENT} | asdict(progress), separators=(",", ":"))


def decode_progress(line: str) -> Progress | None:
    """Read progress out of a log line; `None` for every other line."""
    if f'"{PROGRESS_EVENT}"' not in line:
        return None
    try:
        document = json.loads(line)
        if document.pop("event", None) != PROGRESS_EVENT:
            return None
        known = {name.name for name in fields(Progress)}
        return Progress(**{key: value for key, value in document.items() if key in known})
    except (ValueError, TypeError, AttributeError):
        return None


@dataclass(frozen=True, slots=True)
class End:
    """How a mover ended: its exit code and its termination message."""

    code: int
    text: str


def encode_end(end: End) -> str:
    """Write the end as one log line: who follows the log knows a second before the kubelet tells."""
    return json.dumps({"event": END_EVENT} | asdict(end), separators=(",", ":"))


def decode_end(line: str) -> End | None:
    """Read the end out of a log line; `None` for every other line."""
    if f'"{END_EVENT}"' not in line:
        return None
    try:
        document = json.loads(line)
        if document["event"] != END_EVENT:
            return None
        return End(int(document["code"]), str(document["text"]))
    except (ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True, slots=True)
class Result:
    """A move that succeeded. `record` is the honest transfer record: small facts for people."""

    total_bytes: int
    snapshot_id: str = ""
    incremental_bytes: int = 0
    record: Json = field(default_factory=dict)


def encode_result(request: Request, result: Result) -> str:
    """Write the termination message of a success, upstream's fields first."""
    access = {"byPath": request.path, "volumeMode": request.volume_mode}
    document: Json
    if isinstance(request, BackupRequest):
        document = {"snapshotID": result.snapshot_id, "emptySnapshot": False, "source": access}
        document |= {"totalBytes": result.total_bytes, "incrementalBytes": result.incremental_bytes}
    else:
        document = {"target": access, "totalBytes": result.total_bytes}
    text = json.dumps(document | {"record": result.record}, separators=(",", ":"))
    return (
        text if len(text.encode()) <= TERMINATION_LENGTH_MAX else json.dumps(document, separators=(",", ":"))
    )


def encode_failure(message: str, *, snapshot_id: str = "", canceled: bool = False) -> str:
    """Write the termination message of a failure: the cause at the front, the word of a cancel at the end."""
    if snapshot_id:
        return _report_within(snapshot_id, message)
    suffix = f": {CANCELED_TEXT}" if canceled else ""
    return _cut(message, TERMINATION_LENGTH_MAX - len(suffix) - 100) + suffix


def _report_within(snapshot_id: str, message: str) -> str:
    """Report a snapshot that was saved in spite of errors; escapes make it longer than its text."""
    bytes_max = TERMINATION_LENGTH_MAX - 200
    while True:
        report = {"snapshotID": snapshot_id, "error": _cut(message, bytes_max)}
        text = json.dumps(report, ensure_ascii=False)
        if len(text.encode()) <= TERMINATION_LENGTH_MAX:
            return text
        bytes_max //= 2


def _cut(text: str, bytes_max: int) -> str:
    """The beginning of a text: a kubelet counts bytes, and keeps the last ones of what is too long."""
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def _document(text: str, what: str) -> Json:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"{what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ProtocolError(f"{what} is not a JSON object")
    return document
