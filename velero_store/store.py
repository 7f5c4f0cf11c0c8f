"""A store of backups: which there are, their volumes, and the open repositories behind them.

    with open_velero_store("s3://bucket/prefix", password="…") as store:
        for backup in store.backups():
            print(backup.name, backup.phase, [volume.path for volume in backup.volumes()])

Repositories are opened for reading only, when a volume of theirs is first read, and closed with the store.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from repository.errors import (
    CorruptedError,
    InvalidPasswordError,
    InvalidRequestError,
    ObjectNotFoundError,
    RepositoryNotFoundError,
    SnapshotNotFoundError,
)
from repository.requests import OpenOptions
from repository.session import Session, open_repository
from velero_store import place
from velero_store.backup_objects import BACKUPS_FOLDER, RESOURCES, RESULTS, BackupObjects, metadata_key
from velero_store.bucket import Bucket
from velero_store.fields import Document, is_name, mapping, moment, number, text, texts
from velero_store.join import Sources, needs_tarball, volumes_of
from velero_store.reader import VolumeReader
from velero_store.volumes import State, Volume, choose

DEFAULT_PASSWORD = "static-passw0rd"  # noqa: S105 - what Velero chooses where nobody else does
SECRET = "Secret velero-repo-credentials, key repository-password, in Velero's namespace"  # noqa: S105
CLIENT = "default"  # user and host of Velero's movers
OPERATION_TAG = "velero.io/async-operation-id"
LATEST = "latest"
REQUESTS_AT_ONCE = 16
SESSIONS_MAX = 4  # open repositories, each with its indexes in memory
READABLE_PHASES = frozenset({"Completed", "PartiallyFailed"})
INCOMPLETE = "Incomplete"  # our word: there is a folder and no velero-backup.json in it
DAMAGED = "Damaged"


def open_velero_store(
    store: str,
    *,
    password: str | bytes | None = None,
    options: OpenOptions | None = None,
    on_default_password: Callable[[], None] | None = None,
) -> VeleroStore:
    """Opens the store at a URL or directory, which holds `backups/` and `kopia/`.

    Without a password Velero's default is tried; `on_default_password` is called when it is first used.

    Raises:
        InvalidRequestError: The URL makes no sense.
        RepositoryNotFoundError: There is no such directory.
    """
    options = options or OpenOptions()
    connection = replace(options.connection, read_only=True)
    options = replace(options, username=CLIENT, hostname=CLIENT, connection=connection)
    url = place.store_url(store)
    return VeleroStore(
        url, Bucket.open(url, connection), _Sessions(url, password, options, on_default_password)
    )


class VeleroStore:
    """An open store. May be used from several threads; a context manager that closes its repositories."""

    def __init__(self, url: str, bucket: Bucket, sessions: _Sessions) -> None:
        self.url = url
        self.bucket = bucket
        self._sessions = sessions

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the repositories; may be called twice."""
        self._sessions.close()

    def backup_names(self) -> list[str]:
        """Names of all backups, complete or not; one listing."""
        folders = (name.rstrip("/") for name in self.bucket.folders(BACKUPS_FOLDER))
        return [name for name in folders if is_name(name)]

    def backups(self) -> Iterator[Backup]:
        """All backups by name: one listing, and one request a backup. Of a folder without metadata too."""
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            yield from pool.map(self._load, self.backup_names())

    def backup(self, name: str) -> Backup:
        """One backup by name; `latest`, or `latest:SCHEDULE`, is the newest one that ended well.

        Raises:
            ObjectNotFoundError: There is none.
        """
        if name == LATEST or name.startswith(f"{LATEST}:"):
            return self._latest(name)
        if not is_name(name):
            raise InvalidRequestError(f"{name!r} is not the name of a backup")
        backup = self._load(name)
        if backup.phase != INCOMPLETE:
            return backup
        names = self.backup_names()
        if name in names:
            return backup
        if not names:
            raise ObjectNotFoundError(self._nothing())
        near = ", ".join(names[-10:])
        raise ObjectNotFoundError(f"there is no backup {name} in {self.bucket.place}; the last are {near}")

    def _nothing(self) -> str:
        return f"there are no backups in {self.bucket.place}: is this the bucket and prefix of the location?"

    def _latest(self, name: str) -> Backup:
        schedule = name.partition(":")[2]
        found = [
            one for one in self.backups() if one.phase in READABLE_PHASES and schedule in ("", one.schedule)
        ]
        if not found:
            of = f" of schedule {schedule}" if schedule else ""
            raise ObjectNotFoundError(f"no backup{of} in {self.bucket.place} has ended well")
        return max(found, key=lambda one: (one.started_at or datetime.min.replace(tzinfo=UTC), one.name))

    def _load(self, name: str) -> Backup:
        try:
            document = self.bucket.document(metadata_key(name))
        except CorruptedError as error:
            return Backup(store=self, name=name, document={}, damage=str(error))
        return Backup(store=self, name=name, document=document if isinstance(document, dict) else None)

    def repository_url(self, namespace: str) -> str:
        """Where the repository of a namespace is."""
        return place.repository_url(self.url, namespace)

    def shown_repository(self, namespace: str) -> str:
        """The same without options, for people."""
        return place.shown(self.repository_url(namespace))

    def session(self, namespace: str) -> Session:
        """The open repository of a namespace, for reading only; shared, and closed with the store.

        Raises:
            InvalidPasswordError: Neither the password nor, without one, Velero's default opens it.
            RepositoryNotFoundError: The namespace has none.
        """
        return self._sessions.of(namespace)

    def resolved(self, volume: Volume) -> Volume:
        """A moved volume whose snapshot no object of the backup names, by the tags of the repository."""
        if volume.state is not State.PENDING or not volume.operation_id:
            return volume
        try:
            found = self.session(volume.namespace).snapshots(tags={OPERATION_TAG: volume.operation_id})
        except (RepositoryNotFoundError, InvalidRequestError):
            return volume
        complete = [one for one in found if not one.incomplete_reason]
        if not complete:
            return volume
        size = volume.size_bytes if volume.size_bytes is not None else complete[-1].root.size_bytes
        return replace(
            volume,
            snapshot_id=complete[-1].id,
            state=State.RESTORABLE,
            reason="found by its tag",
            size_bytes=size,
        )

    def checked(self, volume: Volume) -> Volume:
        """A volume whose snapshot was asked for in its repository: unreadable if it is not there."""
        volume = self.resolved(volume)
        if volume.state is not State.RESTORABLE:
            return volume
        try:
            self.session(volume.namespace).snapshot(volume.snapshot_id)
        except RepositoryNotFoundError:
            return replace(volume, state=State.UNREADABLE, reason="its namespace has no repository")
        except SnapshotNotFoundError:
            return replace(volume, state=State.UNREADABLE, reason="its snapshot is missing in the repository")
        return volume

    def reader(self, volume: Volume) -> VolumeReader:
        """The files of a volume, or its image. Its repository is opened when something is first read.

        Of a volume that cannot be read whatever reads raises: `UnsupportedFormatError` if it is of another
        data mover or of restic, `ObjectNotFoundError` if nothing of it is in the bucket.
        """
        resolved = self.resolved(volume)
        return VolumeReader(
            resolved,
            lambda: self.session(resolved.namespace),
            lambda: self.backup(resolved.backup).mode_of(resolved),
        )


class _Sessions:
    """Repositories by namespace, opened when they are needed; the longest unused goes first."""

    def __init__(
        self,
        url: str,
        password: str | bytes | None,
        options: OpenOptions,
        on_default: Callable[[], None] | None,
    ) -> None:
        self._url, self._password, self._options = url, password, options
        self._on_default = on_default
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._opening = threading.Lock()

    def of(self, namespace: str) -> Session:
        with self._opening:
            if namespace not in self._open:
                self._open[namespace] = self._opened(namespace)
            self._open.move_to_end(namespace)
            while len(self._open) > SESSIONS_MAX:
                self._open.popitem(last=False)  # not closed: another thread may be about to read from it
            return self._open[namespace]

    def _opened(self, namespace: str) -> Session:
        url = place.repository_url(self._url, namespace)
        password = DEFAULT_PASSWORD if self._password is None else self._password
        try:
            session = open_repository(url, password, self._options)
        except RepositoryNotFoundError as error:
            shown = place.shown(self._url)
            raise RepositoryNotFoundError(
                f"namespace {namespace} has no repository in {shown}: {error}"
            ) from None
        except InvalidPasswordError:
            tried = "Velero's default password" if self._password is None else "the password"
            raise InvalidPasswordError(
                f"{tried} does not open {place.shown(url)}; the right one was in {SECRET}: give it by "
                "--password-file FILE or KOPIA_PASSWORD"
            ) from None
        if self._password is None and self._on_default is not None:
            self._on_default()
            self._on_default = None
        return session

    def close(self) -> None:
        with self._opening:
            while self._open:
                self._open.popitem()[1].close()


@dataclass(slots=True, kw_only=True)
class Backup:
    """One backup. `document` is Velero's Backup; `None` where the folder has none."""

    store: VeleroStore
    name: str
    document: Document | None
    damage: str = ""
    _objects: BackupObjects | None = None
    _sources: Sources | None = None
    _reading: threading.RLock = field(default_factory=threading.RLock)

    @property
    def phase(self) -> str:
        """Velero's phase; `Incomplete` without metadata, `Damaged` where that cannot be read."""
        if self.document is None:
            return INCOMPLETE
        return DAMAGED if self.damage else text(self.document, "status", "phase") or "New"

    @property
    def schedule(self) -> str:
        """The schedule that made it."""
        return text(self.document, "metadata", "labels", "velero.io/schedule-name")

    @property
    def started_at(self) -> datetime | None:
        """Start of the backup."""
        return moment(self.document, "status", "startTimestamp")

    def summary(self) -> dict[str, object]:
        """What `mover velero ls --json` says of it."""
        status = mapping(self.document, "status")
        return {
            "name": self.name,
            "phase": self.phase,
            "schedule": self.schedule or None,
            "startTime": text(status, "startTimestamp") or None,
            "endTime": text(status, "completionTimestamp") or None,
            "expires": text(status, "expiration") or None,
            "errors": number(status, "errors") or 0,
            "warnings": number(status, "warnings") or 0,
            "namespaces": list(texts(self.document, "spec", "includedNamespaces")),
            "veleroNamespace": text(self.document, "metadata", "namespace") or None,
            "kubernetesVersion": text(
                self.document, "metadata", "annotations", "velero.io/source-cluster-k8s-gitversion"
            )
            or None,
        }

    def volumes(self, *, detail: bool = False) -> list[Volume]:
        """Its volumes by namespace and name: one listing and some requests.

        The tarball is read where nothing else names a snapshot, and with `detail`, which adds modes, storage
        classes and capacities.
        """
        with self._reading:
            sources = self._load_sources()
            if sources.tarball is None and (detail or needs_tarball(sources)):
                sources.tarball = self._load_objects().tarball()
                if sources.tarball.damage:
                    sources.damage.append(f"cannot read the tarball: {sources.tarball.damage}")
            return volumes_of(sources)

    def damages(self) -> list[str]:
        """Which of its objects could not be read, and why; of those that `volumes` needed."""
        with self._reading:
            return [*filter(None, [self.damage]), *self._load_sources().damage]

    def volume(self, path: str) -> Volume:
        """The volume `NS/PVC`, or `NS/pods/POD/VOLUME`; what goes on behind it is left aside."""
        return self.choose(path)[0]

    def choose(self, path: str) -> tuple[Volume, str]:
        """The volume that the beginning of `path` names, and the path inside of it.

        Raises:
            ObjectNotFoundError: There is no such volume.
            InvalidRequestError: There are several.
        """
        try:
            return choose(self.volumes(), path)
        except ObjectNotFoundError as error:
            damages = self.damages()
            if damages:
                raise CorruptedError(f"{error} that can be read: {'; '.join(damages)}") from None
            raise

    def mode_of(self, volume: Volume) -> str:
        """`Filesystem` or `Block` by the claim's document in the tarball; empty if it is not there."""
        same = [one.mode for one in self.volumes(detail=True) if one.path == volume.path and one.mode]
        return same[0] if same else ""

    def results(self) -> dict[str, list[str]]:
        """Errors and warnings of the backup, in lines; empty before 1.10."""
        found = self._document(RESULTS)
        return {kind: list(_messages(mapping(found, kind))) for kind in ("errors", "warnings")}

    def resources(self) -> dict[str, list[str]]:
        """What Kubernetes objects are in it: kind with group and version, and their names."""
        found = self._document(RESOURCES)
        kinds = mapping(found)
        return {text({"k": kind}, "k"): list(texts(found, kind)) for kind in sorted(kinds)}

    def _document(self, ending: str) -> Any:
        with suppress(CorruptedError):
            return self._load_objects().document(ending)
        return None

    def _load_objects(self) -> BackupObjects:
        with self._reading:
            if self._objects is None:
                self._objects = BackupObjects(self.store.bucket, self.name)
                self._objects.look()
            return self._objects

    def _load_sources(self) -> Sources:
        if self._sources is None:
            self._sources = self._load_objects().sources()
        return self._sources


def _messages(kinds: Document) -> Iterator[str]:
    yield from texts(kinds, "velero")
    yield from texts(kinds, "cluster")
    for namespace in sorted(mapping(kinds, "namespaces")):
        for message in texts(kinds, "namespaces", namespace):
            yield f"{text({'n': namespace}, 'n')}: {message}"
