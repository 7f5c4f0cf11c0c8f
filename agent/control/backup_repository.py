"""BackupRepository objects: looked up or created by label, waited for, never initialised by us.

Contract 1.7. Creating the object is a request to the server, which makes the storage and says `Ready`. A
repository that is `NotReady` is retried within the time given: the server re-checks it, for instance after a
change of the location.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kube.api import Kube, Resource, Selection, ensure_created, list_all
from kube.labels import label_value
from kube.waiting import WaitTimeoutError, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

log = logging.getLogger(__name__)

BACKUP_REPOSITORY = Resource("velero.io/v1", "backuprepositories", "BackupRepository")
_NAMESPACE_LABEL = "velero.io/volume-namespace"
_LOCATION_LABEL = "velero.io/storage-location"
_TYPE_LABEL = "velero.io/repository-type"
_TYPE = "kopia"
_DIGITS_MAX = 9


class BackupRepositoryError(Exception):
    """There is no usable BackupRepository. `temporary`: the server may yet make it ready."""

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


@dataclass(frozen=True, slots=True)
class RepositoryKey:
    """What a repository is found by."""

    volume_namespace: str
    location: str

    @property
    def labels(self) -> dict[str, str]:
        """The three labels that every BackupRepository carries."""
        return {
            _NAMESPACE_LABEL: label_value(self.volume_namespace),
            _LOCATION_LABEL: label_value(self.location),
            _TYPE_LABEL: _TYPE,
        }

    @property
    def name(self) -> str:
        """The name of one that we create."""
        return f"{self.volume_namespace}-{self.location}-{_TYPE}"

    @property
    def unique_name(self) -> str:
        """The name of one whose first name belongs to another namespace and location."""
        parts = f"{self.volume_namespace}/{self.location}"
        return f"{self.name}-{hashlib.sha256(parts.encode()).hexdigest()[:8]}"


async def ensure_repository(kube: Kube, namespace: str, key: RepositoryKey) -> Json:
    """Find the repository's object, or create it.

    Names of namespace and location are joined by a hyphen that either may contain: `team-a` + `main` is
    `team` + `a-main`. Where another repository has the name, ours gets one with a hash; it is found by its
    labels.

    Raises:
        BackupRepositoryError: more than one carries the labels.
    """
    selector = ",".join(f"{name}={value}" for name, value in key.labels.items())
    found = await list_all(kube, BACKUP_REPOSITORY, namespace, Selection(labels=selector))
    if len(found) > 1:
        names = ", ".join(body["metadata"]["name"] for body in found)
        raise BackupRepositoryError(
            f"more than one BackupRepository for {key.name}: {names}; delete all but one"
        )
    if found:
        return found[0]
    body = await ensure_created(kube, BACKUP_REPOSITORY, namespace, _body(namespace, key, key.name))
    if _is_of(body, key):
        return body
    log.warning("name of a BackupRepository is another's", extra={"taken": key.name, "used": key.unique_name})
    body = await ensure_created(kube, BACKUP_REPOSITORY, namespace, _body(namespace, key, key.unique_name))
    if not _is_of(body, key):
        raise BackupRepositoryError(
            f"BackupRepository {key.unique_name} is not of namespace {key.volume_namespace} and location "
            f"{key.location}; delete it"
        )
    return body


def _is_of(body: Json, key: RepositoryKey) -> bool:
    spec = body.get("spec") or {}
    named = (
        spec.get("volumeNamespace"),
        spec.get("backupStorageLocation"),
        spec.get("repositoryType", _TYPE),
    )
    return named == (key.volume_namespace, key.location, _TYPE)


def _body(namespace: str, key: RepositoryKey, name: str) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": key.labels},
        "spec": {
            "volumeNamespace": key.volume_namespace,
            "backupStorageLocation": key.location,
            "repositoryType": _TYPE,
            "maintenanceFrequency": "0s",
            "resticIdentifier": "",
        },
    }


def cache_limit(body: Json) -> int:
    """MiB that a client may keep of the repository: `cacheLimitMB` of its settings; 0: nothing said."""
    text = str(((body.get("spec") or {}).get("repositoryConfig") or {}).get("cacheLimitMB", ""))
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else 0


async def ready_repository(
    kube: Kube, namespace: str, key: RepositoryKey, *, timeout_seconds: float, tell: Callable[[str], None]
) -> Json:
    """Return the repository's object once the server says `Ready`; `tell` hears why it is not yet.

    Raises:
        BackupRepositoryError: it was not ready in time; the message carries the server's own.
    """
    name = (await ensure_repository(kube, namespace, key))["metadata"]["name"]
    last = ""

    def is_ready(body: Json | None) -> bool:
        nonlocal last
        status = (body or {}).get("status") or {}
        last = (
            f"backup repository {name} is {status.get('phase') or 'not initialised by the Velero server yet'}"
        )
        last += f": {status['message']}" if status.get("message") else ""
        ready = status.get("phase") == "Ready"
        tell("" if ready else last)
        return ready

    try:
        body = await wait_for(
            kube,
            BACKUP_REPOSITORY,
            namespace,
            name,
            until=is_ready,
            timeout_seconds=timeout_seconds,
            what=f"backup repository {name} is ready",
        )
    except WaitTimeoutError as error:
        raise BackupRepositoryError(f"{last}; gave up after {timeout_seconds:g} s") from error
    return body or {}
