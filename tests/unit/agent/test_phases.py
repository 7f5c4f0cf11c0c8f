"""The phase tables: each row of contract 1.2 to 1.8 as observed → step."""

from __future__ import annotations

from typing import Any

import pytest

from agent.moves.custom_resources import MOVE_KINDS, Move, Phase, format_time
from agent.moves.phases import NOTICED_SECONDS, next_step, slot_is_needed, static_refusal
from agent.moves.steps import (
    Accept,
    Begin,
    BeginCancel,
    Finish,
    Hold,
    Ignore,
    Job,
    JobState,
    JobView,
    KillMover,
    Limits,
    Observed,
    Outcome,
    OwnerState,
    Prepare,
    RecordOutcome,
    Release,
    RunJob,
    SignalCancel,
    Step,
    Wait,
    WaitForSlot,
)
from exposer.hosting_pod import ABSENT, HostingPod, PodState
from tests.fakes.resources import T0, after, move

ALL = [kind.name for kind in MOVE_KINDS]
DATA = ["DataUpload", "DataDownload"]
POD_VOLUME = ["PodVolumeBackup", "PodVolumeRestore"]
ME, OTHER = "node-1", "node-2"
RUNNING = HostingPod(PodState.RUNNING, name="move-1", node=ME)
STARTED = HostingPod(PodState.RUNNING, name="move-1", node=ME, request_sent=True)
PENDING = HostingPod(PodState.PENDING, name="move-1")
SAVED = Outcome(succeeded=True, snapshot_id="b3c0", total_bytes=7, incremental_bytes=3, path="/uid-move-1")


def owned(kind: str, phase: str, **changes: Any) -> Move:
    """A move whose owner is this node, as the phase requires."""
    status: dict[str, Any] = {"acceptedTimestamp": format_time(T0)}
    if kind in DATA:
        status["acceptedByNode"] = ME
    if kind == "PodVolumeRestore" or (kind in DATA and phase not in ("New", "Accepted")):
        status["node"] = ME
    status |= changes.pop("status", {})
    finalizer = next(k.finalizer for k in MOVE_KINDS if k.name == kind)
    meta = {"finalizers": [finalizer], **changes.pop("metadata", {})}
    return move(kind, phase, status=status if phase != "New" else {}, metadata=meta, **changes)


def step(subject: Move, **facts: Any) -> Step:
    facts.setdefault("now", after(60))
    facts.setdefault("node", ME)
    facts.setdefault("waited_seconds", (facts["now"] - T0).total_seconds())
    return next_step(Observed(move=subject, **facts))


def canceled(kind: str, phase: str) -> Move:
    return owned(kind, phase, spec={"cancel": True})


def done(job: Job) -> dict[Job, JobView]:
    return {job: JobView(JobState.DONE)}


def failed(job: Job, reason: str) -> dict[Job, JobView]:
    return {job: JobView(JobState.FAILED, reason)}


# New


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("phase", ["", "New"])
def test_new_is_accepted_whether_the_phase_is_empty_or_new(kind: str, phase: str) -> None:
    assert step(move(kind, phase)) == Accept()


@pytest.mark.parametrize("kind", ALL)
def test_new_with_cancel_is_canceled_by_any_agent(kind: str) -> None:
    subject = move(kind, spec={"cancel": True})
    for node in (ME, OTHER):
        result = step(subject, node=node)
        assert isinstance(result, Finish)
        assert result.phase is Phase.CANCELED


@pytest.mark.parametrize("kind", DATA)
def test_foreign_mover_name_is_left_alone_in_every_phase(kind: str) -> None:
    for phase in Phase:
        assert step(move(kind, phase.value, spec={"datamover": "csi-copier", "cancel": True})) == Ignore()


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("name", ["", "velero", "kopia-data-mover"])
def test_own_mover_names_are_taken(kind: str, name: str) -> None:
    names = frozenset({"", "velero", "kopia-data-mover"})
    assert step(move(kind, spec={"datamover": name}), mover_names=names) == Accept()


def test_pod_volume_backup_of_another_node_is_ignored() -> None:
    assert step(move("PodVolumeBackup"), node=OTHER) == Ignore()


def test_pod_volume_restore_is_ignored_where_its_pod_does_not_run() -> None:
    assert step(move("PodVolumeRestore"), candidate=False) == Ignore()


@pytest.mark.parametrize("kind", ALL)
def test_new_waits_with_its_reason_while_it_cannot_be_admitted(kind: str) -> None:
    assert step(held(kind), admission="PVC app/data does not exist yet") == Wait(
        "PVC app/data does not exist yet"
    )


@pytest.mark.parametrize("kind", ALL)
def test_new_that_cannot_be_admitted_fails_at_the_prepare_timeout_with_its_reason(kind: str) -> None:
    result = step(move(kind), admission="pod app/web does not exist", now=after(1800))
    assert isinstance(result, Finish)
    assert result.phase is Phase.FAILED
    assert result.message.startswith("timeout on preparing")
    assert result.message.endswith(": pod app/web does not exist")


def test_restore_into_a_pod_that_no_node_takes_says_why_and_ends() -> None:
    facts: dict[str, Any] = {"candidate": False, "admission": "pod app/web does not exist"}
    assert step(move("PodVolumeRestore"), **facts) == Wait("pod app/web does not exist")
    assert isinstance(step(move("PodVolumeRestore"), now=after(1800), **facts), Finish)


@pytest.mark.parametrize("kind", POD_VOLUME)
def test_agent_beside_upstreams_leaves_pod_volumes_to_it(kind: str) -> None:
    for phase in Phase:
        subject = move(kind, phase.value, spec={"cancel": True})
        assert step(subject, mover_names=frozenset({"mine"})) == Ignore()


def held(kind: str) -> Move:
    """A `New` move that waits, as an agent has left it."""
    finalizer = next(k.finalizer for k in MOVE_KINDS if k.name == kind)
    return move(kind, metadata={"finalizers": [finalizer]})


@pytest.mark.parametrize("waits", [{"queue_open": False}, {"admission": "not yet"}])
def test_data_upload_is_held_before_it_waits(waits: dict) -> None:
    """Its VolumeSnapshot is there; a deletion while it waits must be heard of."""
    assert step(move("DataUpload"), **waits) == Hold()
    assert isinstance(step(move("DataDownload"), **waits), Wait)


@pytest.mark.parametrize("kind", ALL)
def test_new_waits_while_the_prepare_queue_is_full(kind: str) -> None:
    result = step(held(kind), queue_open=False)
    assert isinstance(result, Wait)
    assert "prepare queue" in result.reason


@pytest.mark.parametrize("kind", ALL)
def test_what_can_never_be_done_fails_at_once_with_its_message(kind: str) -> None:
    assert step(move(kind), refusal="windows volumes are not supported") == Finish(
        Phase.FAILED, "windows volumes are not supported"
    )


def test_unknown_snapshot_type_and_restic_are_refused() -> None:
    assert "exposer" in static_refusal(move("DataUpload", spec={"snapshotType": "LVM"}))
    for kind in POD_VOLUME:
        assert "restic" in static_refusal(move(kind, spec={"uploaderType": "restic"}))
    assert [static_refusal(move(kind)) for kind in ALL] == [""] * 4


# Accepted


@pytest.mark.parametrize("kind", ALL)
def test_accepted_begins_to_expose_also_after_a_restart(kind: str) -> None:
    assert step(owned(kind, "Accepted")) == RunJob(Job.EXPOSE)


@pytest.mark.parametrize("kind", ALL)
def test_accepted_shows_what_the_expose_waits_for(kind: str) -> None:
    jobs = {Job.EXPOSE: JobView(JobState.RUNNING, "volume snapshot app/x is not ready")}
    result = step(owned(kind, "Accepted"), jobs=jobs)
    assert isinstance(result, Wait)
    assert result.reason == "volume snapshot app/x is not ready"
    assert 0 < result.recheck_seconds <= 1800


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("DataUpload", "error exposing snapshot: no such PVC"),
        ("DataDownload", "error to expose snapshot: no such PVC"),
        ("PodVolumeBackup", "error to expose PVB: no such PVC"),
        ("PodVolumeRestore", "error to expose PVR: no such PVC"),
    ],
)
def test_expose_error_fails_with_upstreams_prefix(kind: str, text: str) -> None:
    assert step(owned(kind, "Accepted"), jobs=failed(Job.EXPOSE, "no such PVC")) == Finish(Phase.FAILED, text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("DataUpload", "timeout on preparing data upload"),
        ("DataDownload", "timeout on preparing data download"),
        ("PodVolumeBackup", "timeout on preparing PVB"),
        ("PodVolumeRestore", "timeout on preparing PVR"),
    ],
)
def test_prepare_timeout_fails_with_the_last_reason(kind: str, text: str) -> None:
    unschedulable = HostingPod(PodState.PENDING, name="move-1", reason="Unschedulable: 0/1 nodes")
    facts: dict[str, Any] = {"pod": unschedulable, "jobs": done(Job.EXPOSE)}
    assert step(owned(kind, "Accepted"), now=after(1800), **facts) == Finish(
        Phase.FAILED, f"{text}: Unschedulable: 0/1 nodes"
    )
    just_before = step(owned(kind, "Accepted"), now=after(1799), **facts)
    assert isinstance(just_before, Wait)
    assert just_before.reason == "Unschedulable: 0/1 nodes"


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "pod",
    [
        HostingPod(PodState.FAILED, name="move-1", reason="Evicted: node low on memory", heals=False),
        HostingPod(PodState.PENDING, name="move-1", reason="InvalidImageName", heals=False),
    ],
)
def test_hosting_pod_that_cannot_heal_fails_at_once_with_its_reason(kind: str, pod: HostingPod) -> None:
    result = step(owned(kind, "Accepted"), pod=pod, jobs=done(Job.EXPOSE))
    assert isinstance(result, Finish)
    assert result.phase is Phase.FAILED
    assert pod.reason in result.message
    assert "with expose error" in result.message


@pytest.mark.parametrize("kind", ALL)
def test_hosting_pod_deleted_before_it_ran_fails(kind: str) -> None:
    result = step(owned(kind, "Accepted"), pod=ABSENT, jobs=done(Job.EXPOSE))
    assert isinstance(result, Finish)
    assert "deleted before it ran" in result.message


@pytest.mark.parametrize("kind", ALL)
def test_running_hosting_pod_is_prepared_by_the_agent_of_its_node(kind: str) -> None:
    assert step(owned(kind, "Accepted"), pod=RUNNING, jobs=done(Job.EXPOSE)) == Prepare()


@pytest.mark.parametrize("kind", DATA)
def test_data_move_accepted_elsewhere_is_prepared_where_its_pod_runs(kind: str) -> None:
    subject = owned(kind, "Accepted", status={"acceptedByNode": OTHER})
    assert step(subject, pod=RUNNING) == Prepare()
    assert step(subject, pod=PENDING) == Ignore()


@pytest.mark.parametrize("kind", DATA)
def test_acceptor_says_where_the_hosting_pod_runs_while_that_agent_is_silent(kind: str) -> None:
    pod = HostingPod(PodState.RUNNING, name="move-1", node=OTHER)
    result = step(owned(kind, "Accepted"), pod=pod, jobs=done(Job.EXPOSE))
    assert isinstance(result, Wait)
    assert OTHER in result.reason


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("phase", ["Accepted", "Prepared"])
def test_cancel_before_the_mover_started_is_final_at_once(kind: str, phase: str) -> None:
    result = step(canceled(kind, phase), pod=RUNNING)
    assert isinstance(result, Finish)
    assert result.phase is Phase.CANCELED


# Prepared


@pytest.mark.parametrize("kind", ALL)
def test_prepared_waits_for_a_slot_and_begins_with_one(kind: str) -> None:
    assert step(owned(kind, "Prepared"), pod=RUNNING) == WaitForSlot()
    assert step(owned(kind, "Prepared"), pod=RUNNING, has_slot=True) == Begin()


@pytest.mark.parametrize("kind", ALL)
def test_prepared_without_its_pod_is_not_ready_and_fails(kind: str) -> None:
    result = step(owned(kind, "Prepared"), pod=ABSENT, has_slot=True)
    assert isinstance(result, Finish)
    assert result.phase is Phase.FAILED
    assert "is not ready: " in result.message


# InProgress


@pytest.mark.parametrize("kind", ALL)
def test_in_progress_starts_the_mover_and_after_a_restart_takes_the_living_one_up(kind: str) -> None:
    assert step(owned(kind, "InProgress"), pod=RUNNING) == RunJob(Job.START)
    assert step(owned(kind, "InProgress"), pod=STARTED) == Wait()


@pytest.mark.parametrize("kind", ALL)
def test_hosting_pod_of_upstreams_agent_is_watched_and_not_started(kind: str) -> None:
    upstream = HostingPod(PodState.RUNNING, name="move-1", node=ME, is_ours=False)
    assert step(owned(kind, "InProgress"), pod=upstream) == Wait()


@pytest.mark.parametrize("kind", ALL)
def test_start_error_fails(kind: str) -> None:
    result = step(owned(kind, "InProgress"), pod=RUNNING, jobs=failed(Job.START, "Secret is missing"))
    assert result == Finish(Phase.FAILED, "error starting data path: Secret is missing")


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "DataDownload"])
def test_success_completes(kind: str) -> None:
    assert step(owned(kind, "InProgress"), outcome=SAVED) == Finish(Phase.COMPLETED, outcome=SAVED)


def test_data_download_is_rebound_before_it_is_completed() -> None:
    subject = owned("DataDownload", "InProgress")
    assert step(subject, outcome=SAVED) == RecordOutcome(SAVED)
    recorded: dict[str, Any] = {"outcome": SAVED, "outcome_recorded": True}
    assert step(subject, **recorded) == RunJob(Job.REBIND)
    running = {Job.REBIND: JobView(JobState.RUNNING, "waiting for PV")}
    assert step(subject, jobs=running, **recorded) == Wait("waiting for PV")
    assert step(subject, jobs=done(Job.REBIND), **recorded) == Finish(Phase.COMPLETED, outcome=SAVED)


def test_failed_rebind_fails_the_data_download() -> None:
    result = step(
        owned("DataDownload", "InProgress"),
        outcome=SAVED,
        outcome_recorded=True,
        jobs=failed(Job.REBIND, "PV pv-1 keeps the data"),
    )
    assert isinstance(result, Finish)
    assert result.phase is Phase.FAILED
    assert "PV pv-1 keeps the data" in result.message


@pytest.mark.parametrize("kind", ALL)
def test_failed_mover_fails_with_its_text(kind: str) -> None:
    outcome = Outcome(succeeded=False, message="access denied")
    result = step(owned(kind, "InProgress"), outcome=outcome)
    assert isinstance(result, Finish)
    assert result.message in (
        "data path backup failed: access denied",
        "data path restore failed: access denied",
    )


@pytest.mark.parametrize("kind", ALL)
def test_mover_that_says_canceled_is_canceled(kind: str) -> None:
    outcome = Outcome(succeeded=False, canceled=True, message="data path is canceled")
    result = step(owned(kind, "InProgress"), outcome=outcome)
    assert isinstance(result, Finish)
    assert result.phase is Phase.CANCELED


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("phase", ["InProgress", "Canceling"])
def test_vanished_hosting_pod_ends_the_move_at_once(kind: str, phase: str) -> None:
    result = step(owned(kind, phase), pod=ABSENT)
    assert isinstance(result, Finish)
    assert result.phase is (Phase.FAILED if phase == "InProgress" else Phase.CANCELED)
    assert result.message


@pytest.mark.parametrize("kind", ALL)
def test_cancel_in_progress_goes_through_canceling(kind: str) -> None:
    assert step(canceled(kind, "InProgress"), pod=STARTED) == BeginCancel()
    assert step(canceled(kind, "Canceling"), pod=STARTED) == SignalCancel()
    told = HostingPod(PodState.RUNNING, name="move-1", node=ME, cancel_sent_at="2026-11-21T12:00:30Z")
    waiting = step(canceled(kind, "Canceling"), pod=told, cancel_sent_seconds=30)
    assert isinstance(waiting, Wait)
    assert waiting.recheck_seconds == pytest.approx(270.1)
    assert step(canceled(kind, "Canceling"), pod=told, cancel_sent_seconds=300) == KillMover()


@pytest.mark.parametrize("kind", ALL)
def test_deletion_is_a_cancel_with_its_own_message(kind: str) -> None:
    subject = owned(kind, "Accepted", metadata={"deletionTimestamp": format_time(T0)})
    result = step(subject)
    assert isinstance(result, Finish)
    assert result.phase is Phase.CANCELED
    assert "because it is being deleted" in result.message


def test_servers_message_survives_the_cancel_and_our_waiting_reason_does_not() -> None:
    server = 'Dataupload is in status "Prepared" during the velero server starting, mark it as cancel'
    for given, expected in ((server, server), ("waiting: no node", "dataupload was canceled on request")):
        subject = owned("DataUpload", "Prepared", spec={"cancel": True}, status={"message": given})
        result = step(subject, pod=RUNNING)
        assert isinstance(result, Finish)
        assert result.message == expected


@pytest.mark.parametrize("kind", ["DataUpload", "PodVolumeBackup", "PodVolumeRestore"])
def test_mover_that_succeeded_in_spite_of_a_cancel_completes_so_that_its_snapshot_is_known(kind: str) -> None:
    assert step(canceled(kind, "Canceling"), outcome=SAVED) == Finish(Phase.COMPLETED, outcome=SAVED)


def test_canceled_data_download_leaves_the_target_alone_even_if_the_mover_succeeded() -> None:
    result = step(canceled("DataDownload", "Canceling"), outcome=SAVED)
    assert isinstance(result, Finish)
    assert result.phase is Phase.CANCELED


# Final phases


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("phase", ["Completed", "Failed", "Canceled"])
def test_final_phase_is_cleaned_up_by_its_owner_and_then_released(kind: str, phase: str) -> None:
    subject = owned(kind, phase, spec={"cancel": True})
    assert step(subject) == RunJob(Job.CLEAN_UP)
    assert step(subject, jobs={Job.CLEAN_UP: JobView(JobState.RUNNING)}) == Wait()
    assert step(subject, jobs=done(Job.CLEAN_UP)) == Release()
    assert step(subject, node="node-3", pod=RUNNING) == Ignore()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("phase", ["Completed", "Failed", "Canceled"])
def test_final_phase_without_our_finalizer_is_ignored_as_backup_sync_makes_them(
    kind: str, phase: str
) -> None:
    for node in (ME, OTHER):
        assert step(move(kind, phase), node=node) == Ignore()


def test_failed_without_a_message_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="not a final phase"):
        Finish(Phase.FAILED)
    with pytest.raises(ValueError, match="not a final phase"):
        Finish(Phase.PREPARED, "x")


# Lost owners


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("phase", ["Accepted", "Prepared", "InProgress"])
def test_move_of_a_node_that_is_gone_is_failed_by_any_agent(kind: str, phase: str) -> None:
    result = step(owned(kind, phase), node="node-9", owner=OwnerState.NODE_GONE)
    assert isinstance(result, Finish)
    assert result.phase is Phase.FAILED
    assert "is gone" in result.message


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("phase", ["Accepted", "Prepared", "InProgress", "Canceling"])
def test_bystander_leaves_a_living_owner_alone(kind: str, phase: str) -> None:
    assert step(canceled(kind, phase), node="node-9") == Ignore()


def test_missing_agent_is_waited_for_and_then_given_up() -> None:
    subject = owned("PodVolumeBackup", "Accepted")
    facts: dict[str, Any] = {"node": "node-9", "owner": OwnerState.AGENT_MISSING, "limits": Limits()}
    assert step(subject, owner_missing_seconds=1, **facts) == Wait(recheck_seconds=NOTICED_SECONDS - 1)
    waiting = step(subject, owner_missing_seconds=1799, **facts)
    assert isinstance(waiting, Wait)
    assert f"no node-agent answers on node {ME}" in waiting.reason
    result = step(subject, owner_missing_seconds=1800, **facts)
    assert isinstance(result, Finish)
    assert "no node-agent" in result.message


def test_cancel_of_a_move_whose_agent_is_missing_waits_no_longer_than_a_mover_may() -> None:
    facts: dict[str, Any] = {"node": "node-9", "owner": OwnerState.AGENT_MISSING, "limits": Limits()}
    result = step(canceled("DataUpload", "InProgress"), owner_missing_seconds=300, **facts)
    assert isinstance(result, Finish)
    assert result.phase is Phase.CANCELED


@pytest.mark.parametrize("kind", ALL)
def test_clean_up_is_taken_over_from_an_agent_that_stays_away(kind: str) -> None:
    facts: dict[str, Any] = {"node": "node-9", "owner": OwnerState.AGENT_MISSING, "limits": Limits()}
    subject = owned(kind, "Failed")
    assert step(subject, owner_missing_seconds=1799, **facts) == Ignore()
    assert step(subject, owner_missing_seconds=1800, **facts) == RunJob(Job.CLEAN_UP)


# Slots


@pytest.mark.parametrize("kind", ALL)
def test_slot_is_free_as_soon_as_the_mover_has_ended(kind: str) -> None:
    subject = owned(kind, "InProgress")

    def needed(**facts: Any) -> bool:
        return slot_is_needed(Observed(move=subject, node=ME, now=T0, **facts))

    assert needed(pod=RUNNING)
    assert not needed(pod=RUNNING, outcome=SAVED)
    assert not needed(pod=ABSENT)
