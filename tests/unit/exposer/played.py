"""A cluster of its own for each case of a test, whose agent meets chosen faults."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.fakes.cluster import ClusterControllers
from tests.fakes.faults import Fault, FaultyKube
from tests.fakes.kube import FakeKube
from tests.fakes.scene import put_node_agent, put_source_volume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from exposer.exposure import Exposure

SERIOUS = (Fault.DEATH, Fault.ERROR, Fault.TIMEOUT_DONE)  # for pairs: with all six they would take a minute


@dataclass
class Played:
    """`exposure` goes through `connection`, on which the faults are; `kube` is what there really is."""

    kube: FakeKube
    controllers: ClusterControllers
    connection: FaultyKube
    exposure: Exposure


@contextlib.asynccontextmanager
async def play(exposure: Exposure, faults: Mapping[int, Fault]) -> AsyncIterator[Played]:
    kube = FakeKube()
    put_node_agent(kube)
    put_source_volume(kube)
    controllers = ClusterControllers(kube)
    controllers.storage |= {"snap-handle", "disk-data"}
    controllers.data["snap-handle"] = "the moment"
    connection = FaultyKube(kube, faults)
    playing = asyncio.create_task(controllers.run(pause_seconds=0))
    try:
        yield Played(kube, controllers, connection, replace(exposure, kube=connection))
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


async def settle(controllers: ClusterControllers) -> None:
    """Let the controllers come to rest."""
    for _ in range(6):
        await controllers.step()
