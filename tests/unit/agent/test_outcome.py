from __future__ import annotations

from dataclasses import replace

import pytest

from agent.moves.custom_resources import DATA_DOWNLOAD, DATA_UPLOAD
from agent.moves.outcome import outcome_of_end, read_outcome
from exposer.hosting_pod import HostingPod, PodState, view_hosting_pod
from mover.protocol import End, decode_end, encode_end, encode_failure


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


def test_mover_killed_with_its_pod_says_that_the_pod_was_deleted() -> None:
    killed = replace(ended(PodState.FAILED, "", "mover ended with exit code 137"), deleting=True)
    outcome = read_outcome(DATA_UPLOAD, killed)
    assert outcome is not None
    assert outcome.message == (
        "hosting pod was deleted (node drained, or pod evicted?): mover ended with exit code 137"
    )


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


def test_last_line_of_the_log_says_what_the_termination_message_says() -> None:
    text = '{"snapshotID":"ab","totalBytes":9}'
    end = decode_end(encode_end(End(0, text)))
    assert end is not None
    assert outcome_of_end(DATA_UPLOAD, end) == read_outcome(DATA_UPLOAD, ended(PodState.SUCCEEDED, text))
    canceled = outcome_of_end(DATA_UPLOAD, End(10, encode_failure("stopped", canceled=True)))
    assert canceled is not None
    assert (canceled.succeeded, canceled.canceled) == (False, True)


@pytest.mark.parametrize(
    "line", ["", "the end", '{"event":"end"}', '{"event":"end","code":"x","text":""}', '["end"]']
)
def test_other_lines_of_the_log_are_no_end(line: str) -> None:
    assert decode_end(line) is None


def test_running_mover_has_no_outcome() -> None:
    assert read_outcome(DATA_UPLOAD, HostingPod(PodState.RUNNING)) is None


def test_what_a_volume_refused_is_the_message_of_a_restore_that_succeeded() -> None:
    text = (
        '{"target":{"byPath":"/u"},"totalBytes":3,"record":{"refused":2,"remark":"the volume refused owner"}}'
    )
    outcome = read_outcome(DATA_DOWNLOAD, ended(PodState.SUCCEEDED, text))
    assert outcome is not None
    assert (outcome.succeeded, outcome.message) == (True, "the volume refused owner")
