"""The kubelet and the scheduler, played on any `Kube`: hosting pods get a node, run, and end as the mover says.

`mover` is awaited with the pod's request (text of the annotation) and a `canceled` event, and answers with exit
code and termination message. Faults are switched on by attributes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from exposer.hosting_pod import CANCEL_ANNOTATION, MOVER_LABEL, REQUEST_ANNOTATION
from kube.api import POD, PVC, Json, Kube, KubeError, Selection, find, list_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Mover = Callable[[str, Json, asyncio.Event], Awaitable[tuple[int, str]]]


class Kubelet:
    """Plays for all hosting pods of a namespace."""

    def __init__(self, kube: Kube, mover: Mover, *, node: str = "node-1", namespace: str = "velero") -> None:
        self.kube, self.mover, self.node, self.namespace = kube, mover, node, namespace
        self.pending: Json | None = None  # a status that pods stay in instead of running
        self.held: dict[str, Json] = {}  # the same for pods of a name
        self.ran: list[str] = []
        self.most_at_once = 0
        self.sidecar: Json = {"running": {}}  # where a container of a webhook stands when the mover has ended
        self._movers: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    async def run(self, *, pause_seconds: float = 0.01) -> None:
        try:
            while True:
                with contextlib.suppress(KubeError, KeyError):
                    await self.step()
                await asyncio.sleep(pause_seconds)
        finally:
            for task, _ in self._movers.values():
                task.cancel()

    async def step(self) -> None:
        pods = await list_all(self.kube, POD, self.namespace, Selection(labels=MOVER_LABEL))
        alive = {pod["metadata"]["uid"] for pod in pods}
        for uid in [uid for uid in self._movers if uid not in alive]:
            self._movers.pop(uid)[0].cancel()
        for pod in pods:
            await self._care(pod)

    async def _care(self, pod: Json) -> None:
        meta = pod["metadata"]
        phase = (pod.get("status") or {}).get("phase", "Pending")
        if "deletionTimestamp" in meta:
            await self.kube.delete(POD, self.namespace, meta["name"], grace_seconds=0)
        elif phase == "Pending":
            await self._start(pod)
        elif phase == "Running":
            self._attend(pod)

    async def _start(self, pod: Json) -> None:
        held = self.held.get(pod["metadata"]["name"], self.pending)
        if held is not None:
            await self._status(pod, held)
            return
        for volume in pod["spec"].get("volumes") or []:
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and not (await find(self.kube, PVC, self.namespace, claim) or {}).get("spec", {}).get(
                "volumeName"
            ):
                return
        if not pod["spec"].get("nodeName"):
            await self._bind(pod)
        await self._status(pod, {"phase": "Running"})

    async def _bind(self, pod: Json) -> None:
        """Give the pod its node; on a real API server this is the `binding` subresource, which tests override."""
        await self.kube.patch(POD, self.namespace, pod["metadata"]["name"], {"spec": {"nodeName": self.node}})

    async def _status(self, pod: Json, status: Json) -> None:
        await self.kube.patch(POD, self.namespace, pod["metadata"]["name"], {"status": status})

    def _attend(self, pod: Json) -> None:
        meta = pod["metadata"]
        annotations = meta.get("annotations") or {}
        if meta["uid"] not in self._movers and annotations.get(REQUEST_ANNOTATION):
            canceled = asyncio.Event()
            task = asyncio.create_task(self._move(pod, annotations[REQUEST_ANNOTATION], canceled))
            self._movers[meta["uid"]] = (task, canceled)
            at_work = sum(not task.done() for task, _ in self._movers.values())
            self.most_at_once = max(self.most_at_once, at_work)
        if meta["uid"] in self._movers and annotations.get(CANCEL_ANNOTATION):
            self._movers[meta["uid"]][1].set()

    async def _move(self, pod: Json, request: str, canceled: asyncio.Event) -> None:
        self.ran.append(pod["metadata"]["name"])
        try:
            code, message = await self.mover(request, pod, canceled)
        except Exception as error:  # noqa: BLE001 - a pod whose mover broke ends, as on a real node
            code, message = 255, f"the played mover broke: {error!r}"
        ended = {
            "terminated": {
                "exitCode": code,
                "message": message,
                "reason": "Completed" if code == 0 else "Error",
            }
        }
        mover = pod["metadata"]["ownerReferences"][0]["uid"]
        names = [container["name"] for container in pod["spec"]["containers"]]
        statuses = [_container_status(name, ended if name == mover else self.sidecar) for name in names]
        over = "Succeeded" if code == 0 else "Failed"
        alone = len(names) == 1
        stays = not alone and "running" in self.sidecar
        phase = over if alone else "Running" if stays else "Failed"
        status = {"phase": phase, "containerStatuses": statuses}
        await self._report(pod, status)

    async def _report(self, pod: Json, status: Json) -> None:
        """Say how the pod ended, however often the API server has to be asked, as a kubelet does."""
        while True:
            with contextlib.suppress(KubeError):
                await self._status(pod, status)
                return
            await asyncio.sleep(0.1)


def _container_status(name: str, state: Json) -> Json:
    return {"name": name, "state": state, "image": "x", "imageID": "x", "ready": False, "restartCount": 0}


def succeed_with(snapshot_id: str = "b3c0", total: int = 7) -> Mover:
    """Make a mover that is done at once."""

    async def mover(_request: str, _pod: Json, _canceled: asyncio.Event) -> tuple[int, str]:
        return (
            0,
            f'{{"snapshotID":"{snapshot_id}","totalBytes":{total},"incrementalBytes":1,"source":{{"byPath":"/x"}}}}',
        )

    return mover


def fail_with(message: str, code: int = 1) -> Mover:
    """Make a mover that fails at once."""

    async def mover(_request: str, _pod: Json, _canceled: asyncio.Event) -> tuple[int, str]:
        return code, message

    return mover


async def until_canceled(_request: str, _pod: Json, canceled: asyncio.Event) -> tuple[int, str]:
    """Move until told to stop."""
    await canceled.wait()
    return 1, "Data path for data upload x canceled: data path is canceled"
