from __future__ import annotations

import pytest

from agent.moves.custom_resources import (
    KIND_BY_NAME,
    MOVE_KINDS,
    MalformedResourceError,
    Phase,
    format_time,
    parse_go_duration,
    parse_move,
)
from agent.moves.phases import static_refusal
from agent.moves.status_patch import recorded_outcome
from tests.fakes.resources import T0, body, move


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m0s", 600), ("1h2m3.5s", 3723.5), ("0s", 0), ("0", 0), ("150ms", 0.15)]
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    assert parse_go_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "ten minutes", "-1s", "5m x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_go_duration(text)


@pytest.mark.parametrize("kind", MOVE_KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("lacking", ["backupStorageLocation"])
def test_malformed_resource_is_named_with_what_it_lacks(kind, lacking: str) -> None:
    broken = body(kind)
    del broken["spec"][lacking]
    with pytest.raises(MalformedResourceError, match=rf"cannot read {kind.name} velero/move-1: .*{lacking}"):
        parse_move(kind, broken)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("DataUpload", {"spec": {"operationTimeout": None}}),
        ("DataDownload", {"spec": {"targetVolume": "data"}}),
        ("PodVolumeBackup", {"spec": {"pod": None}}),
        ("PodVolumeRestore", {"status": {"phase": "Mystery"}}),
        ("DataUpload", {"spec": {"dataMoverConfig": ["x"]}}),
    ],
)
def test_wrong_types_are_malformed_and_never_a_crash(kind: str, changes: dict) -> None:
    with pytest.raises(MalformedResourceError):
        parse_move(KIND_BY_NAME[kind], body(kind, **changes))


@pytest.mark.parametrize("kind", ["DataUpload", "DataDownload"])
def test_unreadable_timeout_refuses_a_new_move_and_does_not_hide_one_under_way(kind: str) -> None:
    subject = move(kind, "InProgress", spec={"operationTimeout": "soon"})
    assert subject.spec.operation_timeout_seconds == 600
    assert "'soon' is not a duration" in static_refusal(subject)


@pytest.mark.parametrize("scribble", ["soon", "0001-01-01T00:00:00+05:00"])
def test_scribbled_annotations_are_as_good_as_none(scribble: str) -> None:
    notes = {"velero.io/accepted-at": scribble, "kopia-data-mover.io/outcome": scribble}
    subject = move("DataUpload", "Accepted", metadata={"annotations": notes})
    assert subject.accepted_at is None
    assert recorded_outcome(subject) is None


@pytest.mark.parametrize(
    ("stored", "noted", "phase"),
    [
        ("", "Accepted", Phase.ACCEPTED),
        ("New", "Prepared", Phase.PREPARED),
        ("InProgress", "Canceling", Phase.CANCELING),
        ("InProgress", "Accepted", Phase.IN_PROGRESS),
        ("Failed", "Prepared", Phase.FAILED),
    ],
)
def test_old_schemas_keep_the_finer_phase_in_an_annotation(stored: str, noted: str, phase: Phase) -> None:
    subject = move("PodVolumeBackup", stored, metadata={"annotations": {"kopia-data-mover.io/phase": noted}})
    assert subject.phase is phase


def test_repository_is_selected_by_the_namespace_of_the_source() -> None:
    assert [move(kind).source_namespace for kind in MOVE_KINDS] == ["app"] * 4


def test_times_are_utc_with_whole_seconds() -> None:
    assert format_time(T0) == "2026-11-21T12:00:00Z"
    assert move("DataUpload").created_at == T0
