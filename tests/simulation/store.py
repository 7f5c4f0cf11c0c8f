"""What the simulated API server holds: objects, versions, history; the rules of a write. No faults, no waiting.

Faithful in what an agent depends on: one counter of versions, optimistic concurrency, preconditions, finalizers,
graceful deletion of pods, status as a subresource where it is one, what may not be changed, and the past: a list
or a watch may ask for the state of any version that is not compacted. Bodies are never changed in place.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.merge_patch import merge_patch
from tests.simulation.clock import now

Json = dict[str, Any]
Key = tuple[str, str]

CONFLICT, ALREADY, NOT_FOUND, FORBIDDEN, INVALID, GONE = (
    (409, "Conflict"),
    (409, "AlreadyExists"),
    (404, "NotFound"),
    (403, "Forbidden"),
    (422, "Invalid"),
    (410, "Expired"),
)


class Refused(Exception):  # noqa: N818 - what a server says, not what went wrong in it
    """The server says no."""

    def __init__(self, kind: tuple[int, str], message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status, self.reason, self.extra = *kind, extra


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind behaves. `status` says whether it is a subresource, `frozen` what of `spec` nobody changes."""

    plural: str
    name: str
    api: str
    namespaced: bool = True
    status: bool = False
    born_with: tuple[str, ...] = ()
    frozen: Callable[[Json, Json], str] = lambda _before, _after: ""


def _frozen_claim(before: Json, after: Json) -> str:
    kept = ("accessModes", "storageClassName", "selector", "dataSource", "volumeMode")
    changed = [key for key in kept if before.get(key) != after.get(key)]
    if before.get("volumeName") and before["volumeName"] != after.get("volumeName"):
        changed.append("volumeName")
    return ", ".join(changed)


def _frozen_volume(before: Json, after: Json) -> str:
    return "spec.persistentvolumesource" if before.get("csi") != after.get("csi") else ""


def _frozen_content(before: Json, after: Json) -> str:
    return "spec.source" if before.get("source") != after.get("source") else ""


def _frozen_pod(before: Json, after: Json) -> str:
    kept = ("containers", "volumes", "initContainers")
    return ", ".join(key for key in kept if before.get(key) != after.get(key))


_SNAPSHOTS = "snapshot.storage.k8s.io/v1"
KINDS = {
    kind.plural: kind
    for kind in (
        Kind("pods", "Pod", "v1", status=True, frozen=_frozen_pod),
        Kind("events", "Event", "v1"),
        Kind("secrets", "Secret", "v1"),
        Kind("configmaps", "ConfigMap", "v1"),
        Kind("namespaces", "Namespace", "v1", namespaced=False),
        Kind("persistentvolumeclaims", "PersistentVolumeClaim", "v1", status=True,
             born_with=("kubernetes.io/pvc-protection",), frozen=_frozen_claim),
        Kind("persistentvolumes", "PersistentVolume", "v1", namespaced=False, status=True,
             born_with=("kubernetes.io/pv-protection",), frozen=_frozen_volume),
        Kind("nodes", "Node", "v1", namespaced=False, status=True),
        Kind("daemonsets", "DaemonSet", "apps/v1", status=True),
        Kind("storageclasses", "StorageClass", "storage.k8s.io/v1", namespaced=False),
        Kind("volumeattachments", "VolumeAttachment", "storage.k8s.io/v1", namespaced=False),
        Kind("csidrivers", "CSIDriver", "storage.k8s.io/v1", namespaced=False),
        Kind("priorityclasses", "PriorityClass", "scheduling.k8s.io/v1", namespaced=False),
        Kind("leases", "Lease", "coordination.k8s.io/v1"),
        Kind("customresourcedefinitions", "CustomResourceDefinition", "apiextensions.k8s.io/v1", namespaced=False),
        Kind("volumesnapshots", "VolumeSnapshot", _SNAPSHOTS, status=True),
        Kind("volumesnapshotcontents", "VolumeSnapshotContent", _SNAPSHOTS, namespaced=False, status=True,
             frozen=_frozen_content),
        Kind("datauploads", "DataUpload", "velero.io/v2alpha1"),
        Kind("datadownloads", "DataDownload", "velero.io/v2alpha1"),
        Kind("podvolumebackups", "PodVolumeBackup", "velero.io/v1"),
        Kind("podvolumerestores", "PodVolumeRestore", "velero.io/v1"),
        Kind("backuprepositories", "BackupRepository", "velero.io/v1"),
        Kind("backupstoragelocations", "BackupStorageLocation", "velero.io/v1"),
    )
}  # fmt: skip


@dataclass(slots=True)
class Change:
    """One entry of a table's history."""

    version: int
    at: float
    type: str
    key: Key
    before: Json | None
    after: Json
    _text: str = ""

    def text(self) -> str:
        """The object as JSON, written once however many hear of it."""
        if not self._text:
            self._text = json.dumps(self.after)
        return self._text


@dataclass(slots=True)
class Table:
    """The objects of a kind, and how they came to be."""

    kind: Kind
    objects: dict[Key, Json] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    compacted: int = 0

    def as_of(self, version: int) -> dict[Key, Json]:
        """The objects as they were right after a version."""
        past = dict(self.objects)
        for change in reversed(self.history):
            if change.version <= version:
                break
            if change.before is None:
                past.pop(change.key, None)
            else:
                past[change.key] = change.before
        return past

    def version_at(self, moment: float) -> int:
        """The newest version that is not younger than a moment."""
        for change in reversed(self.history):
            if change.at <= moment:
                return change.version
        return self.compacted


class Store:
    """etcd and the rules in front of it. `heard` is told of every change, at once."""

    def __init__(self, heard: Callable[[Table, Change], None]) -> None:
        self.tables = {plural: Table(kind) for plural, kind in KINDS.items()}
        self.version = 1
        self.uids: dict[str, tuple[str, Key]] = {}
        self.admit: list[Callable[[Kind, Key, Json], Json]] = []
        self._heard = heard
        self._made = 0

    # reading

    def find(self, plural: str, namespace: str, name: str) -> Json | None:
        return self.tables[plural].objects.get((namespace, name))

    def get(self, plural: str, namespace: str, name: str) -> Json:
        body = self.find(plural, namespace, name)
        if body is None:
            raise Refused(NOT_FOUND, f'{plural} "{name}" not found')
        return body

    def each(self, plural: str) -> Iterator[Json]:
        return iter(list(self.tables[plural].objects.values()))

    # writing

    def create(self, plural: str, namespace: str, body: Json) -> Json:
        table = self.tables[plural]
        kind, name = table.kind, body["metadata"]["name"]
        key = (namespace if kind.namespaced else "", name)
        if key in table.objects:
            raise Refused(ALREADY, f'{plural} "{name}" already exists')
        for admit in self.admit:
            body = admit(kind, key, body)
        meta = dict(body["metadata"]) | {"uid": self._uid(), "creationTimestamp": _stamp()}
        meta |= {"namespace": namespace} if kind.namespaced else {}
        if kind.born_with:
            meta["finalizers"] = [*(meta.get("finalizers") or []), *kind.born_with]
        made = {"apiVersion": kind.api, "kind": kind.name} | body | {"metadata": meta}
        if kind.status:
            made["status"] = {"phase": "Pending"} if plural in ("pods", "persistentvolumeclaims") else {}
        return self._commit(table, key, None, made)

    def patch(self, plural: str, namespace: str, name: str, patch: Json) -> Json:
        """A merge patch from outside: the main resource, with all the rules."""
        table = self.tables[plural]
        before = self.get(plural, namespace, name)
        self._check_version(before, patch.get("metadata") or {}, plural)
        patch = {key: value for key, value in patch.items() if key != "status" or not table.kind.status}
        after = merge_patch(before, patch)
        after["metadata"] = after["metadata"] | {
            key: before["metadata"][key]
            for key in (
                "uid",
                "creationTimestamp",
                "name",
                "namespace",
                "deletionTimestamp",
                "resourceVersion",
            )
            if key in before["metadata"]
        }
        return self._change(table, before, after)

    def put(self, plural: str, body: Json, **parts: Any) -> Json:
        """What a controller of the cluster writes: any part, also status, merged into the newest object."""
        meta = body["metadata"]
        before = self.find(plural, meta.get("namespace", ""), meta["name"])
        if before is None or before["metadata"]["uid"] != meta["uid"]:
            raise Refused(NOT_FOUND, f"{plural} {meta['name']} is gone")
        return self._change(self.tables[plural], before, merge_patch(before, parts), free=True)

    def delete(
        self,
        plural: str,
        namespace: str,
        name: str,
        *,
        grace: int | None = None,
        uid: str = "",
        version: str = "",
    ) -> Json:
        table = self.tables[plural]
        before = self.get(plural, namespace, name)
        meta = before["metadata"]
        if uid and uid != meta["uid"]:
            raise Refused(
                CONFLICT,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}",
            )
        self._check_version(before, {"resourceVersion": version} if version else {}, plural)
        waits = plural == "pods" and grace != 0 and self._runs(before)
        if not waits and not meta.get("finalizers"):
            return self._drop(table, before)
        if "deletionTimestamp" in meta:
            return before
        marked = meta | {"deletionTimestamp": _stamp()}
        if waits:
            marked["deletionGracePeriodSeconds"] = grace or before["spec"].get(
                "terminationGracePeriodSeconds", 30
            )
        return self._commit(table, _key(before), before, before | {"metadata": marked})

    def _runs(self, pod: Json) -> bool:
        over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        return bool(pod["spec"].get("nodeName")) and not over

    def _check_version(self, before: Json, meta: Json, plural: str) -> None:
        current = before["metadata"]
        wanted = meta.get("resourceVersion")
        if wanted and wanted != current["resourceVersion"]:
            raise Refused(
                CONFLICT,
                f'Operation cannot be fulfilled on {plural} "{current["name"]}": the object has been modified; '
                "please apply your changes to the latest version and try again",
            )
        if meta.get("uid") and meta["uid"] != current["uid"]:
            raise Refused(
                CONFLICT, f"Precondition failed: UID {meta['uid']} is not that of {current['name']}"
            )

    def _change(self, table: Table, before: Json, after: Json, *, free: bool = False) -> Json:
        meta = after["metadata"]
        if not free:
            self._check_rules(table.kind, before, after)
        if (
            "deletionTimestamp" in meta
            and not meta.get("finalizers")
            and before["metadata"].get("finalizers")
        ):
            return self._drop(table, after)
        if after == before:
            return before
        return self._commit(table, _key(before), before, after)

    def _check_rules(self, kind: Kind, before: Json, after: Json) -> None:
        changed = kind.frozen(before.get("spec") or {}, after.get("spec") or {})
        if changed:
            raise Refused(
                INVALID, f"{kind.name} {before['metadata']['name']} is invalid: {changed} is immutable"
            )
        old, new = before["metadata"].get("finalizers") or [], after["metadata"].get("finalizers") or []
        if "deletionTimestamp" in before["metadata"] and set(new) - set(old):
            raise Refused(
                INVALID,
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted",
            )

    def _drop(self, table: Table, body: Json) -> Json:
        key = _key(body)
        before = table.objects.pop(key)
        self.uids.pop(before["metadata"]["uid"], None)
        self.version += 1
        last = body | {"metadata": body["metadata"] | {"resourceVersion": str(self.version)}}
        self._tell(table, Change(self.version, _time(), "DELETED", key, before, last))
        return last

    def _commit(self, table: Table, key: Key, before: Json | None, after: Json) -> Json:
        self.version += 1
        after = after | {"metadata": after["metadata"] | {"resourceVersion": str(self.version)}}
        table.objects[key] = after
        self.uids[after["metadata"]["uid"]] = (table.kind.plural, key)
        kind = "ADDED" if before is None else "MODIFIED"
        self._tell(table, Change(self.version, _time(), kind, key, before, after))
        return after

    def _tell(self, table: Table, change: Change) -> None:
        table.history.append(change)
        self._heard(table, change)

    def _uid(self) -> str:
        self._made += 1
        return f"00000000-0000-4000-8000-{self._made:012d}"

    def compact(self) -> None:
        """Forget the past of all tables: who asks for it is answered 410."""
        for table in self.tables.values():
            table.compacted = self.version
            table.history.clear()


def _key(body: Json) -> Key:
    meta = body["metadata"]
    return (meta.get("namespace", ""), meta["name"])


def _stamp() -> str:
    return now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _time() -> float:
    import asyncio  # noqa: PLC0415

    return asyncio.get_running_loop().time()


# selectors


def selects(body: Json, labels: str, fields: str) -> bool:
    """Whether an object is meant by the API's two selectors."""
    if not labels and not fields:
        return True
    own = body["metadata"].get("labels") or {}
    return all(_label(part, own) for part in _parts(labels)) and all(
        _field(part, body) for part in _parts(fields)
    )


@functools.lru_cache(maxsize=4096)
def _parts(selector: str) -> list[str]:
    parts, depth, word = [], 0, ""
    for letter in selector:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            parts.append(word)
            word = ""
        else:
            word += letter
    return [part.strip() for part in [*parts, word] if part.strip()]


def _label(part: str, labels: dict[str, str]) -> bool:
    for word, wanted in ((" notin ", False), (" in ", True)):
        if word in part:
            key, _, values = part.partition(word)
            return (labels.get(key.strip()) in [v.strip() for v in values.strip(" ()").split(",")]) is wanted
    if part.startswith("!"):
        return part[1:] not in labels
    if "!=" in part:
        key, _, value = part.partition("!=")
        return labels.get(key) != value
    key, equals, value = part.replace("==", "=").partition("=")
    return labels.get(key) == value if equals else key in labels


def _field(part: str, body: Json) -> bool:
    path, _, value = part.replace("==", "=").partition("=")
    wanted = not path.endswith("!")
    found: Any = body
    for step in path.rstrip("!").split("."):
        found = (found or {}).get(step) or ""
    return (str(found) == value) is wanted
