"""A cluster with a StorageClass, the node-agent DaemonSet, a backed-up PVC and the server's snapshot of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from exposer.exposure import Exposure
from kube.api import OwnerReference
from tests.fakes.cluster import ClusterControllers
from tests.fakes.kube import FakeKube
from tests.fakes.scene import put_node_agent, put_source_volume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def kube() -> FakeKube:
    kube = FakeKube()
    put_node_agent(kube)
    put_source_volume(kube)
    return kube


@pytest.fixture
async def controllers(kube: FakeKube) -> AsyncIterator[ClusterControllers]:
    playing = ClusterControllers(kube)
    playing.storage |= {"snap-handle", "disk-data"}
    task = asyncio.create_task(playing.run(pause_seconds=0.001))
    yield playing
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def exposure(kube: FakeKube) -> Exposure:
    owner = OwnerReference("velero.io/v2alpha1", "DataUpload", "move-1", "uid-1")
    return Exposure(
        kube=kube,
        name="move-1",
        namespace="velero",
        uid="uid-1",
        owner=owner,
        command=("/velero", "mover-pod", "backup"),
        labels={"velero.io/data-upload": "move-1"},
        prepare_seconds=2,
        operation_seconds=2,
    )
