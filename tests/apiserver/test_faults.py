"""Faults of the API server and races between agents, on the real thing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from agent.control.mover_inputs import BACKUP_STORAGE_LOCATION
from agent.control.world import RESOURCES
from kube.api import CONFIG_MAP, NODE, POD, PVC, GoneError, list_all
from kube.client import KubeClient
from kube.informer import Informer
from tests.apiserver.control_plane import ADMIN, UnreliableProxy
from tests.fakes import scene
from tests.fakes.kubelet import succeed_with, until_canceled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kube.api import Json, Page, WatchEvent
    from tests.apiserver.conftest import Stage


async def test_ten_agents_race_and_one_accepts_each(stage: Stage) -> None:
    for number in range(2, 11):
        await stage.kube.create(NODE, "", {"metadata": {"name": f"node-{number}"}})
    for number in range(1, 11):
        await stage.start_agent(f"node-{number}")
    for number in range(8):
        await stage.create("DataUpload", f"du-{number}", spec={"sourcePVC": "gone"})
    for number in range(8):
        status = await stage.phase("DataUpload", "Failed", f"du-{number}")
        assert "source PVC app/gone does not exist" in status["message"]
        assert status["acceptedByNode"].startswith("node-")
        await stage.released("DataUpload", f"du-{number}")


async def test_cancel_reaches_the_mover(stage: Stage) -> None:
    stage.kubelet.mover = until_canceled
    await stage.running_pod()
    await stage.start_agent()
    await stage.create("PodVolumeBackup")
    await stage.phase("PodVolumeBackup", "InProgress")
    await stage.kube.patch(RESOURCES["PodVolumeBackup"], "velero", "move-1", {"spec": {"cancel": True}})
    await stage.phase("PodVolumeBackup", "Canceled")
    await stage.released("PodVolumeBackup")


async def test_deleted_mover_pod_is_noticed_within_a_second(stage: Stage) -> None:
    stage.kubelet.mover = until_canceled
    await stage.running_pod()
    await stage.start_agent()
    await stage.create("PodVolumeBackup")
    await stage.phase("PodVolumeBackup", "InProgress")
    await stage.kube.delete(POD, "velero", "move-1", grace_seconds=0)
    status = await stage.phase("PodVolumeBackup", "Failed", seconds=2)
    assert "hosting pod was deleted" in status["message"]


async def test_api_server_killed_and_restarted_in_mid_move_loses_nothing(stage: Stage) -> None:
    release = asyncio.Event()

    async def mover(request: str, pod: dict, canceled: asyncio.Event) -> tuple[int, str]:
        await release.wait()
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    await stage.source_volume()
    agent = await stage.start_agent()
    await stage.create("DataUpload")
    await stage.phase("DataUpload", "InProgress")
    await asyncio.to_thread(stage.plane.kill_api_server)
    await asyncio.sleep(1)
    assert not stage.agents["node-1"][0].done()
    await asyncio.to_thread(stage.plane.start_api_server)
    release.set()
    await stage.phase("DataUpload", "Completed", seconds=40)
    await stage.released("DataUpload")
    assert agent.silent_seconds() < 60


async def test_watch_from_a_version_that_is_gone_begins_with_a_list_again(stage: Stage) -> None:
    """The real server's 410: it comes as an event of the watch."""
    refused: list[GoneError] = []

    class Noting(KubeClient):
        async def watch(self, *arguments: Any) -> AsyncIterator[WatchEvent]:
            try:
                async for event in super().watch(*arguments):
                    yield event
            except GoneError as error:
                refused.append(error)
                raise

    await stage.create("DataUpload", "du-1")
    async with Noting(stage.plane.connection(ADMIN)) as kube:
        informer = Informer[str](
            kube, RESOURCES["DataUpload"], "velero", read=lambda body: body["metadata"]["name"]
        )
        informer._resource_version = "1"
        running = asyncio.create_task(informer.run())
        try:
            await asyncio.wait_for(informer.synced.wait(), 60)
            assert set(informer.items.values()) == {"du-1"}
            await stage.create("DataUpload", "du-2")
            await stage.until(lambda: has(informer, "du-2"))
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    assert [error.status for error in refused] == [410]


async def test_relist_keeps_what_was_written_while_it_ran(stage: Stage) -> None:
    """A hosting pod that an own write put in after the list was taken must not look deleted."""
    taken, handed_out = asyncio.Event(), asyncio.Event()

    class SlowList(KubeClient):
        async def list(self, *arguments: Any, **options: Any) -> Page:
            page = await super().list(*arguments, **options)
            taken.set()
            await handed_out.wait()
            return page

    await stage.create("DataUpload", "gone")
    async with SlowList(stage.plane.connection(ADMIN)) as kube:
        told: list[tuple[Any, Any]] = []
        informer = Informer[str](
            kube,
            RESOURCES["DataUpload"],
            "velero",
            read=lambda body: body["metadata"]["name"],
            changed=lambda _key, before, after: told.append((before, after)),
        )
        informer.put(await kube.get(RESOURCES["DataUpload"], "velero", "gone"))
        await stage.kube.delete(RESOURCES["DataUpload"], "velero", "gone")
        running = asyncio.create_task(informer.run())
        try:
            await asyncio.wait_for(taken.wait(), 60)
            await stage.create("DataUpload", "own")
            informer.put(await kube.get(RESOURCES["DataUpload"], "velero", "own"))
            handed_out.set()
            await asyncio.wait_for(informer.synced.wait(), 60)
            assert set(informer.items.values()) == {"own"}
            assert told == [(None, "gone"), (None, "own"), ("gone", None)]
            await stage.kube.delete(RESOURCES["DataUpload"], "velero", "own")
            await stage.until(lambda: empty(informer))
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def test_location_with_the_ca_bundle_of_a_distribution_is_used(stage: Stage) -> None:
    """Kubernetes refuses annotations of more than 256 KiB; the bundle reaches the pod all the same."""
    requests: list[Json] = []

    async def mover(request: str, pod: Json, canceled: asyncio.Event) -> tuple[int, str]:
        requests.append(json.loads(request)["repository"])
        made = await stage.kube.get(CONFIG_MAP, "velero", f"{pod['metadata']['name']}-ca")
        requests.append(made["binaryData"])
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    store = {"bucket": "b", "caCert": scene.large_authority()}
    await stage.kube.put(
        BACKUP_STORAGE_LOCATION, scene.storage_location("bundle", provider="aws", objectStorage=store)
    )
    try:
        await stage.source_volume()
        await stage.start_agent()
        await stage.create("DataUpload", spec={"backupStorageLocation": "bundle"})
        await stage.phase("DataUpload", "Completed")
        access, certificates = requests
        assert access["ca_certificate_path"] == "/var/run/kopia-data-mover/authority/ca.crt"
        assert certificates == {"ca.crt": store["caCert"]}
    finally:
        await stage.kube.delete(BACKUP_STORAGE_LOCATION, "velero", "bundle")


async def empty(informer: Informer[str]) -> bool:
    return not informer.items


async def has(informer: Informer[str], name: str) -> bool:
    return name in informer.items.values()


async def test_slow_api_that_cuts_connections_is_outlived(stage: Stage) -> None:
    proxy = UnreliableProxy(stage.plane.port)
    await proxy.start()
    try:
        connection = stage.plane.connection(ADMIN, f"https://127.0.0.1:{proxy.port}")
        await stage.source_volume()
        await stage.start_agent(connection=connection)
        proxy.delay_seconds, proxy.cut_every = 0.02, 23
        await stage.create("DataUpload")
        await stage.phase("DataUpload", "Completed", seconds=60)
        await stage.released("DataUpload")
    finally:
        await stage.stop_agent()
        await proxy.close()


async def test_many_moves_end_in_order_of_creation_with_one_slot(stage: Stage) -> None:
    await stage.running_pod()
    await stage.start_agent()
    names = [f"pvb-{number:02d}" for number in range(12)]
    for name in names:
        await stage.create("PodVolumeBackup", name)
    for name in names:
        await stage.phase("PodVolumeBackup", "Completed", name, seconds=40)
    assert stage.kubelet.most_at_once == 1
    assert len(await list_all(stage.kube, RESOURCES["PodVolumeBackup"])) == len(names)


async def test_move_of_a_node_that_is_deleted_is_failed_by_another_agent(stage: Stage) -> None:
    await stage.kube.create(NODE, "", {"metadata": {"name": "node-2"}})
    await stage.start_agent("node-1")
    await stage.create("PodVolumeBackup", spec={"node": "node-2"})
    await asyncio.sleep(0.3)
    assert await stage.status("PodVolumeBackup") == {}
    await stage.kube.delete(NODE, "", "node-2")
    status = await stage.phase("PodVolumeBackup", "Failed", seconds=3)
    assert "node node-2 is gone" in status["message"]


async def test_unbound_target_is_waited_for(stage: Stage) -> None:
    await stage.start_agent()
    await stage.create("DataDownload", spec={"targetVolume": {"namespace": "app", "pvc": "late", "pv": ""}})

    async def says_so() -> bool:
        return "app/late does not exist yet" in (await stage.status("DataDownload")).get("message", "")

    await stage.until(says_so)
    await stage.kube.put(
        PVC, scene.claim("late", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}})
    )
    await stage.phase("DataDownload", "Completed")
    await stage.released("DataDownload")
