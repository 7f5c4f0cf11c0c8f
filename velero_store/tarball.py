"""What the tarball of a backup says of its volumes: one pass, nothing extracted, everything bounded.

Kept of it are DataUploads (authoritative for data movement: `status.snapshotID`; finalisation appends them at
the end), PersistentVolumeClaims (block or file system) and Pods (which claim a pod's volume is of). Each
stands twice, by `resources/KIND/namespaces/NS/NAME.json` and once more below its preferred version (Velero
`pkg/archive`, 1.4 and later). Names in the archive are looked at, never used as paths.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from repository.errors import CorruptedError
from velero_store.fields import Document, documents, mapping, text

if TYPE_CHECKING:
    from typing_extensions import Buffer

# What no real tarball has: its tar bytes, one object, what is kept of all, extended headers.
TAR_BYTES_MAX = 16 << 30
OBJECT_BYTES_MAX = 8 << 20
KEPT_MAX = 500_000
HEADER_BYTES_MAX = 64 << 10
PIECE_BYTES = 1 << 20
STREAM_BYTES = 16 << 10  # tarfile copies what is left of it at every header
UPLOAD_STATUS = (
    "phase",
    "snapshotID",
    "message",
    "startTimestamp",
    "completionTimestamp",
    "incrementalBytes",
)
CLAIMS = "persistentvolumeclaims"
PODS = "pods"
UPLOADS = "datauploads.velero.io"
PARTS = (5, 6)  # without and with the folder of a version
VERSION_SUFFIX = "-preferredversion"
RESTIC_ANNOTATION = "snapshot.velero.io/"  # before 1.1: restic's snapshots, on the pods
READ_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError, UnicodeError, ValueError)
EXTENDED = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)

Key = tuple[str, str]  # namespace and name


@dataclass(frozen=True, slots=True)
class Claim:
    """What a PersistentVolumeClaim says of its volume."""

    mode: str
    storage_class: str
    capacity: str
    volume_name: str


@dataclass(slots=True)
class TarFindings:
    """What was found; `damage` says why the tarball could not be read to its end, if so."""

    uploads: dict[Key, Document] = field(default_factory=dict)
    claims: dict[Key, Claim] = field(default_factory=dict)
    # namespace, pod and volume -> the claim's name
    pod_claims: dict[tuple[str, str, str], str] = field(default_factory=dict)
    # namespace, pod and volume -> a snapshot of restic
    annotated: dict[tuple[str, str, str], str] = field(default_factory=dict)
    damage: str = ""

    def count(self) -> int:
        """How much is kept."""
        return len(self.uploads) + len(self.claims) + len(self.pod_claims) + len(self.annotated)


def read_tarball(stream: io.BufferedIOBase) -> TarFindings:
    """Reads a tarball; damage ends the reading and is told in the result, with what was found before it."""
    findings = TarFindings()
    try:
        for resource, document in _objects(stream):
            _keep(findings, resource, document)
    except CorruptedError as error:
        findings.damage = str(error)
    except READ_ERRORS as error:
        findings.damage = f"it is damaged: {error}"
    return findings


def _objects(stream: io.BufferedIOBase) -> Iterator[tuple[str, Document]]:
    """Resource and document of each object of interest."""
    with gzip.GzipFile(fileobj=stream) as plain:
        bounded = _Bounded(plain)
        with tarfile.open(fileobj=bounded, mode="r|", bufsize=STREAM_BYTES, tarinfo=_BoundedInfo) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # else every header stays in memory
                resource = _resource(member.name)
                if resource and member.isreg() and member.size <= OBJECT_BYTES_MAX:
                    yield from _document(resource, archive.extractfile(member))
        # What follows the archive's end is part of the checksum: a cut-off tarball must not look whole.
        while bounded.read(PIECE_BYTES):
            pass


def _document(resource: str, file: Any) -> Iterator[tuple[str, Document]]:
    try:
        document = json.loads(file.read())
    except (ValueError, RecursionError):
        return  # one object that is no JSON leaves the others readable
    if isinstance(document, Mapping):
        yield resource, document


def _resource(path: str) -> str:
    """The resource of an entry that is of interest; else empty."""
    parts = path.removeprefix("./").split("/")
    if len(parts) not in PARTS or parts[0] != "resources" or parts[-3] != "namespaces":
        return ""
    if len(parts) == PARTS[1] and not parts[2].endswith(VERSION_SUFFIX):
        return ""
    return parts[1] if parts[1] in {CLAIMS, PODS, UPLOADS} and parts[-1].endswith(".json") else ""


def _keep(findings: TarFindings, resource: str, document: Document) -> None:
    if findings.count() > KEPT_MAX:
        raise CorruptedError(f"it has more than {KEPT_MAX:,} volumes")
    namespace, name = text(document, "metadata", "namespace"), text(document, "metadata", "name")
    if resource == UPLOADS:
        spec = mapping(document, "spec")
        key = text(spec, "sourceNamespace"), text(spec, "sourcePVC")
        findings.uploads[key] = _newer(findings.uploads.get(key), _upload(document))
    elif resource == CLAIMS:
        findings.claims[namespace, name] = _claim(document)
    else:
        for volume in documents(document, "spec", "volumes"):
            claim = text(volume, "persistentVolumeClaim", "claimName")
            if claim:
                findings.pod_claims[namespace, name, text(volume, "name")] = claim
        for key_text, snapshot in mapping(document, "metadata", "annotations").items():
            if isinstance(snapshot, str) and str(key_text).startswith(RESTIC_ANNOTATION):
                volume_name = str(key_text).removeprefix(RESTIC_ANNOTATION)
                findings.annotated[namespace, name, volume_name] = text({"id": snapshot}, "id")


def _upload(document: Document) -> Document:
    """What is needed of a DataUpload: the rest may be large."""
    status = mapping(document, "status")
    return {
        "spec": {
            name: text(document, "spec", name) for name in ("sourceNamespace", "sourcePVC", "datamover")
        },
        "status": {
            **{name: status.get(name) for name in UPLOAD_STATUS},
            "progress": {"totalBytes": mapping(status, "progress").get("totalBytes")},
        },
        "driver": text(document, "spec", "csiSnapshot", "driver"),
    }


def _newer(before: Document | None, now: Document) -> Document:
    """Of two writings of a DataUpload the one that names a snapshot."""
    if before is not None and text(before, "status", "snapshotID") and not text(now, "status", "snapshotID"):
        return before
    return now


def _claim(document: Document) -> Claim:
    spec = mapping(document, "spec")
    return Claim(
        mode=text(spec, "volumeMode"),
        storage_class=text(spec, "storageClassName"),
        capacity=text(spec, "resources", "requests", "storage"),
        volume_name=text(spec, "volumeName"),
    )


class _BoundedInfo(tarfile.TarInfo):
    """A header; refuses an extended one that would be read into memory whole and is larger than any name."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in EXTENDED and self.size > HEADER_BYTES_MAX:
            raise CorruptedError(f"it has a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


class _Bounded(io.RawIOBase):
    """Counts what was unpacked, and ends with an error where no real tarball goes on."""

    def __init__(self, plain: gzip.GzipFile) -> None:
        self._plain, self._count = plain, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        # One read at a time: what was unpacked before a damage is given before the damage is told.
        piece = self._plain.read1(len(view))
        view[: len(piece)] = piece
        self._count += len(piece)
        if self._count > TAR_BYTES_MAX:
            raise CorruptedError(f"it unpacks to more than {TAR_BYTES_MAX:,} bytes")
        return len(piece)
