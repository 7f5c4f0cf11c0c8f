"""Level 1: the real API server with the real CRDs of one Velero version, and a played cluster around the agent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.control.backup_repository import BACKUP_REPOSITORY
from agent.control.flags import Config
from agent.control.mover_inputs import BACKUP_STORAGE_LOCATION
from agent.control.node_agent import Agent
from agent.control.world import RESOURCES
from kube.api import (
    CONFIG_MAP,
    CRD,
    DAEMON_SET,
    EVENT,
    NODE,
    POD,
    PV,
    PVC,
    SECRET,
    STORAGE_CLASS,
    VOLUME_ATTACHMENT,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    AlreadyExistsError,
    Json,
    KubeError,
    Resource,
    list_all,
)
from kube.client import KubeClient
from tests.apiserver.control_plane import ADMIN, CLUSTER, ActorKube, ControlPlane, missing_programs
from tests.fakes import scene
from tests.fakes.cluster import ClusterControllers
from tests.fakes.kubelet import Kubelet, succeed_with
from tests.fakes.resources import body
from tests.fakes.server import VeleroServer
from tests.parts import lacking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from kubernetes.aio.client import Configuration

NAMESPACE = Resource("v1", "namespaces", "Namespace", namespaced=False)
VELERO_CRDS = ("podvolumebackups", "podvolumerestores", "datauploads", "datadownloads", "backuprepositories")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/apiserver" in str(item.path):
            item.add_marker(pytest.mark.apiserver)


@pytest.fixture(scope="session")
def programs() -> None:
    missing = missing_programs()
    if missing:
        text = f"no {', '.join(missing)} in {CLUSTER}/bin: run tests/cluster/build/build.sh k8s"
        lacking(text)


@pytest.fixture(scope="session", params=["1.18"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def control_plane(
    programs: None, version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("plane") / version)
    try:
        plane.start()
        asyncio.run(furnish(plane, version))
        yield plane
    finally:
        plane.stop()


async def furnish(plane: ControlPlane, version: str) -> None:
    """Install CRDs and what does not change between tests."""
    async with ActorKube(plane.connection()) as kube:
        for name in (*VELERO_CRDS, "backupstoragelocations"):
            await kube.create(CRD, "", scene.crd(version, name))
        for name in ("volumesnapshots", "volumesnapshotcontents"):
            await kube.create(CRD, "", scene.crd("snapshot", name))
        for name in ("velero", "app"):
            await kube.create(NAMESPACE, "", {"metadata": {"name": name}})
        await _established(kube)
        await kube.put(DAEMON_SET, scene.daemon_set())
        await kube.put(STORAGE_CLASS, scene.storage_class())
        await kube.put(SECRET, scene.password_secret())
        await kube.put(BACKUP_STORAGE_LOCATION, scene.storage_location())


async def _established(kube: ActorKube) -> None:
    for resource in RESOURCES.values():
        while True:
            try:
                await kube.list(resource, "velero")
                break
            except KubeError:
                await asyncio.sleep(0.1)


# A loaded machine is given time; what is promised "at once" takes hours upstream, or for ever.
PATIENCE = 5


class Stage:
    """What a test plays on: the API server, played controllers, and agents."""

    def __init__(self, plane: ControlPlane, actors: ActorKube, host_pods: Path) -> None:
        self.plane, self.kube, self.host_pods = plane, actors, host_pods
        self.pod_uid = ""  # of `running_pod`
        self.controllers = ClusterControllers(actors)
        self.kubelet = Kubelet(actors, succeed_with())
        self.server = VeleroServer(actors)
        self.tasks: list[asyncio.Task[Any]] = []
        self.agents: dict[str, tuple[asyncio.Task[None], KubeClient]] = {}

    def play(self) -> None:
        for part in (self.controllers, self.kubelet, self.server):
            self.tasks.append(asyncio.create_task(part.run(pause_seconds=0.02)))

    async def start_agent(
        self,
        node: str = "node-1",
        connection: Callable[[], Awaitable[Configuration]] | None = None,
        **changes: Any,
    ) -> Agent:
        kube = KubeClient(connection or self.plane.connection(ADMIN))
        defaults: dict[str, Any] = {
            "node": node,
            "resource_timeout_seconds": 20.0,
            "host_pods": self.host_pods,
        }
        agent = Agent(Config(**defaults | changes), kube)
        task = asyncio.create_task(agent.run())
        self.agents[node] = (task, kube)
        ready = asyncio.create_task(agent.ready.wait())
        await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            del self.agents[node]
            await kube.close()
            task.result()
        return agent

    async def stop_agent(self, node: str = "node-1") -> None:
        task, kube = self.agents.pop(node)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await kube.close()

    async def create(self, kind: str, name: str = "move-1", **changes: Any) -> None:
        owner = changes.pop("owner", "")
        made = body(kind, name, **changes)
        for key in ("uid", "resourceVersion", "creationTimestamp", "ownerReferences"):
            made["metadata"].pop(key)
        if owner:
            reference = {"apiVersion": "velero.io/v1", "kind": "Restore", "name": "r1", "uid": owner}
            made["metadata"]["ownerReferences"] = [reference]
        made.pop("status")
        if made["spec"].get("pod", {}).get("uid") == "pod-uid":  # the server gives the running pod's own
            made["spec"]["pod"] = made["spec"]["pod"] | {"uid": self.pod_uid}
        await self.kube.create(RESOURCES[kind], "velero", made)

    async def ensure_crd(self, body: Json) -> None:
        with contextlib.suppress(AlreadyExistsError):
            await self.kube.create(CRD, "", body)

    async def status(self, kind: str, name: str = "move-1") -> Json:
        return (await self.kube.get(RESOURCES[kind], "velero", name)).get("status") or {}

    async def phase(self, kind: str, phase: str, name: str = "move-1", *, seconds: float = 20) -> Json:
        end = time.monotonic() + seconds * PATIENCE
        while (status := await self.status(kind, name)).get("phase") != phase:
            over = status.get("phase") in ("Completed", "Failed", "Canceled") or time.monotonic() > end
            assert not over, f"{kind} {name} is not {phase} in {seconds} s: {status}"
            await asyncio.sleep(0.02)
        return status

    async def until(self, test: Callable[[], Any], seconds: float = 20) -> None:
        end = time.monotonic() + seconds * PATIENCE
        while not await test():
            assert time.monotonic() < end, f"not in {seconds} s"
            await asyncio.sleep(0.02)

    async def released(self, kind: str, name: str = "move-1") -> None:
        async def is_released() -> bool:
            meta = (await self.kube.get(RESOURCES[kind], "velero", name))["metadata"]
            return not meta.get("finalizers")

        await self.until(is_released)

    async def source_volume(self) -> None:
        """A backed-up PVC and the server's snapshot of it."""
        claim = await self.kube.put(PVC, scene.claim(volumeName="pv-data") | {"status": {"phase": "Bound"}})
        volume = scene.volume()
        volume["spec"]["claimRef"]["uid"] = claim["metadata"]["uid"]
        await self.kube.put(PV, volume)
        for resource, snapshot in scene.server_snapshot():
            await self.kube.put(resource, snapshot)
        self.controllers.storage |= {"snap-handle", "disk-data"}

    async def running_pod(self, *, waits: bool = False) -> None:
        """A pod of the application with an emptyDir, on node-1."""
        containers = [{"name": "main", "image": "x"}]
        pod: Json = {
            "metadata": {"name": "web-0", "namespace": "app"},
            "spec": {
                "nodeName": "node-1",
                "containers": containers,
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        }
        if waits:
            pod["spec"]["initContainers"] = [{"name": "restore-wait", "image": "x"}]
        made = await self.kube.create(POD, "app", pod)
        if waits:
            status = {"name": "restore-wait", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
            status["state"] = {"running": {"startedAt": "2026-11-21T12:00:00Z"}}
            await self.kube.patch(POD, "app", "web-0", {"status": {"initContainerStatuses": [status]}})
        self.pod_uid = made["metadata"]["uid"]
        directory = self.host_pods / self.pod_uid / "volumes" / "kubernetes.io~empty-dir" / "data"
        directory.mkdir(parents=True)

    async def close(self) -> None:
        for node in list(self.agents):
            await self.stop_agent(node)
        for task in self.tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def stage(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Stage]:
    async with ActorKube(control_plane.connection()) as actors:
        stage = Stage(control_plane, actors, tmp_path)
        node = {"metadata": {"name": "node-1", "labels": {"kubernetes.io/os": "linux"}}}
        with contextlib.suppress(AlreadyExistsError):
            await actors.create(NODE, "", node)
        stage.play()
        yield stage
        await stage.close()
        await sweep(actors)


async def sweep(kube: ActorKube) -> None:
    """Remove everything that a test left."""
    places = [
        *RESOURCES.values(),
        BACKUP_REPOSITORY,
        POD,
        PVC,
        PV,
        VOLUME_SNAPSHOT,
        VOLUME_SNAPSHOT_CONTENT,
        VOLUME_ATTACHMENT,
        EVENT,
    ]
    for resource in [*places, CONFIG_MAP, NODE]:
        for item in await list_all(kube, resource):
            meta = item["metadata"]
            namespace = meta.get("namespace", "")
            if resource == CONFIG_MAP and meta["name"].startswith("kube-root-ca"):
                continue
            with contextlib.suppress(KubeError):
                if meta.get("finalizers"):
                    await kube.patch(resource, namespace, meta["name"], {"metadata": {"finalizers": None}})
                await kube.delete(resource, namespace, meta["name"], grace_seconds=0)
