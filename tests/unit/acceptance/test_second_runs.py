"""What a test of the real cluster that has failed counts as, after it was run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.run import AGAIN, SECOND_RUN, UNSETTLED, Run

if TYPE_CHECKING:
    from tests.acceptance.report import Line


@pytest.mark.parametrize(
    ("outcomes", "counts_as"),
    [
        (["passed"], "passed"),
        (["failed", "passed"], SECOND_RUN),
        (["failed", "failed", "passed"], "passed on third run"),
        (["failed", "failed", "failed"], "failed"),
        (["failed"], UNSETTLED),
        (["failed", "failed"], "failed"),
    ],
)
def test_a_failure_counts_when_it_has_failed_again(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[str], counts_as: str
) -> None:
    """No time for a second run leaves it open; what has failed twice is not excused by a lack of time."""
    answers = [_line(outcome) for outcome in outcomes]
    run = Run(float("inf"), {"test": answers.pop(0)})

    def session(_run: Run, _title: str, *_tests: str, **_options: Any) -> dict[str, Line]:
        return {"test": answers.pop(0)} if answers else {}

    monkeypatch.setattr(Run, "session", session)
    for again in AGAIN:
        run.once_more(*again)
    assert run.lines["test"]["outcome"] == counts_as
    assert not answers


def _line(outcome: str) -> Any:
    return {"id": "test", "outcome": outcome}
