"""Random histories of events, restarts, conflicts and cancels against the phase machine and its patches.

The model: one object in an API with optimistic locking, one hosting pod, two agents that lose their memory when
they restart. Promised whatever happens: a final phase is never left, `spec.cancel` is never unset, and once the
world is quiet the move ends, is cleaned up and released.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.moves.crd_features import CrdFeatures
from agent.moves.custom_resources import (
    KIND_BY_NAME,
    MOVE_KINDS,
    Move,
    MoveKind,
    Phase,
    format_time,
    parse_move,
)
from agent.moves.phases import next_step, owner_node
from agent.moves.status_patch import (
    accept_patch,
    begin_patch,
    canceling_patch,
    finish_patch,
    hold_patch,
    outcome_patch,
    prepare_patch,
    recorded_outcome,
    release_patch,
)
from agent.moves.steps import (
    Accept,
    Begin,
    BeginCancel,
    Finish,
    Hold,
    Job,
    JobState,
    JobView,
    KillMover,
    Observed,
    Outcome,
    OwnerState,
    Prepare,
    RecordOutcome,
    Release,
    RunJob,
    SignalCancel,
    Step,
    WaitForSlot,
)
from exposer.hosting_pod import ABSENT, HostingPod, PodState
from tests.fakes.merge_patch import merge_patch
from tests.fakes.resources import T0, body

NODES = ("node-1", "node-2")
OLD = CrdFeatures(pod_volume_phases=False, data_mover_accepted=False)
SAVED = Outcome(succeeded=True, snapshot_id="b3c0", total_bytes=7)
BROKEN = Outcome(succeeded=False, message="access denied")
STOPPED = Outcome(succeeded=False, canceled=True, message="data path is canceled")


@dataclass
class Agent:
    """What one agent process remembers."""

    jobs: dict[Job, JobView] = field(default_factory=dict)
    cached: dict[str, Any] | None = None


@dataclass
class World:
    kind: MoveKind
    crds: CrdFeatures
    api: dict[str, Any] = field(default_factory=dict)
    pod: HostingPod = ABSENT
    outcome: Outcome | None = None
    exposed: bool = False
    rebound: bool = False
    released: bool = False
    gone: set[str] = field(default_factory=set)
    seconds: float = 0
    agents: dict[str, Agent] = field(default_factory=lambda: {node: Agent() for node in NODES})
    finals: list[Phase] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = body(self.kind)

    @property
    def move(self) -> Move:
        return parse_move(self.kind, self.api)

    def write(self, patch: dict[str, Any]) -> bool:
        """Apply a patch; refused when the reader was stale."""
        sent = patch.get("metadata", {}).get("resourceVersion")
        if sent is not None and sent != self.api["metadata"]["resourceVersion"]:
            return False
        before = self.move
        self.api = merge_patch(self.api, patch)
        self.api["metadata"]["resourceVersion"] = str(int(before.resource_version) + 1)
        assert not before.phase.is_final or self.move.phase is before.phase, "a final phase was left"
        assert self.move.cancel or not before.cancel, "spec.cancel was lost"
        if self.move.phase.is_final and not before.phase.is_final:
            self.finals.append(self.move.phase)
            assert self.move.phase is not Phase.FAILED or self.move.message
        return True

    # events from outside

    def cancel(self) -> None:
        if self.crds.pod_volume_phases or not self.kind.is_pod_volume:
            self.write({"spec": {"cancel": True}})

    def delete(self) -> None:
        self.write({"metadata": {"deletionTimestamp": format_time(T0)}})

    def restart(self, node: str) -> None:
        self.agents[node] = Agent()

    def lose_node(self, node: str) -> None:
        if len(self.gone) == 0:
            self.gone.add(node)
            if self.pod.node == node:
                self.pod, self.outcome = ABSENT, None

    def schedule(self, node: str) -> None:
        node = self.move.spec.node if self.kind.name == "PodVolumeBackup" else node  # type: ignore[union-attr]
        node = owner_node(self.move) if self.kind.is_pod_volume else node
        if self.pod.state is PodState.PENDING and node not in self.gone:
            self.pod = HostingPod(PodState.RUNNING, name="move-1", node=node)

    def evict(self) -> None:
        if not self.pod.has_ended:
            self.pod, self.outcome = ABSENT, None

    def end(self, outcome: Outcome) -> None:
        if self.pod.state is PodState.RUNNING and self.pod.request_sent:
            self.outcome = STOPPED if self.pod.cancel_sent_at and not outcome.succeeded else outcome
            state = PodState.SUCCEEDED if self.outcome.succeeded else PodState.FAILED
            self.pod = HostingPod(state, name="move-1", node=self.pod.node, request_sent=True)

    def finish_job(self, node: str, job: Job, *, ok: bool) -> None:
        agent = self.agents[node]
        if agent.jobs.get(job, JobView()).state is not JobState.RUNNING or node in self.gone:
            return
        ok = ok or job is Job.CLEAN_UP
        agent.jobs[job] = JobView(JobState.DONE) if ok else JobView(JobState.FAILED, "broken")
        if ok:
            self._effect(job)

    def _effect(self, job: Job) -> None:
        if job is Job.EXPOSE and self.pod is ABSENT and not self.move.phase.is_final:
            self.exposed, self.pod = True, HostingPod(PodState.PENDING, name="move-1")
        elif job is Job.START and self.pod.state is PodState.RUNNING:
            self.pod = HostingPod(PodState.RUNNING, name="move-1", node=self.pod.node, request_sent=True)
        elif job is Job.REBIND:
            self.rebound, self.pod = True, ABSENT
        elif job is Job.CLEAN_UP:
            self.exposed, self.pod = False, ABSENT

    # one pass of one agent

    def observe(self, node: str, seen: Move) -> Observed:
        owner = owner_node(seen)
        recorded = recorded_outcome(seen)
        return Observed(
            move=seen,
            node=node,
            now=T0 + timedelta(seconds=self.seconds),
            waited_seconds=self.seconds,
            candidate=self.kind.name != "PodVolumeRestore" or node == "node-1",
            has_slot=True,
            pod=self.pod,
            outcome=recorded or self.outcome,
            outcome_recorded=recorded is not None,
            jobs=self.agents[node].jobs,
            owner=OwnerState.NODE_GONE if owner in self.gone else OwnerState.ALIVE,
            cancel_sent_seconds=1000,
        )

    def act(self, node: str, *, stale: bool = False) -> Step | None:
        if node in self.gone:
            return None
        agent = self.agents[node]
        if not stale or agent.cached is None:
            agent.cached = self.api
        seen = parse_move(self.kind, agent.cached)
        step = next_step(self.observe(node, seen))
        self._perform(step, node, agent, seen)
        return step

    def _perform(  # noqa: C901, PLR0912 - one line a step
        self, step: Step, node: str, agent: Agent, seen: Move
    ) -> None:
        now = T0 + timedelta(seconds=self.seconds)
        match step:
            case Hold():
                self.write(hold_patch(seen))
            case Accept():
                self.write(accept_patch(seen, node, now, self.crds))
            case Prepare():
                self.write(prepare_patch(seen, node, self.crds))
            case Begin():
                self.write(begin_patch(seen, "linux", now, self.crds))
            case BeginCancel():
                self.write(canceling_patch(seen, self.crds))
            case SignalCancel():
                self.pod = HostingPod(
                    self.pod.state, "move-1", node=self.pod.node, request_sent=True, cancel_sent_at="x"
                )
            case KillMover():
                self.pod, self.outcome = ABSENT, None
            case RunJob(job):
                agent.jobs[job] = JobView(JobState.RUNNING)
            case RecordOutcome(outcome):
                self.write(outcome_patch(seen, outcome))
            case Finish():
                self.write(finish_patch(seen, step, now, self.crds))
            case Release():
                self.released = self.write(release_patch(seen)) or self.released
            case WaitForSlot():
                raise AssertionError("the model always has a slot")
            case _:
                pass

    def settle(self) -> None:
        """Be quiet and fair: everything that runs ends well, everybody looks at fresh objects."""
        for _ in range(40):
            self.seconds += 300
            self.fair_round()
            self.end(SAVED)

    def fair_round(self) -> None:
        """Let everybody act once, and what runs end well, except the mover."""
        for node in NODES:
            self.act(node)
            for job in Job:
                self.finish_job(node, job, ok=True)
        self.schedule("node-1" if "node-1" not in self.gone else "node-2")


nodes = st.sampled_from(NODES)
events = st.one_of(
    st.tuples(st.just("fair_round")),
    st.tuples(st.just("fair_round")),
    st.tuples(st.just("act"), nodes, st.booleans()),
    st.tuples(st.just("act"), nodes, st.booleans()),
    st.tuples(st.just("job"), nodes, st.sampled_from(Job), st.booleans()),
    st.tuples(st.just("job"), nodes, st.just(Job.EXPOSE), st.just(True)),
    st.tuples(st.just("schedule"), nodes),
    st.tuples(st.just("end"), st.sampled_from([SAVED, BROKEN, STOPPED])),
    st.tuples(st.just("restart"), nodes),
    st.tuples(st.sampled_from(["cancel", "delete", "evict"])),
    st.tuples(st.just("lose"), nodes),
    st.tuples(st.just("time"), st.sampled_from([1, 60, 1900])),
)


def happen(world: World, event: tuple[Any, ...]) -> None:
    match event:
        case ("act", node, stale):
            world.act(node, stale=stale)
        case ("job", node, job, ok):
            world.finish_job(node, job, ok=ok)
        case ("schedule", node):
            world.schedule(node)
        case ("end", outcome):
            world.end(outcome)
        case ("restart", node):
            world.restart(node)
        case ("lose", node):
            world.lose_node(node)
        case ("time", seconds):
            world.seconds += seconds
        case (name,):
            getattr(world, name)()


@pytest.mark.parametrize("crds", [CrdFeatures(), OLD], ids=["1.17+", "1.15"])
@pytest.mark.parametrize("kind", [kind.name for kind in MOVE_KINDS])
@given(history=st.lists(events, max_size=40))
@settings(deadline=None, max_examples=150)
def test_every_history_ends_once_cleaned_up_and_released(
    kind: str, crds: CrdFeatures, history: list[tuple[Any, ...]]
) -> None:
    world = World(KIND_BY_NAME[kind], crds)
    for event in history:
        happen(world, event)
    world.settle()
    if kind == "PodVolumeRestore" and "node-1" in world.gone and not world.finals:
        return  # its pod was on the lost node and nobody had accepted it: the sweep of missing pods ends it
    assert len(world.finals) == 1, (world.move.phase, world.agents)
    assert not world.move.has_finalizer
    assert not world.move.is_exposing
    assert not world.exposed
    assert world.pod is ABSENT or world.pod.state is PodState.ABSENT


@pytest.mark.parametrize("kind", [kind.name for kind in MOVE_KINDS])
def test_quiet_history_completes(kind: str) -> None:
    world = World(KIND_BY_NAME[kind], CrdFeatures())
    world.settle()
    assert world.finals == [Phase.COMPLETED]
    assert world.rebound == (kind == "DataDownload")
