from __future__ import annotations

import pytest

from agent.outcome import read_outcome
from agent.resources import DATA_DOWNLOAD, DATA_UPLOAD
from exposer.hosting_pod import HostingPod, PodState, view_hosting_pod


def ended(state: PodState, text: str, reason: str = "") -> HostingPod:
    return HostingPod(state, name="m", termination_message=text, reason=reason)


def test_result_of_upstreams_mover_is_read() -> None:
    text = '{"snapshotID":"ab","emptySnapshot":false,"source":{"byPath":"/uid","volumeMode":"Filesystem"},"totalBytes":9,"incrementalBytes":4}'
    outcome = read_outcome(DATA_UPLOAD, ended(PodState.SUCCEEDED, text))
    assert outcome is not None
    assert (outcome.succeeded, outcome.snapshot_id, outcome.path) == (True, "ab", "/uid")
    assert (outcome.total_bytes, outcome.incremental_bytes) == (9, 4)


@pytest.mark.parametrize(
    "text", ["", "not json", "[]", '{"totalBytes": "many", "snapshotID": "a"}', '{"totalBytes": 3}']
)
def test_success_without_a_readable_result_is_a_failure_with_a_message(text: str) -> None:
    outcome = read_outcome(DATA_UPLOAD, ended(PodState.SUCCEEDED, text))
    assert outcome is not None
    assert not outcome.succeeded
    assert outcome.message


def test_restore_needs_no_snapshot_id() -> None:
    outcome = read_outcome(
        DATA_DOWNLOAD, ended(PodState.SUCCEEDED, '{"target":{"byPath":"/u"},"totalBytes":3}')
    )
    assert outcome is not None
    assert outcome.succeeded


def test_killed_mover_without_a_message_still_says_why() -> None:
    pod = view_hosting_pod(
        {
            "metadata": {"name": "m"},
            "status": {
                "phase": "Failed",
                "containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}],
            },
        }
    )
    outcome = read_outcome(DATA_UPLOAD, pod)
    assert outcome is not None
    assert "OOMKilled" in outcome.message
    assert "memoryLimit" in outcome.message


def test_cancel_is_recognised_by_the_end_of_the_text() -> None:
    outcome = read_outcome(
        DATA_UPLOAD, ended(PodState.FAILED, "Data path for data upload x canceled: data path is canceled")
    )
    assert outcome is not None
    assert outcome.canceled


def test_snapshot_saved_in_spite_of_errors_is_kept() -> None:
    outcome = read_outcome(
        DATA_UPLOAD, ended(PodState.FAILED, '{"error": "3 files failed", "snapshotID": "ab"}')
    )
    assert outcome is not None
    assert (outcome.message, outcome.snapshot_id) == ("3 files failed", "ab")


def test_running_mover_has_no_outcome() -> None:
    assert read_outcome(DATA_UPLOAD, HostingPod(PodState.RUNNING)) is None
