"""What a mover needs beside its volume: the storage location, and the Secrets that hold its credentials.

Read from the API by the agent, so that the mover needs no access to it. A Secret that is missing is said
here, at once; mounted into a pod it would only keep the pod from starting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from exposer.hosting_pod_manifest import AUTHORITY_PATH, CACHE_DIRECTORY, SecretMount
from kube.api import SECRET, Kube, Resource, find
from mover.protocol import RepositoryAccess
from repository.errors import InvalidRequestError
from repository.location import repository_url

if TYPE_CHECKING:
    from agent.moves.custom_resources import Move

Json = dict[str, Any]

BACKUP_STORAGE_LOCATION = Resource("velero.io/v1", "backupstoragelocations", "BackupStorageLocation")
PASSWORD_SECRET, PASSWORD_KEY = "velero-repo-credentials", "repository-password"
SPARE_PASSWORD_KEY = "repository-password-next"  # noqa: S105 - a name; there while a password is changed
# Bytes of `caCert` (base64) that travel in the request: a company's own CA does, a distribution's bundle does
# not. An annotation holds at most 256 KiB, together with all others of the pod.
_AUTHORITY_IN_REQUEST_MAX = 64 << 10
_LOCATION_KEYS = ("provider", "objectStorage", "config", "accessMode")


class MoverInputError(Exception):
    """Something that the mover needs is missing; says what, and where it should be."""

    temporary = False


@dataclass(frozen=True, slots=True)
class MoverInputs:
    """The location's `spec`, without what the mover has no use for, and the Secrets to mount."""

    name: str
    location: Json
    password: SecretMount
    credentials: SecretMount | None = None
    ca_certificate: SecretMount | None = None

    @property
    def secrets(self) -> tuple[SecretMount, ...]:
        """Everything to mount."""
        return tuple(m for m in (self.password, self.credentials, self.ca_certificate) if m is not None)

    @property
    def large_authority(self) -> str:
        """CA certificates (PEM in base64) that need a ConfigMap of their own; else empty."""
        text = str((self.location.get("objectStorage") or {}).get("caCert") or "")
        return text if len(text) > _AUTHORITY_IN_REQUEST_MAX and self.ca_certificate is None else ""


async def read_inputs(kube: Kube, namespace: str, location: str) -> MoverInputs:
    """Read location and Secrets.

    Raises:
        MoverInputError: the location, a Secret or a key in it does not exist, or no mover can reach it.
    """
    body = await find(kube, BACKUP_STORAGE_LOCATION, namespace, location)
    if body is None:
        raise MoverInputError(f"BackupStorageLocation {namespace}/{location} does not exist")
    spec = body["spec"]
    mounts: list[SecretMount | None] = [
        SecretMount("password", PASSWORD_SECRET, PASSWORD_KEY, spare_key=SPARE_PASSWORD_KEY)
    ]
    mounts.append(_mount("credentials", spec.get("credential")))
    mounts.append(_mount("ca-certificate", (spec.get("objectStorage") or {}).get("caCertRef")))
    for mount in mounts:
        await _check(kube, namespace, mount)
    password, credentials, ca_certificate = mounts
    if password is None:
        raise MoverInputError("no password Secret")
    try:
        repository_url(spec, namespace)
    except InvalidRequestError as error:
        raise MoverInputError(f"BackupStorageLocation {namespace}/{location}: {error}") from error
    kept = {key: spec[key] for key in _LOCATION_KEYS if spec.get(key)}
    return MoverInputs(location, kept, password, credentials, ca_certificate)


def _mount(name: str, reference: Json | None) -> SecretMount | None:
    if not reference or not reference.get("name"):
        return None
    return SecretMount(name, reference["name"], reference.get("key", ""))


async def _check(kube: Kube, namespace: str, mount: SecretMount | None) -> None:
    if mount is None:
        return
    secret = await find(kube, SECRET, namespace, mount.secret)
    if secret is None:
        raise MoverInputError(f"Secret {namespace}/{mount.secret} does not exist ({mount.name})")
    if mount.key not in (secret.get("data") or {}):
        raise MoverInputError(f"Secret {namespace}/{mount.secret} has no key {mount.key} ({mount.name})")


def repository_access(
    inputs: MoverInputs, move: Move, *, cached: bool, cache_limit_mib: int
) -> RepositoryAccess:
    """Say where the repository is, in the mover's words."""
    return RepositoryAccess(
        name=inputs.name,
        location=inputs.location,
        volume_namespace=move.source_namespace,
        password_path=inputs.password.path,
        spare_password_path=inputs.password.spare_path,
        credentials_path=inputs.credentials.path if inputs.credentials else "",
        ca_certificate_path=inputs.ca_certificate.path if inputs.ca_certificate else "",
        cache_path=CACHE_DIRECTORY if cached else "",
        cache_limit_mib=cache_limit_mib,
    )


def with_mounted_authority(access: RepositoryAccess, *, mounted: bool) -> RepositoryAccess:
    """Point at the CA certificates in the hosting pod, in place of those that the location carries.

    Raises:
        MoverInputError: the pod has none: they came into the location after it was made.
    """
    if not mounted:
        raise MoverInputError(
            f"the CA certificates of BackupStorageLocation {access.name} came after the hosting pod was "
            "made; run the backup or restore again"
        )
    store = {key: value for key, value in access.location["objectStorage"].items() if key != "caCert"}
    location = access.location | {"objectStorage": store}
    return replace(access, location=location, ca_certificate_path=AUTHORITY_PATH)
