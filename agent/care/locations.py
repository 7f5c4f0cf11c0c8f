"""The repositories of a location, opened by this process itself: for commands of care, never by the agent.

From BackupStorageLocation and Secrets to files on this machine, as a mover would have them mounted. Nothing
is written to the cluster here.
"""

from __future__ import annotations

import base64
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import repository
from agent.control.backup_repository import BACKUP_REPOSITORY
from agent.control.mover_inputs import (
    BACKUP_STORAGE_LOCATION,
    PASSWORD_KEY,
    PASSWORD_SECRET,
    SPARE_PASSWORD_KEY,
    MoverInputError,
)
from kube.api import SECRET, Kube, find, list_all
from mover.passwords import with_first_that_opens
from repository.credentials import location_files
from repository.location import repository_url
from repository.password_bytes import trimmed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Json = dict[str, Any]

CLIENT = "default"  # user and host of everybody who writes for Velero
_OWN_CREDENTIALS = {"name": "cloud-credentials", "key": "cloud"}


@dataclass(frozen=True, slots=True)
class Place:
    """One repository of Velero: its object's name, its location, and the URL under which we open it."""

    name: str
    location: str
    url: str


async def find_places(kube: Kube, namespace: str, directory: Path, *, only: str = "") -> list[Place]:
    """Return the repositories of Velero's namespace, or the one of a name; credentials go below `directory`.

    Raises:
        MoverInputError: a location that one of them names does not exist.
        InvalidRequestError: a location cannot be used.
    """
    bodies = await list_all(kube, BACKUP_REPOSITORY, namespace)
    kopia = [body["spec"] | {"name": body["metadata"]["name"]} for body in bodies if _is_kopia(body)]
    kopia = [spec for spec in kopia if only in ("", spec["name"])]
    files = {
        location: await _location_files(kube, namespace, location, directory)
        for location in sorted({spec["backupStorageLocation"] for spec in kopia})
    }
    return [
        Place(spec["name"], spec["backupStorageLocation"], _url(files[spec["backupStorageLocation"]], spec))
        for spec in sorted(kopia, key=lambda spec: str(spec["name"]))
    ]


def _is_kopia(body: Json) -> bool:
    return body["spec"].get("repositoryType") in ("kopia", "", None)


def _url(files: tuple[Json, str, str], spec: Json) -> str:
    location, credentials_path, ca_path = files
    return repository_url(
        location, spec["volumeNamespace"], credentials_path=credentials_path, ca_path=ca_path
    )


async def _location_files(kube: Kube, namespace: str, name: str, directory: Path) -> tuple[Json, str, str]:
    body = await find(kube, BACKUP_STORAGE_LOCATION, namespace, name)
    if body is None:
        raise MoverInputError(
            f"BackupStorageLocation {namespace}/{name} does not exist, but a BackupRepository is of it: "
            "delete the one or make the other"
        )
    spec = body["spec"]
    if not spec.get("credential") and await find(kube, SECRET, namespace, _OWN_CREDENTIALS["name"]):
        spec = spec | {"credential": _OWN_CREDENTIALS}  # what `velero install` mounts into every pod
    references = [spec.get("credential"), (spec.get("objectStorage") or {}).get("caCertRef")]
    secrets = [await find(kube, SECRET, namespace, one["name"]) for one in references if one]
    documents = [{"kind": "BackupStorageLocation", "spec": spec}]
    documents += [secret | {"kind": "Secret"} for secret in secrets if secret]
    place = directory / name
    place.mkdir(mode=0o700)
    found = location_files(documents, place)
    return dict(found.location), found.credentials_path, found.ca_path


@dataclass(frozen=True, slots=True)
class Passwords:
    """What the Secret of all repositories holds; `spare` is empty unless a change is under way."""

    current: bytes
    spare: bytes
    resource_version: str

    def __repr__(self) -> str:
        return "Passwords(…)"


async def read_passwords(kube: Kube, namespace: str) -> Passwords:
    """Read the Secret.

    Raises:
        MoverInputError: it does not exist, or holds no password.
    """
    secret = await find(kube, SECRET, namespace, PASSWORD_SECRET)
    if secret is None:
        raise MoverInputError(f"Secret {namespace}/{PASSWORD_SECRET} does not exist")
    data = secret.get("data") or {}
    current, spare = (
        trimmed(base64.b64decode(data.get(key) or "")) for key in (PASSWORD_KEY, SPARE_PASSWORD_KEY)
    )
    if not current:
        raise MoverInputError(f"Secret {namespace}/{PASSWORD_SECRET} has no key {PASSWORD_KEY}")
    return Passwords(current, spare, secret["metadata"]["resourceVersion"])


@contextmanager
def opened(
    place: Place, passwords: Sequence[bytes], *, read_only: bool = True
) -> Iterator[repository.Session]:
    """Open a repository as Velero's client, with the first password that opens it.

    Raises:
        InvalidPasswordError: none of them does.
    """
    options = repository.OpenOptions(
        username=CLIENT, hostname=CLIENT, connection=repository.ConnectionOptions(read_only=read_only)
    )
    with with_first_that_opens(
        passwords, lambda password: repository.open_repository(place.url, password, options)
    ) as session:
        yield session
