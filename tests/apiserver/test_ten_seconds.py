"""What cannot heal is final within ten seconds of what can be known; what can heal shows its reason as soon.

All troubles at once, on the real API server, each with a stopwatch that starts when its trouble is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.control.mover_inputs import BACKUP_STORAGE_LOCATION
from agent.control.world import RESOURCES
from exposer.hosting_pod import mover_container_name
from kube.api import EVENT, NODE, POD, PVC, VOLUME_SNAPSHOT
from tests.fakes import scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import pytest

    from kube.api import Json
    from tests.apiserver.conftest import Stage

SECONDS_MAX = 10
PENDING = {"phase": "Pending"}
FINAL = ("Completed", "Failed", "Canceled")


@dataclass
class Trouble:
    """One move and what befalls it: once it is in `phase`, `happen` makes it so, and `says` must be read.

    Without `phase` the trouble is there when the move is made. `held`: the status that its pod stays in.
    """

    name: str
    kind: str
    says: str
    spec: Json = field(default_factory=dict)
    phase: str = ""
    held: Json | None = None
    happen: Callable[[Stage, str], Awaitable[Any]] | None = None
    final: bool = True


async def fail(stage: Stage, name: str) -> None:
    await set_pod(stage, name, {"phase": "Failed", **ended(1, "Error", "no space left on device")})


async def oom(stage: Stage, name: str) -> None:
    await set_pod(stage, name, {"phase": "Failed", **ended(137, "OOMKilled", "")})


async def evict(stage: Stage, name: str) -> None:
    text = "The node was low on resource: ephemeral-storage."
    await set_pod(stage, name, {"phase": "Failed", "reason": "Evicted", "message": text})


async def delete_pod(stage: Stage, name: str) -> None:
    await stage.kube.delete(POD, "velero", name, grace_seconds=0)


async def set_pod(stage: Stage, name: str, status: Json) -> None:
    """Say something of a pod, and of the container in which its mover is."""
    mover = mover_container_name(await stage.kube.get(POD, "velero", name))
    said = [one | {"name": mover} for one in status.get("containerStatuses", [])]
    status = status | ({"containerStatuses": said} if said else {})
    await stage.kube.patch(POD, "velero", name, {"status": status})


def ended(code: int, reason: str, message: str) -> Json:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return container(state)


def waiting(reason: str) -> Json:
    return PENDING | container({"waiting": {"reason": reason, "message": "example.test/node-agent:1"}})


def container(state: Json) -> Json:
    status = {"name": "c", "state": state, "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
    return {"containerStatuses": [status]}


def hold(status: Json) -> Callable[[Stage, str], Awaitable[None]]:
    """Let the kubelet say something else of a pod that does not get on."""

    async def happen(stage: Stage, name: str) -> None:
        stage.kubelet.held[name] = status
        await set_pod(stage, name, status)

    return happen


async def lose_claim(stage: Stage, name: str) -> None:
    stage.controllers.left_alone.add(name)
    await stage.kube.patch(PVC, "velero", name, {"status": {"phase": "Lost"}})


async def delete_claim(stage: Stage, name: str) -> None:
    await stage.kube.delete(PVC, "velero", name)


async def warn(stage: Stage, name: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    event = {
        "metadata": {"name": f"{name}.1", "namespace": "velero"},
        "involvedObject": {"kind": "Pod", "namespace": "velero", "name": name},
        "type": "Warning",
        "reason": "FailedMount",
        "message": "MountVolume.SetUp failed: driver csi.test not found",
        "lastTimestamp": now,
    }
    await stage.kube.create(EVENT, "velero", event)


async def remove_node(stage: Stage, name: str) -> None:
    """The mover ran on another node, which goes."""
    patch = {
        "metadata": {"finalizers": ["velero.io/data-upload-download-finalizer"]},
        "status": {"phase": "InProgress", "node": "node-2"},
    }
    await stage.kube.patch(RESOURCES["DataUpload"], "velero", name, patch)
    await stage.kube.delete(NODE, "", "node-2")


async def snapshot_error(stage: Stage, name: str) -> None:
    error = {"message": "quota of snapshots is used up", "time": "2026-11-21T12:00:00Z"}
    status = {"readyToUse": False, "error": error}
    await stage.kube.patch(VOLUME_SNAPSHOT, "app", "velero-broken", {"status": status})


def target(name: str) -> Json:
    return {"targetVolume": {"namespace": "app", "pvc": name, "pv": ""}}


def snapshot(name: str) -> Json:
    return {"csiSnapshot": {"volumeSnapshot": name, "storageClass": "fast", "snapshotClass": "snap"}}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
AT_WORK = [
    Trouble("failed", "PodVolumeBackup", "no space left on device", phase="InProgress", happen=fail),
    Trouble("oom", "PodVolumeBackup", "raise podResources.memoryLimit", phase="InProgress", happen=oom),
    Trouble("evicted", "PodVolumeBackup", "Evicted: The node was low", phase="InProgress", happen=evict),
    Trouble("deleted", "PodVolumeBackup", "hosting pod was deleted", phase="InProgress", happen=delete_pod),
    Trouble(
        "repository",
        "PodVolumeBackup",
        "backup repository app-not-ready-kopia is NotReady: bucket is away",
        {"backupStorageLocation": "not-ready"},
        phase="InProgress",
        final=False,
    ),
    Trouble("node-gone", "DataUpload", "node node-2 is gone", {"datamover": "velero"}, happen=remove_node),
]
PREPARING = [
    Trouble(
        "never-pull",
        "PodVolumeBackup",
        "ErrImageNeverPull",
        phase="Accepted",
        held=PENDING,
        happen=hold(waiting("ErrImageNeverPull")),
    ),
    Trouble(
        "image-pull",
        "PodVolumeBackup",
        "ImagePullBackOff: example.test",
        phase="Accepted",
        held=PENDING,
        happen=hold(waiting("ImagePullBackOff")),
        final=False,
    ),
    Trouble(
        "unschedulable",
        "DataDownload",
        "Unschedulable: 0/3 nodes",
        target("target-1"),
        phase="Accepted",
        held=PENDING,
        happen=hold(PENDING | {"conditions": [UNSCHEDULABLE]}),
        final=False,
    ),
    Trouble(
        "mount",
        "PodVolumeBackup",
        "FailedMount: MountVolume.SetUp failed: driver csi.test not found",
        phase="Accepted",
        held=PENDING,
        happen=warn,
        final=False,
    ),
    Trouble(
        "claim-lost",
        "DataDownload",
        "PVC velero/claim-lost of the hosting pod is Lost",
        target("target-2"),
        phase="Accepted",
        held=PENDING,
        happen=lose_claim,
    ),
    Trouble(
        "claim-deleted",
        "DataDownload",
        "PVC velero/claim-deleted of the hosting pod was deleted",
        target("target-3"),
        phase="Accepted",
        held=PENDING,
        happen=delete_claim,
    ),
    Trouble(
        "snapshot-error",
        "DataUpload",
        "quota of snapshots is used up",
        snapshot("velero-broken"),
        phase="Accepted",
        happen=snapshot_error,
        final=False,
    ),
]
FROM_THE_START = [
    Trouble("no-snapshot", "DataUpload", "snapshot app/gone does not exist", snapshot("gone")),
    Trouble("no-source", "DataUpload", "source PVC app/gone does not exist", {"sourcePVC": "gone"}),
    Trouble(
        "no-target", "DataDownload", "target PVC app/gone does not exist yet", target("gone"), final=False
    ),
    Trouble(
        "no-location",
        "PodVolumeBackup",
        "BackupStorageLocation velero/gone does not exist",
        {"backupStorageLocation": "gone"},
    ),
    *(
        Trouble(f"location-{name}", "DataUpload", says, {"backupStorageLocation": name})
        for name, says in {
            "no-secret": "Secret velero/gone does not exist (credentials)",
            "no-key": "Secret velero/velero-repo-credentials has no key cloud (credentials)",
            "no-authority": "Secret velero/gone does not exist (ca-certificate)",
            "of-nobody": "velero/of-nobody: invalid storage provider 'acme'",
        }.items()
    ),
    *(
        Trouble(f"timeout-{kind.lower()}", kind, "'soon' is not a duration", {"operationTimeout": "soon"})
        for kind in ("DataUpload", "DataDownload")
    ),
    Trouble("type", "DataUpload", "type of snapshot exposer is not exist", {"snapshotType": "Nonsense"}),
    Trouble("restic", "PodVolumeRestore", "restic", {"uploaderType": "restic"}),
    Trouble("no-pod", "PodVolumeBackup", "pod", {"pod": {"kind": "Pod"}}),
    Trouble(
        "no-agent",
        "PodVolumeBackup",
        "no node-agent answers on node node-3",
        {"node": "node-3"},
        final=False,
    ),
]


LOCATIONS: dict[str, Json] = {
    "no-secret": {"credential": {"name": "gone", "key": "cloud"}},
    "no-key": {"credential": {"name": "velero-repo-credentials", "key": "cloud"}},
    "no-authority": {"objectStorage": {"bucket": "b", "caCertRef": {"name": "gone", "key": "ca"}}},
    "of-nobody": {"provider": "acme"},
    "not-ready": {},
}


@contextlib.asynccontextmanager
async def stricken(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A cluster in which each of the troubles can befall a move, and an agent that knows nothing of it."""

    async def work_for_ever(_request: str, _pod: Json, _canceled: asyncio.Event) -> tuple[int, str]:
        return await asyncio.Event().wait(), ""

    monkeypatch.setattr(stage.kubelet, "mover", work_for_ever)
    stage.server.answers["app-not-ready-kopia"] = {"phase": "NotReady", "message": "bucket is away"}
    for trouble in PREPARING:
        if trouble.held is not None:
            stage.kubelet.held[trouble.name] = trouble.held
    for node in ("node-2", "node-3"):
        await stage.kube.create(NODE, "", {"metadata": {"name": node}})
    for number in (1, 2, 3):
        selector = {"matchLabels": {"velero.io/dynamic-pv-restore": "x"}}
        await stage.kube.put(PVC, scene.claim(f"target-{number}", selector=selector))
    await stage.source_volume()
    await stage.running_pod()
    broken = dict(scene.server_snapshot())[VOLUME_SNAPSHOT]
    broken["metadata"]["name"] = "velero-broken"
    broken["status"] = {"readyToUse": False}
    await stage.kube.put(VOLUME_SNAPSHOT, broken)
    for name, spec in LOCATIONS.items():
        await stage.kube.put(BACKUP_STORAGE_LOCATION, scene.storage_location(name, **spec))
    agent = await stage.start_agent()
    agent.world.slots.limit = 50
    yield
    for name in LOCATIONS:
        await stage.kube.delete(BACKUP_STORAGE_LOCATION, "velero", name)


async def befall(stage: Stage, trouble: Trouble) -> tuple[str, float, str]:
    """Let it happen; name, seconds until it was said, and what was wrong if it was not."""
    await stage.create(trouble.kind, trouble.name, spec=trouble.spec)
    if trouble.phase:
        await stage.phase(trouble.kind, trouble.phase, trouble.name)
    if trouble.held is not None:
        await stage.until(lambda: has_pod(stage, trouble))
    if trouble.happen is not None:
        await trouble.happen(stage, trouble.name)
    began = time.monotonic()
    while True:
        status = await stage.status(trouble.kind, trouble.name)
        seconds = time.monotonic() - began
        said, over = trouble.says in status.get("message", ""), status.get("phase") in FINAL
        if said and over == trouble.final:
            return trouble.name, seconds, "" if not over or status["phase"] == "Failed" else str(status)
        if over or seconds > 3 * SECONDS_MAX:
            return trouble.name, seconds, f"not {trouble.says!r}: {status}"
        await asyncio.sleep(0.1)


async def has_pod(stage: Stage, trouble: Trouble) -> bool:
    names = [item["metadata"]["name"] for item in (await stage.kube.list(POD, "velero")).items]
    claims = (await stage.kube.list(PVC, "velero")).items
    bound = [item["metadata"]["name"] for item in claims if item["status"].get("phase") == "Bound"]
    return trouble.name in names and (trouble.kind != "DataDownload" or trouble.name in bound)


async def test_every_trouble_is_said_within_ten_seconds(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stricken(stage, monkeypatch):
        troubles = [*AT_WORK, *PREPARING, *FROM_THE_START]
        told = await asyncio.gather(*(befall(stage, trouble) for trouble in troubles))
    assert not [wrong for _, _, wrong in told if wrong]
    assert not [(name, seconds) for name, seconds, _ in told if seconds > SECONDS_MAX], told
