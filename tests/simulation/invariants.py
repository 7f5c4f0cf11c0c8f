"""What must never happen, checked at every change of the data and of the custom resources, and at the end.

A message of a move that failed is a claim about the world, and is checked as one: each has an excuse that must
have happened (`EXCUSES`). What has none is a wrong report.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from exposer.hosting_pod import MOVER_LABEL
from exposer.ownership import EXPOSED_LABEL
from tests.simulation.controllers import handle_of
from tests.simulation.people import FINAL, PLURALS, VELERO, Wish
from tests.simulation.storage import Disk, StorageSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.people import People
    from tests.simulation.storage import Storage
    from tests.simulation.store import Change, Json, Store, Table

_KIND_OF = {plural: kind for kind, plural in PLURALS.items()}
_OURS = "kopia-data-mover.io/"
_KEPT = re.compile(r"PV (\S+) keeps it")


def _fact(*names: str) -> Callable[[Wish, float, re.Match[str]], bool]:
    return lambda wish, _now, _match: bool(wish.facts & set(names))


def _late(seconds: float) -> Callable[[Wish, float, re.Match[str]], bool]:
    """So much time has passed; a clock that is wrong by more has said so to an agent that had just begun."""
    return lambda wish, now, _match: now - wish.created_at >= seconds or "clock wrong" in wish.facts


# What a move may say that it failed of, and whether that is so.
EXCUSES: list[tuple[re.Pattern[str], Callable[[Wish, float, re.Match[str]], bool]]] = [
    (re.compile(pattern), holds)
    for pattern, holds in (
        (r"timeout on preparing", _late(200)),
        (r"not ready until timeout", _late(200)),
        (r"not within", _fact("controllers paused", "node failed", "API away")),
        (r"was deleted|is being deleted|pod deleted", _fact("pod deleted", "node failed")),
        (r"mover ended with exit code 137|exit code 255", _fact("mover killed", "node failed")),
        (r"mover ended without a message", _fact("mover killed", "node failed", "pod deleted")),
        (r"node \S+ is gone", _fact("node failed")),
        (r"no node-agent (has been running|runs) on node", _fact("node failed", "agent away")),
        (r"exceeded quota", _fact("quota full")),
        (
            r"made anew|UID|does not exist or runs on no node|no volume at",
            _fact("pod made anew", "node failed"),
        ),
        (r"is not mounted", _fact("pod made anew", "node failed")),
        (r"pods? \S+ does not exist", _fact("pod made anew", "node failed")),
        (r"precious-\d+", lambda _wish, _now, _match: True),
        (r"the PV was deleted|Lost", _fact("node failed")),
    )
]


class Invariants:
    """Collects what is wrong."""

    def __init__(self, store: Store, storage: Storage, people: People) -> None:
        self.store, self.storage, self.people = store, storage, people
        self.violations: list[str] = []
        self._loop = asyncio.get_running_loop()
        storage.on_snapshot_deleted = self._snapshot_deleted
        storage.on_disk_deleted = self._disk_deleted
        storage.on_disk_written = self._disk_written

    def fail(self, text: str) -> None:
        """Note a violation."""
        self.violations.append(f"{self._loop.time():.1f} s: {text}")

    # at every step

    def _snapshot_deleted(self, snapshot: StorageSnapshot) -> None:
        wish = next((w for w in self.people.wishes if f"snapshot {snapshot.handle}" in w.facts), None)
        if snapshot.data in self.storage.repository.values() or wish is None:
            return
        if wish.is_final or wish.cancel_wanted or wish.deleted_at >= 0:
            return
        self.fail(
            f"DATA LOST: storage snapshot {snapshot.handle}, the only copy, was deleted while {wish.name} is {wish.phase}"
        )

    def _disk_deleted(self, disk: Disk) -> None:
        if disk.owner == "foreign":
            self.fail(f"DATA LOST: {disk.handle} of somebody else was deleted")
        for wish in self.people.wishes:
            kept = _KEPT.search(wish.message)
            if kept and kept[1] == disk.handle:
                self.fail(f"DATA LOST: {wish.name} said that PV {disk.handle} is kept")
            if (
                wish.kind == "DataDownload"
                and wish.phase == "Completed"
                and f"given {disk.handle}" in wish.facts
            ):
                self.fail(f"DATA LOST: disk {disk.handle} of the completed {wish.name} was deleted")

    def _disk_written(self, disk: Disk, _before: str) -> None:
        if disk.owner == "foreign":
            self.fail(f"DATA LOST: {disk.handle} of somebody else was written over")

    def heard(self, table: Table, change: Change) -> None:
        """Look at every change of a move."""
        kind = _KIND_OF.get(table.kind.plural)
        wish = self.people.by_uid.get(change.after["metadata"]["uid"]) if kind else None
        if wish is None or change.type == "DELETED":
            return
        before, after = change.before or {}, change.after
        if (before.get("spec") or {}).get("cancel") and not after["spec"].get("cancel"):
            self.fail(f"spec.cancel of {wish.name} was unset")
        status = after.get("status") or {}
        phase = status.get("phase") or "New"
        wish.message = status.get("message") or ""
        if phase == wish.phase:
            return
        if wish.is_final:
            self.fail(f"{wish.name} left its final phase {wish.phase} for {phase}")
        wish.phases.append(phase)
        if phase == "Completed":
            self._completed(wish, status)
        elif phase in FINAL:
            self._ended(wish, phase)

    def _completed(self, wish: Wish, status: Json) -> None:
        moved = {
            "DataUpload": self._in_repository,
            "PodVolumeBackup": self._in_repository,
            "DataDownload": self._in_target,
            "PodVolumeRestore": self._in_pod,
        }
        wrong = moved[wish.kind](wish, status)
        if wrong:
            self.fail(f"WRONG DATA: {wish.name} is Completed, wanted {wish.data!r}: {wrong}")

    def _in_repository(self, wish: Wish, status: Json) -> str:
        found = self.storage.repository.get(status.get("snapshotID", ""))
        return "" if found == wish.data else f"the repository has {found!r}"

    def _in_target(self, wish: Wish, _status: Json) -> str:
        claim = self.store.find("persistentvolumeclaims", wish.space, "data")
        volume = self.store.find("persistentvolumes", "", (claim or {}).get("spec", {}).get("volumeName", ""))
        if claim is None or volume is None:
            return "the target has no volume"
        reference = volume["spec"].get("claimRef") or {}
        if reference.get("uid") != claim["metadata"]["uid"]:
            return f"PV {volume['metadata']['name']} is not the target's: {reference}"
        disk = self.storage.disks.get(volume["spec"]["csi"]["volumeHandle"])
        wish.facts.add(f"given {volume['spec']['csi']['volumeHandle']}")
        return "" if disk is not None and disk.data == wish.data else f"the target's disk has {disk}"

    def _in_pod(self, wish: Wish, _status: Json) -> str:
        pod = self.store.find("pods", wish.space, f"web-{wish.index}")
        found = self.storage.pod_volumes.get((wish.pod_uid, "data"))
        if found is None and pod is not None and pod["metadata"]["uid"] != wish.pod_uid:
            found = self.storage.pod_volumes.get((pod["metadata"]["uid"], "data"))
            return "it was written into another pod" if found == wish.data else ""
        if found is None and wish.facts & {"node failed"}:
            return ""
        return "" if found == wish.data else f"the pod has {found!r}"

    def _ended(self, wish: Wish, phase: str) -> None:
        if not wish.message:
            self.fail(f"{wish.name} is {phase} and says nothing")
        if (
            phase == "Canceled"
            and not wish.cancel_wanted
            and wish.deleted_at < 0
            and "pod deleted" not in wish.facts
        ):
            self.fail(f"{wish.name} is Canceled, and nobody wanted that: {wish.message}")
        if phase != "Failed":
            return
        matches = [(pattern.search(wish.message), holds) for pattern, holds in EXCUSES]
        if not any(match and holds(wish, self._loop.time(), match) for match, holds in matches):
            self.fail(
                f"WRONG REPORT: {wish.name} is Failed: {wish.message} (what happened: {sorted(wish.facts)})"
            )

    # at the end

    def unfinished(self) -> list[str]:
        """Moves that are not over, or to which clean-up is owed."""
        found = []
        for kind, plural in PLURALS.items():
            for body in self.store.each(plural):
                phase = (body.get("status") or {}).get("phase") or "New"
                if phase not in FINAL or body["metadata"].get("finalizers"):
                    found.append(
                        f"{kind} {body['metadata']['name']} is {phase} {body.get('status', {}).get('message', '')}"
                    )
        return found

    def at_the_end(self) -> None:
        """Nothing may be left over, and all that was promised is there."""
        for text in self.unfinished():
            self.fail(f"NEVER ENDED: {text}")
        for text in [*self._left_objects(), *self._left_marks(), *self._left_storage()]:
            self.fail(f"LEFT OVER: {text}")
        for wish in self.people.wishes:
            if wish.kind == "DataDownload" and wish.phase == "Completed":
                self._still_there(wish)
        for disk in self.storage.disks.values():
            if disk.owner == "foreign":
                self._foreign_untouched(disk)

    def _still_there(self, wish: Wish) -> None:
        claim = self.store.find("persistentvolumeclaims", wish.space, "data")
        if claim is not None and (claim["status"].get("phase") != "Bound"):
            self.fail(f"target of the completed {wish.name} is {claim['status'].get('phase')}")

    def _foreign_untouched(self, disk: Disk) -> None:
        volume = self.store.find("persistentvolumes", "", disk.handle)
        if (
            volume is None
            or volume["spec"].get("claimRef")
            or volume["spec"]["persistentVolumeReclaimPolicy"] != self.people.foreign[disk.handle]
        ):
            self.fail(f"PV {disk.handle} of somebody else was not given back: {(volume or {}).get('spec')}")

    def _left_objects(self) -> list[str]:
        left = []
        for plural in ("pods", "persistentvolumeclaims", "volumesnapshots"):
            for body in self.store.each(plural):
                meta = body["metadata"]
                mine = MOVER_LABEL in (meta.get("labels") or {}) or plural != "pods"
                if meta.get("namespace") == VELERO and mine:
                    left.append(f"{plural} {meta['name']} {meta.get('deletionTimestamp', '')}")
        excused = self._excused()
        for plural in ("volumesnapshots", "volumesnapshotcontents"):
            for body in self.store.each(plural):
                name = body["metadata"]["name"]
                if name not in excused and body["metadata"].get("namespace") != VELERO:
                    left.append(f"{plural} {name}")
        return left

    def _excused(self) -> set[str]:
        """Names of what no agent could have known of: its move was gone before one could see it."""
        words: set[str] = set()
        for wish in self.people.wishes:
            if wish.deleted_unseen and (
                wish.deleted_at - wish.created_at < 3.0
                or "agent away" in wish.facts
                or "write failed" in wish.facts
            ):
                words |= {fact.partition(" ")[2] for fact in wish.facts}
        return words

    def _left_marks(self) -> list[str]:
        left = []
        for plural in ("persistentvolumes", "persistentvolumeclaims"):
            for body in self.store.each(plural):
                meta = body["metadata"]
                marks = [
                    k
                    for k in {**(meta.get("labels") or {}), **(meta.get("annotations") or {})}
                    if k.startswith(_OURS)
                ]
                if marks and not self._is_kept(meta["name"]):
                    left.append(f"{marks} on {meta['name']}")
        return left

    def _is_kept(self, volume: str) -> bool:
        return any(volume in wish.message for wish in self.people.wishes)

    def _left_storage(self) -> list[str]:
        excused = self._excused()
        left = [f"storage snapshot {handle}" for handle in self.storage.snapshots if handle not in excused]
        named = {body["spec"]["csi"]["volumeHandle"]: body for body in self.store.each("persistentvolumes")}
        for handle, disk in self.storage.disks.items():
            if disk.owner != "made" or self._is_kept(handle):
                continue
            claim = (named.get(handle) or {}).get("spec", {}).get("claimRef") or {}
            if claim.get("namespace") in (None, VELERO) or not self.store.find(
                "persistentvolumeclaims", claim["namespace"], claim["name"]
            ):
                left.append(f"disk {handle} ({claim.get('namespace')}/{claim.get('name')})")
        return left


def contents_of(store: Store) -> dict[str, Any]:
    """Storage snapshots by the contents that name them; for people who look into a run."""
    return {handle_of(body): body["spec"]["deletionPolicy"] for body in store.each("volumesnapshotcontents")}


__all__ = ["EXCUSES", "EXPOSED_LABEL", "Invariants", "contents_of"]
