"""One run: a seed chooses the cluster, the moves and the faults; the run says what was wrong, and its history's hash.

    python -m tests.simulation.simulation SEED [--trace]

A run has four parts: moves are asked for and faults strike; the faults stop and every move must end; new moves on
each node show that nothing is worn out; then it must be quiet, all agents are stopped, and nothing may be left.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.api import ApiServer
from tests.simulation.clock import VirtualLoop, product_clocks
from tests.simulation.controllers import Controllers, WorkList
from tests.simulation.faults import PAIRS, STRIKES, WEBHOOKS, Faults
from tests.simulation.invariants import Invariants
from tests.simulation.network import REQUEST_FAULTS, Network
from tests.simulation.nodes import Nodes
from tests.simulation.people import (
    CONFIG_MAP_NAME,
    VELERO,
    People,
    daemon_pod,
    installation,
    node_agent_config,
)
from tests.simulation.process import Process, agent_config, register_tasks
from tests.simulation.storage import Storage
from tests.simulation.store import Change, Json, Refused, Table

KINDS: tuple[str, ...] = ("DataUpload", "DataUpload", "DataDownload", "PodVolumeBackup", "PodVolumeRestore")
MOVES_MAX = 10
SETTLE_SECONDS = 1500.0
CANARY_SECONDS = 240.0
QUIET_SECONDS = 65.0
# Longest silence of a node after which the control plane speaks for it; shorter than a real one's, as all times here.
UNREACHABLE_SECONDS, EVICTION_SECONDS = 40.0, 60.0
POD_COLLECTION_SECONDS = 40.0


@dataclass
class Result:
    """What came of a seed."""

    seed: int
    violations: list[str]
    history: str
    met: Counter[tuple[str, str]]
    phases: Counter[str]
    requests: int
    virtual_seconds: float
    chosen: dict[str, float] = field(default_factory=dict)


class Cluster:
    """Everything of one run."""

    def __init__(self, rng: random.Random, root: Path, *, nodes: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.rng, self.root = rng, root
        self.api = ApiServer()
        self.store = self.api.store
        self.storage = Storage()
        self.work = WorkList(random.Random(rng.random()))
        self.controllers = Controllers(self.store, self.storage, self.work)
        self.nodes = Nodes(self.store, self.storage, self.work, random.Random(rng.random()), root)
        self.api.logs = self.nodes.log
        self.network = Network(self.api, random.Random(rng.random()))
        self.people = People(self.store, self.storage, random.Random(rng.random()))
        self.people.mount = self.nodes.mount
        self.invariants = Invariants(self.store, self.storage, self.people)
        self.api.on_change = [self.controllers.heard, self.nodes.heard, self.invariants.heard, self._heard]
        self.node_names = [f"node-{number + 1}" for number in range(nodes)]
        self.processes: dict[str, Process] = {}
        self.over = False
        self.kinds = KINDS
        self._runs = self._asked = 0
        self.config_map = CONFIG_MAP_NAME if rng.random() < 0.5 else ""
        if self.config_map:
            self.store.create("configmaps", VELERO, node_agent_config(rng))
        for plural, namespace, body in installation():
            self.store.create(plural, namespace, body)
        for node in self.node_names:
            self._make_node(node)

    def _heard(self, table: Table, change: Change) -> None:
        if table.kind.plural == "backuprepositories" and change.type != "DELETED":
            self.work.add(self._repository, *change.key)

    def _repository(self, namespace: str, name: str) -> None:
        """The Velero server makes a repository ready."""
        body = self.store.find("backuprepositories", namespace, name)
        if body is not None and (body.get("status") or {}).get("phase") != "Ready":
            self.store.put("backuprepositories", body, status={"phase": "Ready"})

    # nodes and agents

    def _make_node(self, node: str) -> None:
        labels = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": node}
        made = self.store.create("nodes", "", {"metadata": {"name": node, "labels": labels}, "spec": {}})
        self.store.put("nodes", made, status={"conditions": [{"type": "Ready", "status": "True"}]})

    def start_agent(self, node: str) -> None:
        """Begin an agent's process; its pod is there already, or is made."""
        if self.over or node in self.nodes.down or node not in self._living_nodes():
            return
        if node in self.processes and not self.processes[node].dead:
            return
        name = f"node-agent-{node}"
        if self.store.find("pods", VELERO, name) is None:
            pod = self.store.create("pods", VELERO, daemon_pod(node))
            self.store.put("pods", pod, status={"phase": "Running"})
        self._runs += 1
        host_pods = self.root / node
        host_pods.mkdir(exist_ok=True)
        process = Process(
            f"{node}#{self._runs}", node, self.network, agent_config(node, host_pods, self.config_map)
        )
        process.on_end = self._agent_ended
        self.processes[node] = process
        process.start()
        self.loop.call_later(5.0, self._watch_agent, process)

    def _living_nodes(self) -> list[str]:
        return [node for node in self.node_names if self.store.find("nodes", "", node) is not None]

    def _agent_ended(self, process: Process) -> None:
        if process.crashed_badly:
            self.invariants.fail(f"agent {process.name} ended by itself: {process.crash!r}")

    def _watch_agent(self, process: Process) -> None:
        """The kubelet begins a container again that has ended."""
        if self.over:
            return
        if process.dead:
            self.loop.call_later(self.rng.uniform(0.5, 10.0), self.start_agent, process.node)
        elif self.processes.get(process.node) is process:
            self.loop.call_later(5.0, self._watch_agent, process)

    def replace_agent(self, node: str) -> None:
        """A roll-out: the pod is deleted, its process is told to end, and a new pod comes."""
        process = self.processes[node]
        task = self.loop.create_task(self._replace(process))
        task.add_done_callback(lambda done: done.exception())

    async def _replace(self, process: Process) -> None:
        await self._stop(process)
        name = f"node-agent-{process.node}"
        if self.store.find("pods", VELERO, name) is not None:
            self.store.delete("pods", VELERO, name, grace=0)

    async def _stop(self, process: Process) -> None:
        for left in await process.stop():
            self.invariants.fail(f"LEFT OVER: agent {process.name} does not end: {left}")

    def fail_node(self, node: str, seconds: float, *, gone: bool) -> None:
        """A machine stops for a while; `gone`: its Node is deleted meanwhile."""
        if node in self.nodes.down or self.over:
            return
        self.nodes.fail(node)
        if node in self.processes:
            self.processes[node].kill()
        if gone:
            self.loop.call_later(min(10.0, seconds / 2), self._delete_node, node)
        else:
            self.loop.call_later(UNREACHABLE_SECONDS, self._unreachable, node)
            self.loop.call_later(UNREACHABLE_SECONDS + EVICTION_SECONDS, self._evict, node)
        self.loop.call_later(seconds, self._node_returns, node)

    def _delete_node(self, node: str) -> None:
        if node in self.nodes.down and self.store.find("nodes", "", node):
            self.store.delete("nodes", "", node)
            self.loop.call_later(POD_COLLECTION_SECONDS, self._collect_agent, node)

    def _collect_agent(self, node: str) -> None:
        """Pod garbage collection: a pod whose node does not exist any more."""
        name = f"node-agent-{node}"
        gone = self.store.find("nodes", "", node) is None
        if gone and self.store.find("pods", VELERO, name) is not None:
            self.store.delete("pods", VELERO, name, grace=0)

    def _agent_ready(self, node: str, status: str) -> None:
        """What the node controller says of the pods of a node that is silent, and its kubelet when it is back."""
        pod = self.store.find("pods", VELERO, f"node-agent-{node}")
        if pod is not None:
            self.store.put("pods", pod, status={"conditions": [{"type": "Ready", "status": status}]})

    def _unreachable(self, node: str) -> None:
        body = self.store.find("nodes", "", node)
        if node in self.nodes.down and body is not None:
            self.store.put("nodes", body, status={"conditions": [{"type": "Ready", "status": "Unknown"}]})
            self._agent_ready(node, "False")

    def _evict(self, node: str) -> None:
        if node not in self.nodes.down:
            return
        for pod in self.store.each("pods"):
            daemon = (pod["metadata"].get("labels") or {}).get("role") == "node-agent"
            if pod["spec"].get("nodeName") == node and not daemon:
                self.store.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _node_returns(self, node: str) -> None:
        if node not in self.nodes.down:
            return
        body = self.store.find("nodes", "", node)
        if body is None:
            for pod in self.store.each("pods"):
                if pod["spec"].get("nodeName") == node:
                    self.store.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], grace=0)
            self._make_node(node)
        else:
            self.store.put("nodes", body, status={"conditions": [{"type": "Ready", "status": "True"}]})
            self._agent_ready(node, "True")
        self.nodes.recover(node)
        self.loop.call_later(2.0, self.start_agent, node)

    def ask_more(self, rng: random.Random) -> None:
        """Somebody asks for one more move."""
        living = self._living_nodes()
        if living and self._asked < MOVES_MAX:
            kind, storage_class = rng.choice(self.kinds), rng.choice(["fast", "fast", "late"])
            self.people.ask(kind, self._asked, rng.choice(living), storage_class)
            self._asked += 1

    def lists_in_time(self) -> None:
        """The watch cache has caught up."""
        self.api.lag_seconds, self.api.page_max = 0.0, 500

    def mend(self) -> None:
        """All faults stop."""
        self.lists_in_time()
        self.network.down = False
        self.network.slow_lists = self.network.slow_answers = 0.0
        self.work.paused = False
        self.nodes.slow_factor = 1.0
        for watch in self.api.watches:
            watch.stream.delay = 0.0
        for node in list(self.nodes.down):
            self._node_returns(node)

    # the end

    async def settled(self, seconds: float) -> bool:
        """Wait until every move is over and cleaned up."""
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            await asyncio.sleep(5.0)
            if not self.invariants.unfinished() and not self._about_to_ask():
                return True
        return False

    def _about_to_ask(self) -> bool:
        return any(w.deleted_at >= 0 and self.loop.time() - w.deleted_at < 1.0 for w in self.people.wishes)

    async def canaries(self) -> None:
        """A move on each node, with nothing wrong: each must be done soon."""
        wishes = [self.people.ask("PodVolumeBackup", 80 + i, node) for i, node in enumerate(self.node_names)]
        wishes.append(self.people.ask("DataUpload", 90, "", "calm"))
        await self.settled(CANARY_SECONDS)
        for wish in wishes:
            if wish.phase != "Completed":
                self.invariants.fail(f"WORN OUT: {wish.name} on {wish.node} is {wish.phase}: {wish.message}")

    async def quiet(self) -> None:
        """With nothing to do, agents write nothing."""
        writes, network = self.network.writes, self.network
        await asyncio.sleep(QUIET_SECONDS)
        if network.writes != writes:
            self.invariants.fail(
                f"NOT QUIET: {network.writes - writes} writes in {QUIET_SECONDS:g} s with nothing to do"
            )

    async def close(self) -> None:
        """Stop all agents, as a roll-out would."""
        self.over = True
        for process in list(self.processes.values()):
            await self._stop(process)
        await asyncio.sleep(1.0)
        for process in self.processes.values():
            for task in process.tasks:
                self.invariants.fail(f"LEFT OVER: task {task.get_coro()} of {process.name}")


class _Errors(logging.Handler):
    """What the product logs as an error is one: it met something that it does not know."""

    def __init__(self, invariants: Invariants) -> None:
        super().__init__(logging.ERROR)
        self._invariants = invariants

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else ""
        self._invariants.fail(f"ERROR: {record.getMessage()} {error!r}")


def choose(rng: random.Random) -> dict[str, float]:
    """A few of all faults, and how often each strikes: many at once hide one another."""
    chosen: dict[str, float] = {}
    if rng.random() < 0.25:
        for name in rng.choice(PAIRS):
            chosen[name] = STRIKES[name] * 3.0 if name in STRIKES else 0.1
        return chosen
    for name in rng.sample(list(REQUEST_FAULTS), rng.choice([0, 1, 1, 2, 3, 5])):
        chosen[name] = rng.choice([0.01, 0.03, 0.08])
    for name in rng.sample(list(STRIKES), rng.choice([0, 1, 2, 2, 3, 4])):
        chosen[name] = STRIKES[name] * rng.choice([0.5, 1.0, 2.0])
    if rng.random() < 0.1:
        chosen[rng.choice(WEBHOOKS)] = 1.0
    return chosen


async def _run(cluster: Cluster, faults: Faults, rng: random.Random) -> None:
    for node in cluster.node_names:
        cluster.loop.call_later(rng.uniform(0.0, 3.0), cluster.start_agent, node)
    count, within = rng.randint(1, 6), rng.choice([4.0, faults.until * 0.3, faults.until * 0.6])
    for _ in range(count):
        cluster.loop.call_later(rng.uniform(0.0, within), cluster.ask_more, rng)
    faults.begin()
    await asyncio.sleep(faults.until)
    faults.end()
    if not await cluster.settled(SETTLE_SECONDS):
        cluster.invariants.at_the_end()
        return
    await cluster.canaries()
    await cluster.quiet()
    cluster.invariants.at_the_end()


def run_seed(
    seed: int,
    *,
    trace: Callable[[str], None] | None = None,
    chosen: dict[str, float] | None = None,
    without: frozenset[str] = frozenset(),
    kinds: tuple[str, ...] = KINDS,
) -> Result:
    """Run a seed from its beginning to its end; `chosen` instead of the faults that it chooses."""
    rng = random.Random(seed)
    loop = VirtualLoop()
    root = Path(tempfile.mkdtemp(prefix="simulation-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    register_tasks(loop)
    try:
        with product_clocks(loop, random.Random(seed)):
            return loop.run_until_complete(
                _seed(seed, rng, root, trace=trace, chosen=chosen, without=without, kinds=kinds)
            )
    finally:
        loop.close()
        shutil.rmtree(root, ignore_errors=True)


async def _seed(
    seed: int,
    rng: random.Random,
    root: Path,
    *,
    trace: Callable[[str], None] | None,
    chosen: dict[str, float] | None,
    without: frozenset[str],
    kinds: tuple[str, ...],
) -> Result:
    cluster = Cluster(rng, root, nodes=rng.choice([2, 2, 3]))
    cluster.network.trace = trace
    cluster.kinds = kinds
    until = rng.choice([60.0, 120.0, 200.0])
    choice = choose(random.Random(rng.random()))
    choice = {
        name: rate for name, rate in (choice if chosen is None else chosen).items() if name not in without
    }
    faults = Faults(cluster, random.Random(rng.random()), choice, until)
    handler = _Errors(cluster.invariants)
    loggers = [logging.getLogger(room) for room in ("agent", "exposer", "kube")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
    try:
        await _run(cluster, faults, rng)
        await cluster.close()
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
        for process in cluster.processes.values():
            process.kill()
    return Result(
        seed,
        cluster.invariants.violations,
        cluster.network.history.hexdigest(),
        faults.met,
        Counter(f"{wish.kind} {wish.phase}" for wish in cluster.people.wishes),
        cluster.network.requests,
        cluster.loop.time(),
        faults.chosen,
    )


def main(argv: list[str]) -> int:
    """Run one seed and say what was wrong."""
    result = run_seed(int(argv[0]), trace=print if "--trace" in argv else None)
    print(
        result.seed,
        result.history,
        dict(result.phases),
        result.requests,
        f"{result.virtual_seconds:.0f} s",
        result.chosen,
    )
    print(*result.violations, sep="\n")
    return int(bool(result.violations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))


__all__ = ["Cluster", "Json", "Refused", "Result", "run_seed"]
