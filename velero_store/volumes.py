"""A volume of a backup: what it is of, how it was saved, which snapshot holds it, whether it can be read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from repository.errors import InvalidRequestError, ObjectNotFoundError
from velero_store.fields import is_name

PODS_FOLDER = "pods"
# Kopia's snapshots have 32 hexadecimal digits; of restic's, Velero keeps the short ID.
KOPIA_ID = re.compile(r"[0-9a-f]{32}")
RESTIC_ID = re.compile(r"[0-9a-f]{8}|[0-9a-f]{64}")
OUR_MOVERS = frozenset({"", "velero", "velero-fs", "velero-block"})


class Method(StrEnum):
    """How the bytes left the volume."""

    FS_BACKUP = "fs-backup"
    DATA_MOVEMENT = "data-movement"
    CSI_SNAPSHOT = "csi-snapshot"
    NATIVE_SNAPSHOT = "native-snapshot"
    NONE = "none"


class State(StrEnum):
    """What can be had of it from the bucket alone. `restorable` is what the metadata claims."""

    RESTORABLE = "restorable"
    EMPTY = "empty"  # backed up, and nothing was in it
    SKIPPED = "skipped"
    FAILED = "failed"
    SNAPSHOT_ONLY = "snapshot-only"  # its bytes are in the storage system, not in the bucket
    FOREIGN = "foreign"  # another data mover's
    PENDING = "pending"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One volume of one backup. `namespace` names its repository; `claim` may be empty for pods' volumes."""

    backup: str
    namespace: str
    claim: str = ""
    pod: str = ""
    pod_volume: str = ""
    method: Method
    uploader: str = ""
    snapshot_id: str = ""
    operation_id: str = ""
    state: State
    reason: str = ""
    size_bytes: int | None = None
    incremental_bytes: int | None = None
    taken_at: datetime | None = None
    completed_at: datetime | None = None
    mode: str = ""  # `Filesystem`, `Block`, or not known
    storage_class: str = ""
    capacity: str = ""
    persistent_volume: str = ""
    driver: str = ""

    @property
    def name(self) -> str:
        """The claim, else `pods/POD/VOLUME`."""
        return self.claim or self.pod_name or "?"

    @property
    def pod_name(self) -> str:
        """`pods/POD/VOLUME`; empty for what was not backed up through a pod."""
        return f"{PODS_FOLDER}/{self.pod}/{self.pod_volume}" if self.pod else ""

    @property
    def path(self) -> str:
        """`NAMESPACE/NAME`."""
        return f"{self.namespace}/{self.name}"

    @property
    def is_readable(self) -> bool:
        """Whether there is something to read, as far as the metadata says."""
        return self.state == State.RESTORABLE

    def document(self) -> dict[str, object]:
        """What `mover velero ls --json` says of it."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "pvc": self.claim or None,
            "pod": self.pod or None,
            "podVolume": self.pod_volume or None,
            "method": self.method.value,
            "uploader": self.uploader or None,
            "snapshotID": self.snapshot_id or None,
            "state": self.state.value,
            "reason": self.reason or None,
            "size": self.size_bytes,
            "incrementalSize": self.incremental_bytes,
            "startTime": _time(self.taken_at),
            "endTime": _time(self.completed_at),
            "volumeMode": self.mode or None,
            "storageClass": self.storage_class or None,
            "capacity": self.capacity or None,
            "persistentVolume": self.persistent_volume or None,
            "driver": self.driver or None,
        }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def judged(snapshot_id: str, *, namespace: str, uploader: str, names: Sequence[str]) -> tuple[State, str]:
    """Whether a volume whose backup is complete can be read, by its names and its snapshot's ID."""
    for name in (namespace, *filter(None, names)):
        if not is_name(name):
            return State.UNREADABLE, f"no object of Kubernetes is named {name!r}"
    if not snapshot_id:
        return State.EMPTY, "nothing was in it"
    if RESTIC_ID.fullmatch(snapshot_id):
        return State.UNREADABLE, f"it was written by restic, into restic/{namespace}"
    if not KOPIA_ID.fullmatch(snapshot_id):
        return State.UNREADABLE, f"{snapshot_id!r} is not the ID of a snapshot"
    if uploader == "restic":
        return State.UNREADABLE, "its record says restic, and its snapshot is not restic's"
    return State.RESTORABLE, ""


def choose(volumes: Sequence[Volume], path: str) -> tuple[Volume, str]:
    """The volume that the beginning of `path` names, and the path inside of it.

    `NS/PVC`, `NS/pods/POD/VOLUME`, or `NS/SNAPSHOT_ID` for what has no name of its own.

    Raises:
        ObjectNotFoundError: There is none.
        InvalidRequestError: There are several, or `path` names none.
    """
    namespace, _, below = path.strip("/").partition("/")
    parts = [part for part in below.split("/") if part]
    if not parts:
        raise InvalidRequestError(f"{path!r} names no volume: give NS/PVC or NS/pods/POD/VOLUME")
    here = [one for one in volumes if one.namespace == namespace]
    name, inside = "/".join(parts[:3]), parts[3:]
    found = [one for one in here if one.pod_name == name]
    if not found:
        name, inside = parts[0], parts[1:]
        found = [one for one in here if name in (one.claim, one.snapshot_id)]
    found = _best(found)
    if len(found) == 1:
        return found[0], "/".join(inside)
    if found:
        others = ", ".join(f"{namespace}/{one.pod_name or one.snapshot_id}" for one in found)
        raise InvalidRequestError(f"{namespace}/{name} was backed up more than once: say which of {others}")
    known = ", ".join(sorted({one.path for one in volumes})[:20]) or "none"
    raise ObjectNotFoundError(f"the backup has no volume {namespace}/{name}; there are {known}")


def _best(found: Sequence[Volume]) -> list[Volume]:
    """Without what cannot be read where something else of the same name can, and each snapshot once."""
    readable = [one for one in found if one.is_readable] or list(found)
    return list({one.snapshot_id or one.pod_name or one.method: one for one in readable}.values())
