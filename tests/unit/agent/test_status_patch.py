from __future__ import annotations

import pytest

from agent.moves.crd_features import CrdFeatures
from agent.moves.custom_resources import DATA_DOWNLOAD, MOVE_KINDS, Phase, parse_move
from agent.moves.status_patch import (
    accept_patch,
    begin_patch,
    canceling_patch,
    finish_patch,
    message_patch,
    outcome_patch,
    prepare_patch,
    recorded_outcome,
    release_patch,
)
from agent.moves.steps import Finish, Outcome
from tests.fakes.merge_patch import merge_patch
from tests.fakes.resources import T0, body, move

NEW = CrdFeatures()
OLD = CrdFeatures(pod_volume_phases=False, data_mover_accepted=False)
SAVED = Outcome(succeeded=True, snapshot_id="ab", path="/uid", total_bytes=9, incremental_bytes=4)


@pytest.mark.parametrize("kind", MOVE_KINDS, ids=lambda kind: kind.name)
def test_no_patch_names_spec_and_every_transition_is_exclusive(kind) -> None:
    subject = move(kind, "InProgress")
    patches = [
        accept_patch(subject, "n", T0, NEW),
        prepare_patch(subject, "n", NEW),
        begin_patch(subject, "linux", T0, NEW),
        canceling_patch(subject, NEW),
        finish_patch(subject, Finish(Phase.FAILED, "x"), T0, NEW),
        outcome_patch(subject, SAVED),
        release_patch(subject),
    ]
    for patch in patches:
        assert "spec" not in patch
        assert patch["metadata"]["resourceVersion"] == subject.resource_version


@pytest.mark.parametrize("kind", ["PodVolumeBackup", "PodVolumeRestore"])
def test_old_schemas_get_only_phases_that_they_know(kind: str) -> None:
    known = {"New", "InProgress", "Completed", "Failed"}
    subject = move(kind)
    for patch in (
        accept_patch(subject, "n", T0, OLD),
        prepare_patch(subject, "n", OLD),
        begin_patch(subject, "linux", T0, OLD),
        canceling_patch(subject, OLD),
        finish_patch(subject, Finish(Phase.CANCELED, "on request"), T0, OLD),
    ):
        assert patch["status"]["phase"] in known
    canceled = finish_patch(subject, Finish(Phase.CANCELED, "on request"), T0, OLD)["status"]
    assert (canceled["phase"], canceled["message"]) == ("Failed", "canceled: on request")


def test_accepted_on_1_15_is_also_annotated() -> None:
    notes = accept_patch(move("DataUpload"), "n", T0, OLD)["metadata"]["annotations"]
    assert notes == {"velero.io/accepted-at": "2026-11-21T12:00:00Z", "velero.io/accepted-by": "n"}
    assert "annotations" not in accept_patch(move("DataUpload"), "n", T0, NEW)["metadata"]


def test_data_upload_that_ends_before_it_was_accepted_is_kept_until_its_snapshot_is_cleaned_up() -> None:
    canceled = Finish(Phase.CANCELED, "on request")
    kept = finish_patch(move("DataUpload", "New"), canceled, T0, NEW)["metadata"]["finalizers"]
    assert kept == ["velero.io/data-upload-download-finalizer"]
    for subject in (move("DataUpload", "Accepted"), move("DataDownload", "New")):
        assert "finalizers" not in finish_patch(subject, canceled, T0, NEW)["metadata"]


def test_completed_data_upload_has_all_that_later_restores_read() -> None:
    status = finish_patch(move("DataUpload", "InProgress"), Finish(Phase.COMPLETED, outcome=SAVED), T0, NEW)[
        "status"
    ]
    assert status["snapshotID"] == "ab"
    assert status["progress"] == {"totalBytes": 9, "bytesDone": 9}
    assert status["incrementalBytes"] == 4
    assert status["message"] is None


def test_failed_move_keeps_a_snapshot_id_only_if_there_is_one() -> None:
    for snapshot_id in ("", "ab"):
        outcome = Outcome(succeeded=False, message="x", snapshot_id=snapshot_id)
        status = finish_patch(move("PodVolumeBackup"), Finish(Phase.FAILED, "x", outcome), T0, NEW)["status"]
        assert status.get("snapshotID", "") == snapshot_id


def test_waiting_reason_is_shown_once_and_cleared_on_leaving() -> None:
    version = {"resourceVersion": "1"}
    told = {"status": {"message": "waiting: no node"}, "metadata": version}
    assert message_patch(move("DataUpload"), "no node") == told
    shown = move("DataUpload", "Accepted", status={"message": "waiting: no node"})
    assert message_patch(shown, "no node") is None
    assert message_patch(shown, "") == {"status": {"message": None}, "metadata": version}
    assert prepare_patch(shown, "n", NEW)["status"]["message"] is None


def test_servers_message_is_not_overwritten_by_a_waiting_reason() -> None:
    assert message_patch(move("DataUpload", status={"message": "mark it as cancel"}), "no node") is None


def test_outcome_survives_the_round_trip_through_the_object() -> None:
    subject = body("DataDownload")
    noted = merge_patch(subject, outcome_patch(parse_move(DATA_DOWNLOAD, subject), SAVED))
    noted["metadata"]["resourceVersion"] = "2"
    assert recorded_outcome(parse_move(DATA_DOWNLOAD, noted)) == SAVED


def test_release_keeps_finalizers_of_others() -> None:
    subject = move(
        "DataUpload", metadata={"finalizers": ["other.io/x", "velero.io/data-upload-download-finalizer"]}
    )
    assert release_patch(subject)["metadata"]["finalizers"] == ["other.io/x"]
