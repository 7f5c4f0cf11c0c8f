"""What people read: sizes, counts, times, progress, failures and their exit codes."""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mover import exit_codes
from mover.arguments import percent, positive, seconds, size, tags
from mover.cli import main
from mover.commands.tree import say_differences, say_entries
from mover.console import count_text, duration_text, escaped, say, say_json, say_json_lines, size_text, tell
from mover.failure import report
from mover.progress_display import ProgressDisplay
from mover.usage import UsageError
from repository import errors
from repository.engine import Progress
from repository.snapshots import Difference, Entry


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (20_971_520, "21 MB"),
        (10_485_760, "10.5 MB"),
        (2e18, "2000 PB"),
    ],
)
def test_sizes_read_as_kopias(value: float, text: str) -> None:
    assert size_text(value) == text


def test_counts_and_times_read_well() -> None:
    assert [count_text(1, "file"), count_text(2000, "file")] == ["1 file", "2,000 files"]
    assert count_text(3, "directory") == "3 directories"
    assert [duration_text(value) for value in (0.26, 12, 200, 7500)] == [
        "0.3 s",
        "12 s",
        "3 min 20 s",
        "2 h 05 min",
    ]


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (size, "512M", 512 << 20),
        (size, "1.5 GiB", 3 << 29),
        (size, "7", 7),
        (size, "2kb", 2048),
        (percent, "12.5", 12.5),
        (positive, "3", 3),
        (seconds, "45m", 2700.0),
        (seconds, "1.5", 1.5),
    ],
)
def test_texts_of_options_are_read(read: Callable[[str], float], text: str, value: float) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (size, "big"),
        (size, "-1"),
        (size, "1X"),
        (percent, "-1"),
        (percent, "nan"),
        (positive, "0"),
        (seconds, "1y"),
    ],
)
def test_texts_that_make_no_sense_are_refused(read: Callable[[str], float], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        read(text)


def test_tags_become_kopias_labels() -> None:
    assert tags(["kind:nightly", "url:a:b"]) == {"tag:kind": "nightly", "tag:url": "a:b"}
    for wrong in (["kind"], [":x"], ["a:b", "a:c"]):
        with pytest.raises(errors.InvalidRequestError):
            tags(wrong)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CanceledError("x"), 10),
        (errors.InvalidRequestError("x"), 2),
        (errors.StorageUnavailableError("x", temporary=True), 20),
        (errors.StorageUnavailableError("x"), 30),
        (errors.RepositoryNotFoundError("x"), 31),
        (errors.InvalidPasswordError("x"), 32),
        (errors.SnapshotNotFoundError("x"), 33),
        (errors.ObjectNotFoundError("x"), 30),
        (errors.CorruptedError("x"), 40),
        (errors.BlobNotFoundError("x"), 40),
        (OSError(28, "No space left on device", "/mnt"), 30),
        (KeyboardInterrupt(), 10),
        (ZeroDivisionError("mistake"), 30),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error, debug=False) == code
    shown = capsys.readouterr().err
    assert shown.startswith("mover: ")
    assert shown.count("\n") == 1
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("error", "kind", "code", "temporary"),
    [
        (
            errors.SnapshotNotFoundError("no snapshot", context={"id": "x"}),
            "SnapshotNotFoundError",
            33,
            False,
        ),
        (errors.StorageUnavailableError("away", temporary=True), "StorageUnavailableError", 20, True),
        (UsageError("no command"), "UsageError", 2, False),
    ],
)
def test_with_json_a_failure_is_a_document_in_one_line(
    error: Exception, kind: str, code: int, temporary: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error, debug=False, as_json=True) == code
    assert json.loads(capsys.readouterr().err) == {
        "error": str(error),
        "kind": kind,
        "exitCode": code,
        "temporary": temporary,
        "context": getattr(error, "context", {}),
    }


def test_debug_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ZeroDivisionError("mistake"), debug=True) == 30
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_every_exit_code_has_its_meaning() -> None:
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    assert codes == set(exit_codes.MEANINGS)


def test_an_array_is_one_document_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    say_json_lines([])
    assert capsys.readouterr().out == "[]\n"
    say_json_lines({"n": n} for n in range(2))
    assert capsys.readouterr().out == '[\n {"n": 0},\n {"n": 1}\n]\n'


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _display(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *, quiet: bool = False) -> ProgressDisplay:
    monkeypatch.setattr("sys.stderr", stream)
    arguments = argparse.Namespace(quiet=quiet, progress_interval_seconds=10.0)
    return ProgressDisplay("backup", arguments, bytes_expected=4_000_000_000)


def _reading() -> dict[str, int]:
    return Progress().read() | {
        "files_done": 1234,
        "bytes_read": 2_000_000_000,
        "bytes_cached": 1_000_000_000,
    }


def test_a_terminal_has_one_live_line_that_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()
    display = _display(monkeypatch, stream)
    display.show(_reading())
    shown = stream.getvalue()
    assert shown.startswith("\r1,234 files  2 GB read  1 GB unchanged")
    assert "/s" in shown
    assert "\n" not in shown
    display.clear()
    assert stream.getvalue().endswith("\r\x1b[K")
    assert display.interval_seconds < 1


def test_every_command_that_shows_progress_can() -> None:
    """A work whose name the display does not know would end the command after some seconds of it."""
    commands = Path(exit_codes.__file__).parent / "commands"
    works = {
        name
        for module in commands.glob("*.py")
        for name in re.findall(r'ProgressDisplay\(\s*"([\w ]+)"', module.read_text(encoding="utf-8"))
    }
    assert {"backup", "maintain", "repair"} <= works
    for work in works:
        arguments = argparse.Namespace(quiet=False, progress_interval_seconds=10.0)
        ProgressDisplay(work, arguments).show(_reading())


def test_elsewhere_there_is_a_line_now_and_then_and_with_quiet_none(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    display = _display(monkeypatch, stream)
    assert display.interval_seconds == 10
    display.show(_reading())
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()
    silent = io.StringIO()
    _display(monkeypatch, silent, quiet=True).show(_reading())
    assert silent.getvalue() == ""


HOSTILE = "a\x1b]0;owned\x07\nmover: all is well\x9b2J\x7f\u202egnp"


def test_what_comes_from_data_gives_a_terminal_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    assert escaped(HOSTILE) == r"a\x1b]0;owned\x07\nmover: all is well\x9b2J\x7f\u202egnp"
    assert escaped("M\u00fcller \u65e5\u672c \\n") == "M\u00fcller \u65e5\u672c \\n"
    say(HOSTILE)
    tell(HOSTILE)
    report(errors.FilesystemError(HOSTILE), debug=False)
    say_json({"name": HOSTILE})
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert json.loads(lines[-1]) == {"name": HOSTILE}
    assert captured.err.splitlines() == [f"mover: {escaped(HOSTILE)}"] * 2
    assert not set(captured.out + captured.err) & set("\x1b\x07\x9b\x7f\u202e")


def test_names_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    say_entries(
        argparse.Namespace(json=False, long=False, recursive=True), [Entry("real\n+ forged", {"type": "f"})]
    )
    say_differences(argparse.Namespace(json=False), [Difference("x\n+ forged", "added", None, None)])
    assert capsys.readouterr().out == "real\\n+ forged\n+ x\\n+ forged\n"


def test_standard_output_of_ascii_only_shows_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr("sys.stdout", out)
    assert main(["--version"]) == 0
    say("M\u00fcller")
    say_json({"name": "M\u00fcller"})
    out.flush()
    lines = out.buffer.getvalue().splitlines()[1:]
    assert lines[0] == rb"M\xfcller"
    assert json.loads(lines[1]) == {"name": "M\u00fcller"}
