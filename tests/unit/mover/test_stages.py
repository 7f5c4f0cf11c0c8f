from __future__ import annotations

import json

import pytest

from mover import stages
from mover.stages import Stages


def test_slowest_stage_is_named_and_retries_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [[("warning", "blob request retried error=busy"), ("info", "index was merged")], []]
    monkeypatch.setattr(stages, "drain_events", lambda: told.pop(0))
    clock = iter([0.0, 1.0, 1.0, 4.0, 4.0, 5.0])
    monkeypatch.setattr(stages.time, "monotonic", lambda: next(clock))
    one = Stages()
    for name in ("open", "move", "open"):
        with one.stage(name):
            pass
    one.hear()
    assert one.record() == {"retries": 1, "seconds": {"open": 2.0, "move": 3.0}, "slowestStage": "move"}
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["msg"] for line in lines] == ["blob request retried error=busy"]


def test_stage_that_fails_is_counted_too() -> None:
    one = Stages()
    with pytest.raises(RuntimeError), one.stage("open"):
        raise RuntimeError
    assert list(one.record()["seconds"]) == ["open"]
