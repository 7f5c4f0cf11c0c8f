"""An agent does not grow with the moves that it has seen: what it remembers of them is gone when they are."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Any

from agent.control.flags import Config
from agent.control.node_agent import Agent
from agent.control.world import RESOURCES
from agent.moves.custom_resources import MOVE_KINDS, Phase, format_time
from kube.api import POD
from mover.protocol import Progress
from tests.fakes.kube import FakeKube
from tests.fakes.resources import after, body

if TYPE_CHECKING:
    from agent.moves.custom_resources import MoveKind
    from tests.unit.agent.conftest import Stage

COUNT = 10_000
WARM_UP = 2_500  # by then the bars of the last day are as many as are kept
# Python's own count of allocated objects: one that is kept of each move would make nine thousand.
GROWTH_BLOCKS_MAX = 3_000


def remembered(agent: Agent) -> dict[str, int]:
    """Entries in everything that is kept per move, pod or key."""
    world = agent.world
    kept = {
        "jobs": len(world.jobs.known()) + len(world.jobs._tasks),
        "slots": len(world.slots.holders) + len(world.slots.waiting),
        "queue": len(world.queue) + len(world.queue._timers) + len(world.queue._again),
        "last words": len(world.last_words),
        "phases seen": len(world.history._seen),
        "progress": len(world.metrics._counted),
        "followers": len(agent.followers._tasks),
    }
    for name, informer in world.moves.items():
        kept[name] = len(informer.items) + len(informer._versions)
    return kept


def put_pod(stage: Stage) -> None:
    """A pod of the application with an emptyDir, on node-1."""
    spec = {"nodeName": "node-1", "containers": [], "volumes": [{"name": "data", "emptyDir": {}}]}
    meta = {"name": "web-0", "namespace": "app", "uid": "pod-uid"}
    stage.kube.put(POD, {"metadata": meta, "spec": spec, "status": {"phase": "Running"}})
    (stage.host_pods / "pod-uid" / "volumes" / "kubernetes.io~empty-dir" / "data").mkdir(parents=True)


async def test_nothing_is_remembered_of_moves_that_are_over_and_deleted(stage: Stage) -> None:
    put_pod(stage)
    agent = await stage.start_agent()
    agent.world.slots.limit = 4
    names = [f"move-{number}" for number in range(40)]
    for name in names:
        stage.create("PodVolumeBackup", name)
    for name in names:
        await stage.phase("PodVolumeBackup", "Completed", name, seconds=60)

    def released() -> bool:
        bodies = [stage.read("PodVolumeBackup", name) for name in names]
        return not any(item["metadata"].get("finalizers") for item in bodies)

    await stage.until(released)
    for name in names:
        await stage.kube.delete(RESOURCES["PodVolumeBackup"], "velero", name)

    await stage.until(lambda: not any(remembered(agent).values()), 5, lambda: remembered(agent))
    assert len(agent.world.history.recent()) == len(names)


async def test_memory_stays_over_ten_thousand_moves() -> None:
    """Caches, history, metrics, queue and slots, as the watches feed them; no cluster, so that it takes seconds."""
    agent = Agent(Config(node="node-1"), FakeKube())
    agent.controller.attach(agent.world, agent.followers)
    versions = iter(range(1, COUNT * 10))
    sizes = []
    for begin, end in ((0, WARM_UP), (WARM_UP, COUNT)):
        for number in range(begin, end):
            live(agent, MOVE_KINDS[number % len(MOVE_KINDS)], f"move-{number}", versions)
            if number % 100 == 99:
                await drain(agent)
        gc.collect()
        sizes.append(sys.getallocatedblocks())
    assert not any(remembered(agent).values()), remembered(agent)
    assert sizes[1] - sizes[0] < GROWTH_BLOCKS_MAX, sizes


def live(agent: Agent, kind: MoveKind, name: str, versions: Any) -> None:
    """One move from its creation to its deletion, with everything that is noted on the way."""
    world, informer = agent.world, agent.world.moves[kind.name]
    stamps: dict[str, Any] = {"node": "node-1"}
    finalizer = {"finalizers": [kind.finalizer]}
    for phase in (Phase.NEW, Phase.ACCEPTED, Phase.PREPARED, Phase.IN_PROGRESS, Phase.COMPLETED):
        if phase is Phase.IN_PROGRESS:
            stamps["startTimestamp"] = format_time(after(1))
        if phase.is_final:
            stamps["completionTimestamp"] = format_time(after(2))
        version = {"resourceVersion": str(next(versions)), "uid": f"uid-{name}"}
        informer.put(body(kind, name, status=stamps | {"phase": phase.value}, metadata=finalizer | version))
        [move] = informer.items.values()
        world.metrics.entered(move, phase, after(2))
        if phase is Phase.PREPARED:
            assert world.slots.try_take(move.uid, move.created_at)
        if phase is Phase.IN_PROGRESS:
            world.metrics.began(move)
            world.metrics.progressed(move, Progress(total_bytes=9, done_bytes=5, read_bytes=5))
    world.metrics.ended(move, Phase.COMPLETED, after(2))
    world.slots.leave(move.uid)
    informer._drop(("velero", name))


async def drain(agent: Agent) -> None:
    """Let the queue and the tasks of forgetting run dry."""
    agent.gauge()
    working = asyncio.create_task(agent.world.queue.work(agent.controller.look))
    while len(agent.world.queue) or agent.controller._stopping:  # noqa: ASYNC110 - there is no event for both
        await asyncio.sleep(0)
    working.cancel()
