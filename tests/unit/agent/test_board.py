from __future__ import annotations

import json

import pytest

from agent.control.history import History
from agent.control.last_day import LastDay
from agent.moves.custom_resources import Phase, format_time
from agent.moves.status_patch import RECORD_ANNOTATION
from agent.show.board import ordered, row
from agent.show.status_text import human_bytes, human_seconds, progress_text, render
from agent.show.web import content_security_policy
from tests.fakes.resources import after, move

STARTED = {"startTimestamp": "2026-11-21T12:00:00Z", "node": "n"}


def at_work(total: int = 3000, done: int = 1000) -> dict[str, object]:
    return STARTED | {"progress": {"totalBytes": total, "bytesDone": done}}


def test_rows_show_rate_time_left_and_why_something_waits() -> None:
    working = move("DataUpload", "InProgress", status=at_work())
    waiting = move("PodVolumeBackup", "Prepared", status={"message": "waiting: for one of 1 slots"})
    assert [item.phase for item in ordered([waiting, working])] == [Phase.IN_PROGRESS, Phase.PREPARED]
    shown = row(working, after(10))
    assert (shown["bytesPerSecond"], shown["secondsLeft"]) == (100, 20)
    assert (shown["owner"], shown["location"], shown["node"]) == ("b1", "default", "n")
    shown = row(waiting, after(10), [waiting.uid])
    assert (shown["waitingFor"], shown["placeInLine"]) == ("for one of 1 slots", 1)


def test_rows_of_moves_that_are_over_carry_their_transfer_record() -> None:
    record = {"files": 3, "fullBecause": "no earlier snapshot of this volume"}
    over = at_work(3000, 3000) | {"completionTimestamp": "2026-11-21T12:00:30Z"}
    notes = {"annotations": {RECORD_ANNOTATION: json.dumps(record)}}
    shown = row(move("DataUpload", "Completed", status=over, metadata=notes), after(3600))
    assert (shown["record"], shown["bytesPerSecond"]) == (record, 100)
    broken = move("DataUpload", "Completed", metadata={"annotations": {RECORD_ANNOTATION: "{"}})
    assert "record" not in row(broken, after(0))


def test_timeline_holds_what_the_resource_says_and_what_was_seen() -> None:
    history = History()
    history.saw(move("DataUpload", "Prepared"), after(4))
    status = at_work() | {
        "acceptedTimestamp": "2026-11-21T12:00:02Z",
        "startTimestamp": "2026-11-21T12:00:05Z",
    }
    steps = history.timeline(move("DataUpload", "InProgress", status=status))
    assert [(step["phase"], step["at"][-3:-1]) for step in steps] == [
        ("New", "00"),
        ("Accepted", "02"),
        ("Prepared", "04"),
        ("InProgress", "05"),
    ]


def test_timeline_of_a_move_that_never_began_has_no_beginning() -> None:
    moment = "2026-11-21T12:00:09Z"
    failed = move("DataUpload", "Failed", status={"startTimestamp": moment, "completionTimestamp": moment})
    assert [step["phase"] for step in History().timeline(failed)] == ["New", "Failed"]


def test_history_keeps_the_latest_and_no_more() -> None:
    history = History(3, LastDay(3))
    for second in (5, 1, 4, 2, 3):
        status = {"completionTimestamp": f"2026-11-21T12:00:0{second}Z"}
        over = move("DataUpload", "Completed", name=f"m{second}", status=status)
        history.saw(over, after(0))
        history.ended(over)
        history.ended(over)
    assert [over.name for over, _ in history.recent()] == ["m5", "m4", "m3"]
    assert not history.is_old("2026-11-21T12:00:02Z"), "a failed one would be kept"
    for second in range(3):
        status = {"completionTimestamp": f"2026-11-21T12:00:0{second}Z"}
        history.ended(move("DataUpload", "Failed", name=f"f{second}", status=status))
    assert [over.name for over, _ in history.recent()] == ["m5", "m4", "m3", "f2", "f1", "f0"]
    assert not history.is_old("2026-11-21T12:00:00Z")
    history.ended(
        move("DataUpload", "Failed", name="f9", status={"completionTimestamp": "2026-11-21T12:00:09Z"})
    )
    assert not history.is_old("2026-11-21T12:00:01Z")
    assert history.is_old("2026-11-21T12:00:00Z")


def test_status_text_says_why_and_fits_the_terminal() -> None:
    working = row(move("DataUpload", "InProgress", status=at_work()), after(10))
    waiting = row(
        move("PodVolumeBackup", "Prepared", status={"message": "waiting: for a slot"}),
        after(1),
        ["uid-move-1"],
    )
    failed = {"message": "no\n" + "long " * 100, "completionTimestamp": "2026-11-21T12:02:05Z"}
    over = row(move("DataDownload", "Failed", status=failed), after(200))
    text = render({"moves": [working, waiting], "recent": [over]}, width=120)
    assert "Under way: 2" in text
    assert "[####........]  33 % 1000 B of 2.9 KiB" in text
    assert "waiting: for a slot (number 1 in line)" in text
    assert "2 min 5 s" in text
    assert max(map(len, text.splitlines())) <= 125
    assert render({"moves": [], "recent": []}, width=80) == "Under way: 0\n\nRecent: 0"


def test_progress_without_a_total_shows_what_is_done() -> None:
    assert progress_text({"totalBytes": 0, "doneBytes": 2048}) == "2.0 KiB"
    assert progress_text({"totalBytes": 0, "doneBytes": 0}) == ""


def test_bars_of_the_last_day_say_who_waited_for_what_and_who_moved_and_are_bounded() -> None:
    history = History(1, LastDay(3))
    history.saw(
        move("DataUpload", "Prepared", name="m1", status={"message": "waiting: for a slot"}), after(1)
    )
    for number in (4, 1, 3, 2):
        times = {
            "startTimestamp": format_time(after(number)),
            "completionTimestamp": format_time(after(number * 10)),
        }
        history.ended(move("DataUpload", "Completed", name=f"m{number}", status=times | {"node": "n"}))
        if number == 1:
            [bar] = [bar for bar in history.day.bars(after(60)) if bar.uid == "uid-m1"]
            assert (bar.waited_for, bar.volume, bar.node, bar.owner) == ("for a slot", "app/data", "n", "b1")
            assert (bar.created, bar.started) == (format_time(after(0)), format_time(after(1)))
    assert [bar.uid for bar in history.day.bars(after(60))] == ["uid-m2", "uid-m3", "uid-m4"]
    assert [bar.uid for bar in history.day.bars(after(25 + 24 * 3600))] == ["uid-m3", "uid-m4"]
    same = format_time(after(50))
    failed = {"startTimestamp": same, "completionTimestamp": same}
    history.ended(move("DataUpload", "Failed", name="never", status=failed))
    assert history.day.bars(after(60))[-1].started == ""
    assert history.day.failed_count(after(60)) == 1
    assert history.day.failed_count(after(100000)) == 0


@pytest.mark.parametrize("width", [60, 80, 100])
def test_status_text_fits_narrow_terminals_and_keeps_what_matters(width: int) -> None:
    spec = {"sourceNamespace": "a-long-namespace", "sourcePVC": "and-a-claim-with-a-very-long-name-0"}
    working = row(
        move("DataUpload", "InProgress", name="nightly-2026112101-x7k2p", status=at_work(), spec=spec),
        after(10),
    )
    over = {"completionTimestamp": "2026-11-21T12:02:05Z", "node": "worker-17", "message": "broken " * 30}
    failed = row(
        move("DataUpload", "Failed", name="nightly-2026112101-9sd1f", status=over, spec=spec), after(200)
    )
    text = render({"moves": [working], "recent": [failed]}, width=width)
    assert max(map(len, text.splitlines())) <= width, text
    for word in ("InProgress", "Failed", "a-lo", "nigh", "> broken"):
        assert word in text, text
    if width >= 80:
        for word in ("2026-11-21T12:02:05Z", "33 % 1000 B of 2.9 KiB", "sd1f", "7k2p", "worker-17"):
            assert word in text, text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.9, "59 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


def test_policy_allows_the_page_s_own_parts_alone() -> None:
    policy = content_security_policy("<style>a</style><script>b</script>")
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='" in policy
    assert "unsafe-inline" not in policy
