"""The seam to the Kubernetes API: a Protocol of eight verbs, the resources we touch, and the API's errors.

Objects are the API's own JSON. No typed models: they cost 16 MiB of an idle agent's memory (`kubernetes.aio`:
36 MiB anonymous, aiohttp: 20) and a copy of each object. The real client is `kube_client.KubeClient`; tests
put `tests.fakes.kube.FakeKube` in its place. Patches are merge patches (RFC 7386), always.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Json = dict[str, Any]

PAGE_SIZE = 250


@dataclass(frozen=True, slots=True)
class Resource:
    """How the API serves a kind. `group_version` is `v1` for the core group."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool = True


POD = Resource("v1", "pods", "Pod")
EVENT = Resource("v1", "events", "Event")
SECRET = Resource("v1", "secrets", "Secret")
CONFIG_MAP = Resource("v1", "configmaps", "ConfigMap")
PVC = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PV = Resource("v1", "persistentvolumes", "PersistentVolume", namespaced=False)
NODE = Resource("v1", "nodes", "Node", namespaced=False)
DAEMON_SET = Resource("apps/v1", "daemonsets", "DaemonSet")
STORAGE_CLASS = Resource("storage.k8s.io/v1", "storageclasses", "StorageClass", namespaced=False)
VOLUME_ATTACHMENT = Resource("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", namespaced=False)
CSI_DRIVER = Resource("storage.k8s.io/v1", "csidrivers", "CSIDriver", namespaced=False)
PRIORITY_CLASS = Resource("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", namespaced=False)
CRD = Resource(
    "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
_SNAPSHOTS = "snapshot.storage.k8s.io/v1"
VOLUME_SNAPSHOT = Resource(_SNAPSHOTS, "volumesnapshots", "VolumeSnapshot")
SNAPSHOT_METADATA_SERVICE = Resource(
    "cbt.storage.k8s.io/v1beta1", "snapshotmetadataservices", "SnapshotMetadataService", namespaced=False
)
VOLUME_SNAPSHOT_CONTENT = Resource(
    _SNAPSHOTS, "volumesnapshotcontents", "VolumeSnapshotContent", namespaced=False
)


class KubeError(Exception):
    """A request to the API failed. `status` is the HTTP status, 0 where there was no answer at all.

    `retry_after_seconds` is what the server asked for before the next try; 0: nothing.
    """

    temporary: ClassVar[bool] = True

    def __init__(self, message: str, *, status: int = 0, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class NotFoundError(KubeError):
    """404: not there (any more)."""

    temporary = False


class AlreadyExistsError(KubeError):
    """409 on create."""

    temporary = False


class ConflictError(KubeError):
    """409 on a write that carried an old resourceVersion: read again, decide again."""


class GoneError(KubeError):
    """410: the resourceVersion of a watch or a page is too old; list again."""


class ForbiddenError(KubeError):
    """403: a right is missing; the message names it."""

    temporary = False


class QuotaError(ForbiddenError):
    """403 of a ResourceQuota that is full now: it will have room when others have ended."""

    temporary = True


class InvalidError(KubeError):
    """400 or 422: the API server refuses the object."""

    temporary = False


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; `continue_token` is empty on the last."""

    items: list[Json]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, and the object as of then."""

    type: str
    object: Json


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or a watch is narrowed to, in the API's selector syntax."""

    labels: str = ""
    fields: str = ""

    @staticmethod
    def by_name(name: str) -> Selection:
        """One object."""
        return Selection(fields=f"metadata.name={name}")


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a container's log and the time that the runtime stamped on it (RFC 3339, nanoseconds)."""

    at: str
    text: str


@dataclass(frozen=True, slots=True)
class OwnerReference:
    """The controller of an object that we make: it goes when its owner goes."""

    api_version: str
    kind: str
    name: str
    uid: str

    def body(self) -> Json:
        """The entry of `metadata.ownerReferences`."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
        }


class Kube(Protocol):
    """The verbs. `namespace` is empty for cluster-scoped resources and for lists over all namespaces."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Read one object, from the API server and not from a cache."""
        ...

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        selection: Selection = EVERYTHING,
        *,
        token: str = "",
        limit: int = PAGE_SIZE,
    ) -> Page:
        """Read one page of at most `limit` objects; raises `GoneError` when `token` has expired."""
        ...

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Make an object; raises `AlreadyExistsError`."""
        ...

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        """Merge `patch` in; raises `ConflictError` when it names a resourceVersion that is not current."""
        ...

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        grace_seconds: int | None = None,
    ) -> bool:
        """Ask for deletion; False when it was not there. Finalizers may keep it for a while.

        With `uid` (a precondition of the API's) a namesake of the object that was meant is not there either.
        """
        ...

    def watch(
        self, resource: Resource, namespace: str, selection: Selection, resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `resource_version`, with bookmarks; ends when the server ends it; `GoneError`."""
        ...

    def log_lines(
        self, namespace: str, pod: str, container: str, *, since: str = ""
    ) -> AsyncIterator[LogLine]:
        """Follow a container's log until it ends, from the whole second of `since` on (as `LogLine.at`)."""
        ...


async def find(kube: Kube, resource: Resource, namespace: str, name: str) -> Json | None:
    """`Kube.get`, with `None` for what is not there."""
    try:
        return await kube.get(resource, namespace, name)
    except NotFoundError:
        return None


async def list_all(
    kube: Kube, resource: Resource, namespace: str = "", selection: Selection = EVERYTHING
) -> list[Json]:
    """All pages of a list."""
    page = await kube.list(resource, namespace, selection)
    items = page.items
    while page.continue_token:
        page = await kube.list(resource, namespace, selection, token=page.continue_token)
        items.extend(page.items)
    return items


async def ensure_created(kube: Kube, resource: Resource, namespace: str, body: Json) -> Json:
    """Create, or read what is there under the name already: safe to repeat.

    Raises:
        ConflictError: what stood in the way of the name was gone when it was to be read; try again.
    """
    try:
        return await kube.create(resource, namespace, body)
    except AlreadyExistsError as error:
        found = await find(kube, resource, namespace, body["metadata"]["name"])
        if found is None:
            raise ConflictError(f"{error}, and is gone since", status=error.status) from error
        return found
