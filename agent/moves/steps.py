"""The vocabulary of the phase machine: what is observed of a move, and the steps that may follow. Pure.

What follows from what is decided in `phases`; what a step does is in `act`. Who observes counts the times:
there is no clock here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from agent.moves.custom_resources import Move, Phase
from agent.moves.data_movers import BUILT_IN_MOVERS
from exposer.hosting_pod import ABSENT, HostingPod

CANCELED_SUFFIX = "data path is canceled"
WAITING_PREFIX = "waiting: "


class Job(StrEnum):
    """Work that takes time and runs beside the machine, one task per move and job."""

    EXPOSE = "expose"
    START = "start"
    REBIND = "rebind"
    CLEAN_UP = "clean-up"


class JobState(StrEnum):
    """Where a job of this agent process stands; after a restart all are idle again."""

    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobView:
    """One job: its state, and what it waits for or why it failed for good. Retries are `running`."""

    state: JobState = JobState.IDLE
    reason: str = ""


_IDLE = JobView()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the mover ended, from its termination message. Failure always has a `message`.

    `record` is the mover's transfer record as JSON, empty where it gave none.
    """

    succeeded: bool
    canceled: bool = False
    message: str = ""
    snapshot_id: str = ""
    path: str = ""
    total_bytes: int = 0
    incremental_bytes: int = 0
    record: str = ""


class OwnerState(StrEnum):
    """What is known of the node that owns a move."""

    ALIVE = "alive"
    AGENT_MISSING = "agent missing"
    NODE_GONE = "node gone"


@dataclass(frozen=True, slots=True)
class Limits:
    """The times of contract 7.7 that are ours, in seconds."""

    prepare_seconds: float = 1800.0
    cancel_grace_seconds: float = 300.0
    agent_missing_seconds: float = 1800.0


@dataclass(frozen=True, slots=True)
class Observed:
    """All that the machine may look at for one move, at one moment.

    `admission` says why a `New` move cannot be accepted yet, `refusal` why it never can; both empty: it can.
    `admission_is_near` is whether what is missing is on its way, be it that nobody knows how long: a pod that
    exists and has not come up.
    `candidate` is whether this agent may accept it at all, `sole_candidate` whether no other may.
    `turn_in_seconds` says when it is for this agent to do what any may do (0: now, or nobody else may).
    `waited_seconds` counts since a `New` move was created or an `Accepted` one accepted,
    `owner_missing_seconds` since this agent noticed, `cancel_sent_seconds` since the mover was told to stop;
    none of them jumps when a clock is set. `restored_volume` names the PV that holds the whole data of a
    restore whose owner is lost.
    """

    move: Move
    node: str
    now: datetime
    mover_names: frozenset[str] = BUILT_IN_MOVERS
    candidate: bool = True
    sole_candidate: bool = False
    admission: str = ""
    admission_is_near: bool = False
    refusal: str = ""
    queue_open: bool = True
    turn_in_seconds: float = 0.0
    has_slot: bool = False
    pod: HostingPod = ABSENT
    outcome: Outcome | None = None
    jobs: dict[Job, JobView] = field(default_factory=dict)
    waited_seconds: float = 0.0
    owner: OwnerState = OwnerState.ALIVE
    owner_missing_seconds: float = 0.0
    cancel_sent_seconds: float = 0.0
    outcome_recorded: bool = False
    restored_volume: str = ""
    limits: Limits = field(default_factory=Limits)

    def job(self, job: Job) -> JobView:
        """The state of a job, idle where this process has not begun it."""
        return self.jobs.get(job, _IDLE)


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing to do here, now or later, until the object changes."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet. `reason` is shown in `status.message`; empty: all is as it should be."""

    reason: str = ""
    recheck_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Hold:
    """Set the finalizer on a move that is not accepted yet: what it brought along is ours to clean up."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Take the move: exclusive write of `Accepted`, with finalizer and label."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Exclusive write of `Prepared` with this node."""


@dataclass(frozen=True, slots=True)
class WaitForSlot:
    """Stand in line for one of this node's slots, in order of creation."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Write `InProgress`: the slot is held, the hosting pod runs."""


@dataclass(frozen=True, slots=True)
class BeginCancel:
    """Write `Canceling`."""


@dataclass(frozen=True, slots=True)
class SignalCancel:
    """Tell the mover to stop."""


@dataclass(frozen=True, slots=True)
class KillMover:
    """Delete the hosting pod: the mover did not stop in time."""


@dataclass(frozen=True, slots=True)
class RunJob:
    """Begin (or begin again) a job beside the machine."""

    job: Job


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """Note on the object how the mover ended, before the hosting pod that says so is removed."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Finish:
    """Write a final phase. `Failed` always carries a message: the server reads an empty one as success."""

    phase: Phase
    message: str = ""
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        """Refuse what the server would misread."""
        if not self.phase.is_final or (self.phase is Phase.FAILED and not self.message):
            raise ValueError(f"not a final phase with its message: {self.phase} {self.message!r}")


@dataclass(frozen=True, slots=True)
class Release:
    """Remove the finalizer (and the queue label): nothing is left to clean up."""


Step = (
    Ignore
    | Wait
    | Hold
    | Accept
    | Prepare
    | WaitForSlot
    | Begin
    | BeginCancel
    | SignalCancel
    | KillMover
    | RunJob
    | RecordOutcome
    | Finish
    | Release
)
