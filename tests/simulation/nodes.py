"""Scheduler, kubelets and movers: hosting pods get a node, run, and do what their request says, in virtual time.

A mover here is played: it reads the bytes that its pod's own mount shows at the requested path, stores them, or
writes what the repository has; it obeys a cancel and may be killed. Only the product's protocol is real.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from exposer.hosting_pod import CANCEL_ANNOTATION, MOVER_LABEL, REQUEST_ANNOTATION
from mover.protocol import (
    BackupRequest,
    End,
    Progress,
    ProtocolError,
    Request,
    Result,
    decode_request,
    encode_end,
    encode_failure,
    encode_progress,
    encode_result,
)
from tests.simulation.api import Stream
from tests.simulation.controllers import SELECTED_NODE, WorkList, claims_of, key_of
from tests.simulation.storage import NoDataError, Storage
from tests.simulation.store import Change, Json, Refused, Store, Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

SIGNALS = "volumes/kubernetes.io~empty-dir/signal"
EMPTY_TREE = "(nothing)"


@dataclass(slots=True)
class Mover:
    """One run of a mover."""

    pod_uid: str
    name: str
    node: str
    task: asyncio.Task[None] | None = None
    canceled: asyncio.Event = field(default_factory=asyncio.Event)
    request: Request | None = None


@dataclass(slots=True)
class Log:
    """What a container has written, and who listens."""

    lines: list[tuple[str, bytes]] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    over: bool = False

    def write(self, at: float, text: str) -> None:
        stamp = (_LOG_EPOCH + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        line = f"{stamp} {text}\n".encode()
        self.lines.append((stamp, line))
        for stream in self.streams:
            stream.send(line)

    def end(self) -> None:
        self.over = True
        for stream in self.streams:
            stream.send(None)


_LOG_EPOCH = datetime(2026, 11, 21, tzinfo=UTC)
_WHOLE_SECOND = len("2026-11-21T12:00:00")


class Nodes:
    """All nodes. `down` are those whose kubelet is silent."""

    def __init__(self, store: Store, storage: Storage, work: WorkList, rng: Random, root: Path) -> None:
        self.store, self.storage, self.work, self.rng, self.root = store, storage, work, rng, root
        self.down: set[str] = set()
        self.movers: dict[str, Mover] = {}
        self.logs: dict[str, Log] = {}
        self.slow_factor = 1.0
        self.on_claimed: Callable[[str, str], None] = lambda _pod, _claim: None
        self._loop = asyncio.get_running_loop()

    def heard(self, table: Table, change: Change) -> None:
        """Wake who may care."""
        plural, key = table.kind.plural, change.key
        if plural == "pods":
            self.work.add(self.pod, *key)
            if change.type == "DELETED":
                self._clear(change.after)
        elif plural == "persistentvolumeclaims":
            for pod in self.store.each("pods"):
                if pod["metadata"]["namespace"] == key[0] and key[1] in claims_of(pod):
                    self.work.add(self.pod, *key_of(pod))
        elif plural == "nodes":
            for pod in self.store.each("pods"):
                self.work.add(self.pod, *key_of(pod))

    def _clear(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        self.kill_mover(uid)
        if uid in self.logs:
            self.logs.pop(uid).end()
        node = pod["spec"].get("nodeName")
        if node:
            shutil.rmtree(self.root / node / uid, ignore_errors=True)

    def mount(self, node: str, pod_uid: str, volume: str) -> None:
        """A volume of a pod, as a directory of its node."""
        (self.root / node / pod_uid / "volumes" / "kubernetes.io~empty-dir" / volume).mkdir(
            parents=True, exist_ok=True
        )

    # pods

    def pod(self, namespace: str, name: str) -> float | None:
        """One pass over a pod: schedule, start, attend, end."""
        pod = self.store.find("pods", namespace, name)
        if pod is None or (pod["metadata"].get("labels") or {}).get("role") == "node-agent":
            return None
        if "deletionTimestamp" in pod["metadata"]:
            return self._end(pod)
        if not pod["spec"].get("nodeName"):
            return self._schedule(pod)
        node = pod["spec"]["nodeName"]
        if node in self.down or self.store.find("nodes", "", node) is None:
            return self._orphan(pod)
        phase = pod["status"].get("phase")
        if phase == "Pending":
            return self._start(pod)
        if phase == "Running":
            self._attend(pod)
        return None

    def _end(self, pod: Json) -> float | None:
        node = pod["spec"].get("nodeName", "")
        if node in self.down:
            return None
        uid = pod["metadata"]["uid"]
        mover = self.movers.get(uid)
        if mover is not None and mover.task is not None and not mover.task.done():
            mover.canceled.set()  # SIGTERM
            deleted_at = mover.canceled
            self.work.add(
                self._after_grace, pod["metadata"]["namespace"], pod["metadata"]["name"], uid, after=30.0
            )
            return None if deleted_at.is_set() else 1.0
        self._remove(pod)
        return None

    def _after_grace(self, namespace: str, name: str, uid: str) -> None:
        pod = self.store.find("pods", namespace, name)
        if pod is not None and pod["metadata"]["uid"] == uid:
            self._remove(pod)

    def _remove(self, pod: Json) -> None:
        meta = pod["metadata"]
        self.store.delete("pods", meta["namespace"], meta["name"], grace=0, uid=meta["uid"])

    def _orphan(self, pod: Json) -> float | None:
        """Pods of a node that is gone are deleted by the pod garbage collector."""
        if self.store.find("nodes", "", pod["spec"]["nodeName"]) is None:
            self._remove(pod)
        return None

    def _schedule(self, pod: Json) -> float | None:
        namespace = pod["metadata"]["namespace"]
        nodes = [n for n in self.store.each("nodes") if _ready(n) and _tolerable(pod, n)]
        if not nodes:
            self._unschedulable(pod, "0/0 nodes are available")
            return 5.0
        claims = [self.store.find("persistentvolumeclaims", namespace, claim) for claim in claims_of(pod)]
        node = self.rng.choice([n["metadata"]["name"] for n in nodes])
        for claim in claims:
            if claim is None:
                self._unschedulable(pod, "persistentvolumeclaim not found")
                return 5.0
            chosen = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
            if not claim["spec"].get("volumeName") and self._binds_late(claim) and not chosen:
                self.store.put(
                    "persistentvolumeclaims", claim, metadata={"annotations": {SELECTED_NODE: node}}
                )
            if claim["status"].get("phase") != "Bound":
                self._unschedulable(pod, "pod has unbound PersistentVolumeClaims")
                return 5.0
        self.store.put("pods", pod, spec={"nodeName": node}, status={"conditions": None})
        return None

    def _binds_late(self, claim: Json) -> bool:
        body = self.store.find("storageclasses", "", claim["spec"].get("storageClassName", ""))
        return (body or {}).get("volumeBindingMode") == "WaitForFirstConsumer"

    def _unschedulable(self, pod: Json, message: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.store.put("pods", pod, status={"conditions": [condition]})

    def _start(self, pod: Json) -> float | None:
        namespace, uid, node = pod["metadata"]["namespace"], pod["metadata"]["uid"], pod["spec"]["nodeName"]
        for claim in claims_of(pod):
            body = self.store.find("persistentvolumeclaims", namespace, claim)
            if body is None or body["status"].get("phase") != "Bound":
                return 2.0
        (self.root / node / uid / SIGNALS).mkdir(parents=True, exist_ok=True)
        self.store.put(
            "pods", pod, status={"phase": "Running", "containerStatuses": _statuses(pod, {"running": {}})}
        )
        self.logs[uid] = Log()
        return None

    def _attend(self, pod: Json) -> None:
        meta = pod["metadata"]
        uid, notes = meta["uid"], meta.get("annotations") or {}
        if MOVER_LABEL not in (meta.get("labels") or {}):
            return
        if uid not in self.movers and notes.get(REQUEST_ANNOTATION):
            mover = Mover(uid, meta["name"], pod["spec"]["nodeName"])
            self.movers[uid] = mover
            mover.task = self._loop.create_task(self._move(pod, notes[REQUEST_ANNOTATION], mover))
        if uid in self.movers and notes.get(CANCEL_ANNOTATION):
            self.movers[uid].canceled.set()

    # movers

    def kill_mover(self, pod_uid: str) -> bool:
        """End a mover's process as SIGKILL does; whether there was one."""
        mover = self.movers.get(pod_uid)
        if mover is None or mover.task is None or mover.task.done():
            return False
        mover.task.cancel()
        return True

    def crash_mover(self, pod_uid: str) -> bool:
        """Kill a mover; the kubelet reports it, without a word of the mover's."""
        if not self.kill_mover(pod_uid):
            return False
        self._loop.call_later(1.0, self._report, pod_uid, 137, "")
        return True

    async def _move(self, pod: Json, text: str, mover: Mover) -> None:
        uid = mover.pod_uid
        try:
            mover.request = decode_request(text)
            code, message = await self._work(pod, mover.request, mover)
        except ProtocolError as error:
            code, message = 1, f"request cannot be read: {error}"
        log = self.logs.get(uid)
        if log is not None:
            log.write(self._loop.time(), encode_end(End(code, message)))
        await asyncio.sleep(self.rng.uniform(0.2, 2.0))
        self._report(uid, code, message)

    async def _work(self, pod: Json, request: Request, mover: Mover) -> tuple[int, str]:
        steps = self.rng.randint(1, 4)
        data = EMPTY_TREE
        for step in range(steps):
            if await self._pause(mover, self.rng.uniform(0.2, 6.0) * self.slow_factor):
                return 1, encode_failure("Data path canceled", canceled=True)
            try:
                if step == 0:
                    data = self._seen(pod, request) if isinstance(request, BackupRequest) else ""
            except NoDataError as error:
                return 1, encode_failure(f"cannot read {request.path}: {error}")
            log = self.logs.get(mover.pod_uid)
            if log is not None:
                log.write(
                    self._loop.time(), encode_progress(Progress(total_bytes=steps, done_bytes=step + 1))
                )
        return self._finish(pod, request, data)

    async def _pause(self, mover: Mover, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await mover.canceled.wait()
        except TimeoutError:
            return False
        return True

    def _finish(self, pod: Json, request: Request, data: str) -> tuple[int, str]:
        try:
            if isinstance(request, BackupRequest):
                snapshot = self.storage.save(data)
                return 0, encode_result(
                    request, Result(len(data), snapshot_id=snapshot, incremental_bytes=len(data))
                )
            data = self.storage.repository[request.snapshot_id]
            self._put(pod, request.path, data, request.done_file)
            return 0, encode_result(request, Result(len(data)))
        except NoDataError as error:
            return 1, encode_failure(f"cannot write {request.path}: {error}")

    def _seen(self, pod: Json, request: Request) -> str:
        kind, name = self._place(pod, request.path)
        if kind == "disk":
            return self.storage.disk(name).data
        if kind == "pod":
            uid, _, volume = name.partition("/")
            if (uid, volume) not in self.storage.pod_volumes:
                raise NoDataError(f"volume {volume} of pod {uid} is not mounted")
            return self.storage.pod_volumes[uid, volume]
        return EMPTY_TREE

    def _put(self, pod: Json, path: str, data: str, done_file: str) -> None:
        kind, name = self._place(pod, path)
        if kind == "disk":
            self.storage.write(name, data)
        elif kind == "pod":
            uid, _, volume = name.partition("/")
            if (uid, volume) not in self.storage.pod_volumes:
                raise NoDataError(f"volume {volume} of pod {uid} is not mounted")
            self.storage.pod_volumes[uid, volume] = data
            self.storage.done_files.setdefault((uid, volume), set()).add(done_file)
            self._wake_pod(uid)

    def _wake_pod(self, uid: str) -> None:
        found = self.store.uids.get(uid)
        if found:
            self.work.add(self.init_container, *found[1])

    def init_container(self, namespace: str, name: str) -> None:
        """`restore-wait` ends when every volume that it looks at has its done file."""
        pod = self.store.find("pods", namespace, name)
        if pod is None or not pod["spec"].get("initContainers"):
            return
        container = pod["spec"]["initContainers"][0]
        wanted = container["args"][0]
        volumes = [v["name"] for v in pod["spec"]["volumes"]]
        uid = pod["metadata"]["uid"]
        if all(wanted in self.storage.done_files.get((uid, volume), ()) for volume in volumes):
            ended = [{"name": container["name"], "state": {"terminated": {"exitCode": 0}}}]
            self.store.put("pods", pod, status={"phase": "Running", "initContainerStatuses": ended})

    def _place(self, pod: Json, path: str) -> tuple[str, str]:
        """Follow a path in the mover's container to the bytes behind it."""
        container = mover_container(pod)
        accesses = [(m["name"], m["mountPath"]) for m in container.get("volumeMounts") or []]
        accesses += [(d["name"], d["devicePath"]) for d in container.get("volumeDevices") or []]
        name = next((name for name, where in accesses if where == path), None)
        if name is None:
            raise NoDataError("no such directory")
        volume = next(v for v in pod["spec"]["volumes"] if v["name"] == name)
        if "persistentVolumeClaim" in volume:
            return "disk", self._disk_of(
                pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"]
            )
        if "hostPath" in volume:
            parts = volume["hostPath"]["path"].rstrip("/").split("/")
            return "pod", f"{parts[parts.index('pods') + 1]}/{parts[-1]}"
        return "empty", name

    def _disk_of(self, namespace: str, claim: str) -> str:
        body = self.store.find("persistentvolumeclaims", namespace, claim)
        volume = self.store.find("persistentvolumes", "", (body or {}).get("spec", {}).get("volumeName", ""))
        if volume is None:
            raise NoDataError(f"volume of {claim} is gone")
        return str(volume["spec"]["csi"]["volumeHandle"])

    def _report(self, pod_uid: str, code: int, message: str) -> None:
        """What the kubelet writes when a mover has ended; again and again until its node speaks again."""
        found = self.store.uids.get(pod_uid)
        if found is None:
            return
        pod = self.store.get(*((found[0],) + found[1]))
        if pod["spec"]["nodeName"] in self.down:
            self._loop.call_later(2.0, self._report, pod_uid, code, message)
            return
        if pod_uid in self.logs:
            self.logs[pod_uid].end()
        ended = {
            "terminated": {
                "exitCode": code,
                "message": message,
                "reason": "Completed" if code == 0 else "Error",
            }
        }
        alone = len(pod["spec"]["containers"]) == 1
        phase = ("Succeeded" if code == 0 else "Failed") if alone else pod["status"]["phase"]
        self.store.put("pods", pod, status={"phase": phase, "containerStatuses": _statuses(pod, ended)})

    # nodes

    def fail(self, node: str) -> None:
        """The machine stops; what ran on it is over, and nobody says so."""
        self.down.add(node)
        for uid, mover in self.movers.items():
            if mover.node == node:
                self.kill_mover(uid)

    def recover(self, node: str) -> None:
        """The machine is back: what ran there has failed."""
        self.down.discard(node)
        for pod in self.store.each("pods"):
            if pod["spec"].get("nodeName") != node:
                continue
            self.work.add(self.pod, *key_of(pod))
            if (
                MOVER_LABEL in (pod["metadata"].get("labels") or {})
                and pod["status"].get("phase") == "Running"
            ):
                self._report(pod["metadata"]["uid"], 255, "")

    def log(self, namespace: str, name: str, container: str, since: str) -> Stream:
        """Follow a container's log with its stamps, from a whole second on."""
        pod = self.store.get("pods", namespace, name)
        log = self.logs.get(pod["metadata"]["uid"])
        if log is None or container not in [c["name"] for c in pod["spec"]["containers"]]:
            raise Refused((400, "BadRequest"), f"container {container} in pod {name} is waiting to start")
        if pod["spec"]["nodeName"] in self.down:
            raise Refused((500, "InternalError"), "dial tcp: no route to host")
        stream = Stream(0.01)
        for stamp, line in log.lines:
            if stamp[:_WHOLE_SECOND] >= since[:_WHOLE_SECOND]:
                stream.send(line)
        log.streams.append(stream)
        if log.over:
            stream.send(None)
        return stream


def mover_container(pod: Json) -> Json:
    """The container of a hosting pod that a move's UID names, among what webhooks have put beside it."""
    owner = pod["metadata"]["ownerReferences"][0]["uid"]
    containers = pod["spec"]["containers"]
    return next((c for c in containers if c["name"] == owner), containers[0])


def _statuses(pod: Json, state: Json) -> list[Json]:
    """The mover's state; whatever stands beside it goes on."""
    mine = (
        mover_container(pod)["name"]
        if pod["metadata"].get("ownerReferences")
        else pod["spec"]["containers"][0]["name"]
    )
    return [
        {"name": c["name"], "state": state if c["name"] == mine else {"running": {}}, "restartCount": 0}
        for c in pod["spec"]["containers"]
    ]


def _ready(node: Json) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return all(c["status"] == "True" for c in conditions if c["type"] == "Ready")


def _tolerable(pod: Json, node: Json) -> bool:
    """As much of node selection as hosting pods use."""
    labels, name = node["metadata"].get("labels") or {}, node["metadata"]["name"]
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get(
        "nodeSelectorTerms"
    ) or []
    return not terms or any(_term(term, labels, name) for term in terms)


def _term(term: Json, labels: dict[str, str], name: str) -> bool:
    facts: list[tuple[Json, Any]] = [(e, labels.get(e["key"])) for e in term.get("matchExpressions") or []]
    facts += [(e, name) for e in term.get("matchFields") or []]
    return all(_holds(e, value) for e, value in facts)


def _holds(expression: Json, value: str | None) -> bool:
    operator, values = expression["operator"], expression.get("values") or []
    if operator == "In":
        return bool(value in values)
    if operator == "NotIn":
        return bool(value not in values)
    return bool((value is not None) == (operator == "Exists"))
