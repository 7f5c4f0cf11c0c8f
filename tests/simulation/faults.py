"""Which faults a seed chooses, when they strike, and whom: each strike is counted with the phases that it met."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from exposer.hosting_pod import MOVER_LABEL
from tests.simulation.api import gone_line
from tests.simulation.network import REQUEST_FAULTS, WRITES, RequestFault
from tests.simulation.people import FINAL, VELERO, Wish
from tests.simulation.store import FORBIDDEN, Json, Key, Kind, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from tests.simulation.api import Request, Watch
    from tests.simulation.process import Process
    from tests.simulation.simulation import Cluster

PHASES = ("New", "Accepted", "Prepared", "InProgress", "Canceling", "cleaning up")
_INDEX = re.compile(r"(?:du|dd|pvb|pvr|app|velero-data|snapcontent|web|pv)-(\d+)\b")

# What strikes at random moments; the number is how many strikes there are in a hundred seconds.
STRIKES: dict[str, float] = {
    "watch broken": 4,
    "watch ended": 4,
    "watch gone": 4,
    "watch late": 3,
    "lists late": 2,
    "slow lists": 2,
    "slow answers": 2,
    "compaction": 2,
    "API away": 2,
    "agent killed": 3,
    "agent replaced": 2,
    "mover killed": 4,
    "mover slow": 2,
    "pod deleted": 4,
    "pod gone": 3,
    "node silent": 1.5,
    "node gone": 1,
    "clock jump": 4,
    "controllers paused": 2,
    "canceled": 4,
    "deleted": 3,
    "made anew": 3,
    "forced anew": 3,
    "pod made anew": 3,
    "source gone": 4,
    "foreign volume": 3,
    "quota full": 2,
}
# Faults that have done harm together: a part of all seeds has them side by side, and often.
PAIRS = (
    ("slow answers", "deleted"),
    ("slow lists", "watch gone"),
    ("500, done", "killed after"),
    ("watch late", "forced anew"),
    ("quota full", "deleted"),
    ("agent killed", "killed after"),
    ("foreign volume", "node silent"),
    ("source gone", "agent killed"),
)
WEBHOOKS = ("sidecar first", "mount first")
ALL_FAULTS = (*REQUEST_FAULTS, *STRIKES, *WEBHOOKS)
# A fault that cannot meet a phase: a pod that is not there is not killed, what is over is not canceled.
NEVER = {
    *((fault, "New") for fault in ("mover killed", "pod deleted", "pod gone", "quota full", *WEBHOOKS)),
    *((fault, phase) for fault in ("mover killed",) for phase in ("Accepted", "Prepared", "cleaning up")),
    *((fault, phase) for fault in ("quota full", *WEBHOOKS) for phase in PHASES if phase != "Accepted"),
    ("canceled", "cleaning up"),
    ("forced anew", "cleaning up"),
    ("exists, done", "New"),
    ("exists, done", "Prepared"),
    ("exists, done", "InProgress"),
    ("exists, done", "Canceling"),
    ("exists, done", "cleaning up"),
    ("not found, done", "New"),
    ("not found, done", "Prepared"),
    ("pod gone", "cleaning up"),
    ("pod deleted", "cleaning up"),
}


class Faults:
    """The faults of one run."""

    def __init__(self, cluster: Cluster, rng: Random, chosen: dict[str, float], until: float) -> None:
        self.cluster, self.rng, self.chosen, self.until = cluster, rng, chosen, until
        self.met: Counter[tuple[str, str]] = Counter()
        self.quota_until = 0.0
        self._lasting: dict[str, float] = {}
        self._requests = [
            (REQUEST_FAULTS[name], rate) for name, rate in chosen.items() if name in REQUEST_FAULTS
        ]
        self._rate = sum(rate for _, rate in self._requests)
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        """Choose the moments of all strikes."""
        self.cluster.network.choose = self.choose
        self.cluster.people.asked = self._asked
        self.cluster.store.admit.append(self._admit)
        for name, rate in self.chosen.items():
            if name in STRIKES:
                at = 1.0
                while (at := at + self.rng.expovariate(rate / 100.0)) < self.until:
                    self._loop.call_at(at, self._strike, name)

    def end(self) -> None:
        """All faults stop."""
        self.quota_until = 0.0
        self.cluster.mend()

    def _asked(self, wish: Wish) -> None:
        """A move that is asked for while something is wrong meets it too."""
        wish.facts |= {fact for fact, until in self._lasting.items() if self._loop.time() < until}

    def _strike(self, name: str) -> None:
        if self.rng.random() < 0.3:
            # what begins while something is wrong is in the most danger
            self._loop.call_later(self.rng.uniform(0.1, 2.0), self.cluster.ask_more, self.rng)
        method: Callable[[], Iterable[Wish]] = getattr(self, "_" + name.replace(" ", "_").lower())
        self._count(name, method())

    def _count(self, name: str, wishes: Iterable[Wish]) -> None:
        for wish in list(wishes):
            self.met[name, self._phase(wish)] += 1

    def _phase(self, wish: Wish) -> str:
        return "cleaning up" if wish.is_final else wish.phase

    # requests

    def choose(self, process: Process, request: Request) -> RequestFault | None:
        """The fault of a request, if it has one."""
        if not self._requests or self._loop.time() > self.until:
            return None
        at = self.rng.random() / max(self._rate, 1e-9)
        if self.rng.random() >= self._rate or request.plural == "events":
            return None
        at *= self._rate * self._rate
        for fault, rate in self._requests:
            if at < rate:
                if request.method not in fault.methods or (request.is_stream and fault.status == 0):
                    return None
                self._hit(fault, request, process)
                return fault
            at -= rate
        return None

    def _hit(self, fault: RequestFault, request: Request, process: Process) -> None:
        for wish in self._meant(request):
            self.met[fault.name, self._phase(wish)] += 1
            if request.method in WRITES:
                wish.facts.add("write failed")
            if fault.kills:
                wish.facts.add("agent away")
        if fault.kills:
            self._active_facts("agent away")

    def _meant(self, request: Request) -> list[Wish]:
        name = ((request.body or {}).get("metadata") or {}).get("name", "")
        found = _INDEX.search(f"{request.path} {name}")
        if found is None:
            return []
        wishes = [w for w in self.cluster.people.wishes if w.index == int(found[1])]
        return wishes[-1:]

    def _admit(self, kind: Kind, key: Key, body: Json) -> Json:
        """Webhooks and quota, as they meet a hosting pod that is to be made."""
        if kind.plural != "pods" or MOVER_LABEL not in (body["metadata"].get("labels") or {}):
            return body
        wish = self.cluster.people.newest(key[1])
        wishes = [wish] if wish else []
        if self._loop.time() < self.quota_until:
            self._count("quota full", wishes)
            for one in wishes:
                one.facts.add("quota full")
            raise Refused(FORBIDDEN, f'pods "{key[1]}" is forbidden: exceeded quota: pods, requested: pods=1')
        for name in WEBHOOKS:
            if name in self.chosen:
                self._count(name, wishes)
                body = _webhook(name, body)
        return body

    # streams and the API server

    def _active(self) -> list[Wish]:
        return [wish for wish in self.cluster.people.wishes if not wish.is_final or self._owes(wish)]

    def _owes(self, wish: Wish) -> bool:
        body = self.cluster.store.find(wish.plural, VELERO, wish.name)
        same = body is not None and body["metadata"]["uid"] == wish.uid
        return bool(same and body is not None and body["metadata"].get("finalizers"))

    def _active_facts(self, *facts: str, seconds: float = 30.0) -> list[Wish]:
        active = self._active()
        self._lasting |= dict.fromkeys(facts, self._loop.time() + seconds)
        for wish in active:
            wish.facts |= set(facts)
        return active

    def _streams(self) -> list[Watch]:
        live = [
            w
            for w in self.cluster.api.watches
            if not w.stream.closed and w.owner is not None and not w.owner.dead
        ]
        if live and self.rng.random() < 0.5:
            owner = self.rng.choice(live).owner
            return [w for w in live if w.owner is owner]
        return self.rng.sample(live, min(len(live), self.rng.randint(1, 3)))

    def _watch_broken(self) -> list[Wish]:
        for watch in self._streams():
            watch.stream.send(ConnectionResetError("connection reset by peer"), at_once=True)
        return self._active()

    def _watch_ended(self) -> list[Wish]:
        for watch in self._streams():
            watch.stream.send(None, at_once=True)
        return self._active()

    def _watch_gone(self) -> list[Wish]:
        for watch in self._streams():
            watch.stream.send(gone_line(), at_once=True)
            watch.stream.send(None, at_once=True)
        return self._active()

    def _watch_late(self) -> list[Wish]:
        for watch in self._streams():
            watch.stream.delay = self.rng.uniform(1.0, 12.0)
            self._loop.call_later(self.rng.uniform(5.0, 40.0), setattr, watch.stream, "delay", 0.0)
        return self._active()

    def _lists_late(self) -> list[Wish]:
        api = self.cluster.api
        api.lag_seconds, api.page_max = self.rng.uniform(0.5, 8.0), self.rng.randint(1, 4)
        self._loop.call_later(self.rng.uniform(5.0, 40.0), self.cluster.lists_in_time)
        return self._watch_gone()

    def _slow_lists(self) -> list[Wish]:
        """A roll-out of API servers: every client lists anew at once, and that takes its time."""
        self.cluster.network.slow_lists = self.rng.uniform(1.0, 6.0)
        self._loop.call_later(self.rng.uniform(10.0, 40.0), setattr, self.cluster.network, "slow_lists", 0.0)
        return self._watch_gone()

    def _slow_answers(self) -> list[Wish]:
        self.cluster.network.slow_answers = self.rng.uniform(2.0, 25.0)
        self._loop.call_later(
            self.rng.uniform(10.0, 60.0), setattr, self.cluster.network, "slow_answers", 0.0
        )
        return self._active()

    def _compaction(self) -> list[Wish]:
        self.cluster.store.compact()
        return self._watch_broken()

    def _api_away(self) -> list[Wish]:
        network = self.cluster.network
        network.down = True
        for watch in self.cluster.api.watches:
            watch.stream.send(ConnectionResetError("server closed"), at_once=True)
        self._loop.call_later(self.rng.uniform(1.0, 30.0), setattr, network, "down", False)
        return self._active_facts("API away", "write failed")

    # processes and nodes

    def _agent_killed(self) -> list[Wish]:
        live = [process for process in self.cluster.processes.values() if not process.dead]
        if live:
            self.rng.choice(live).kill()
        return self._active_facts("agent away")

    def _agent_replaced(self) -> list[Wish]:
        nodes = [node for node, process in self.cluster.processes.items() if not process.dead]
        if nodes:
            self.cluster.replace_agent(self.rng.choice(nodes))
        return self._active_facts("agent away")

    def _hosting_pods(self) -> list[tuple[Json, Wish]]:
        found = []
        for pod in self.cluster.store.each("pods"):
            wish = self.cluster.people.newest(pod["metadata"]["name"])
            if pod["metadata"].get("namespace") == VELERO and wish is not None:
                found.append((pod, wish))
        return found

    def _mover_killed(self) -> list[Wish]:
        nodes = self.cluster.nodes
        for pod, wish in self.rng.sample(pods := self._hosting_pods(), len(pods)):
            if nodes.crash_mover(pod["metadata"]["uid"]):
                wish.facts.add("mover killed")
                return [wish]
        return []

    def _mover_slow(self) -> list[Wish]:
        self.cluster.nodes.slow_factor = self.rng.choice([5.0, 20.0])
        self._loop.call_later(20.0, setattr, self.cluster.nodes, "slow_factor", 1.0)
        return self._active()

    def _pod_deleted(self, grace: int | None = None) -> list[Wish]:
        pods = self._hosting_pods()
        if not pods:
            return []
        pod, wish = self.rng.choice(pods)
        wish.facts.add("pod deleted")
        self.cluster.store.delete("pods", VELERO, pod["metadata"]["name"], grace=grace)
        return [wish]

    def _pod_gone(self) -> list[Wish]:
        return self._pod_deleted(0)

    def _node_silent(self) -> list[Wish]:
        self.cluster.fail_node(self._some_node(), self.rng.uniform(5.0, 200.0), gone=False)
        return self._active_facts("node failed", "agent away", seconds=260.0)

    def _node_gone(self) -> list[Wish]:
        self.cluster.fail_node(self._some_node(), self.rng.uniform(20.0, 150.0), gone=True)
        return self._active_facts("node failed", "agent away", seconds=200.0)

    def _some_node(self) -> str:
        return self.rng.choice(self.cluster.node_names)

    def _clock_jump(self) -> list[Wish]:
        for process in self.cluster.processes.values():
            if self.rng.random() < 0.5:
                process.clock.skew = self.rng.choice([-1.0, 1.0]) * self.rng.choice([2.0, 600.0, 86400.0])
        return self._active_facts("clock wrong", seconds=1e6)

    def _controllers_paused(self) -> list[Wish]:
        self.cluster.work.paused = True
        self._loop.call_later(self.rng.uniform(2.0, 40.0), setattr, self.cluster.work, "paused", False)
        return self._active_facts("controllers paused")

    # people

    def _some_wish(self, *kinds: str) -> list[Wish]:
        """In the order in which they should be tried: any phase is as likely as any other."""
        return self._mixed(w for w in self._active() if not kinds or w.kind in kinds)

    def _mixed(self, wishes: Iterable[Wish]) -> list[Wish]:
        ranks = {phase: self.rng.random() for phase in PHASES}
        return sorted(wishes, key=lambda wish: (ranks[self._phase(wish)], self.rng.random()))

    def _canceled(self) -> list[Wish]:
        return self._first(self.cluster.people.cancel)

    def _deleted(self) -> list[Wish]:
        """Also what is over: backups are deleted too."""
        for wish in self._mixed(self.cluster.people.wishes):
            if self.rng.random() < 0.5:
                self.cluster.people.delete_when_over(wish)
            elif self.cluster.people.delete(wish):
                return [wish]
        return []

    def _made_anew(self) -> list[Wish]:
        return self._first(
            lambda wish: self.cluster.people.make_anew(wish) is not None, "DataUpload", "PodVolumeBackup"
        )

    def _forced_anew(self) -> list[Wish]:
        return self._first(self.cluster.people.force_anew, "PodVolumeBackup")

    def _pod_made_anew(self) -> list[Wish]:
        return self._first(self.cluster.people.make_pod_anew, "PodVolumeBackup", "PodVolumeRestore")

    def _source_gone(self) -> list[Wish]:
        return self._first(self.cluster.people.lose_source, "DataUpload")

    def _first(self, do: Callable[[Wish], Any], *kinds: str) -> list[Wish]:
        for wish in self._some_wish(*kinds):
            if do(wish):
                return [wish]
        return []

    def _foreign_volume(self) -> list[Wish]:
        self.cluster.people.put_foreign_volume()
        return self._active()

    def _quota_full(self) -> list[Wish]:
        self.quota_until = self._loop.time() + self.rng.uniform(2.0, 40.0)
        return []


def _webhook(name: str, body: Json) -> Json:
    """What Istio or a vendor's agent makes of a pod: it puts itself first."""
    spec = body["spec"]
    own: Json = {"name": "vendor", "mountPath": "/opt/vendor"}
    containers = list(spec["containers"])
    if name == "sidecar first":
        containers.insert(0, {"name": "proxy", "image": "proxy", "volumeMounts": [own]})
    else:
        first = containers[0]
        containers[0] = first | {"volumeMounts": [own, *(first.get("volumeMounts") or [])]}
    volumes = [{"name": "vendor", "emptyDir": {}}, *spec["volumes"]]
    return body | {"spec": spec | {"containers": containers, "volumes": volumes}}


def final(phase: str) -> bool:
    """Whether a phase is the last."""
    return phase in FINAL
