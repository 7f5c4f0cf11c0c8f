"""The mover's entry with an engine of the test: every end has its exit code and its termination message."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mover.cancel import CanceledError, CancelToken
from mover.engine import PartialSnapshotError
from mover.memory import engine_budget_bytes
from mover.pod import main, serve
from mover.protocol import (
    CANCELED_TEXT,
    TERMINATION_LENGTH_MAX,
    BackupRequest,
    End,
    Progress,
    RepositoryAccess,
    RestoreRequest,
    Result,
    encode_request,
)
from mover.restore_pod import DoneFileError, write_done_file
from repository.errors import AccessDeniedError, CorruptedError, StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ACCESS = RepositoryAccess("default", {"provider": "fs"}, "app", "/password")


class FakeEngine:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error, self.done = error, Progress()

    @contextmanager
    def open(self, access: RepositoryAccess, source: str = "") -> Iterator[FakeEngine]:
        self.source = source
        yield self

    def progress(self) -> Progress:
        return self.done

    def _work(self, cancel: CancelToken) -> None:
        if self.error is not None:
            raise self.error
        self.done = Progress(10, 10)

    def backup(self, request: BackupRequest, cancel: CancelToken) -> Result:
        self._work(cancel)
        return Result(10, "ab", 4, {"files": 2})

    def restore(self, request: RestoreRequest, cancel: CancelToken) -> Result:
        self._work(cancel)
        return Result(10)


class Reports:
    def __init__(self) -> None:
        self.lines: list[Progress] = []
        self.text = ""

    def progress(self, progress: Progress) -> None:
        self.lines.append(progress)

    def finished(self, end: End) -> None:
        self.text = end.text


def backup(
    directory: Path,
    role: str = "backup",
    error: BaseException | None = None,
    cancel: CancelToken | None = None,
) -> tuple[int, Reports]:
    (directory / "request").write_text(
        encode_request(BackupRequest("du", "u", "/u", "Filesystem", ACCESS, "path"))
    )
    reports = Reports()
    return serve(role, [directory], reports, cancel or CancelToken(), FakeEngine(error)), reports


def test_success_is_reported_in_upstreams_fields_first(tmp_path: Path) -> None:
    code, reports = backup(tmp_path)
    assert code == 0
    assert reports.text.startswith(
        '{"snapshotID":"ab","emptySnapshot":false,"source":{"byPath":"/u","volumeMode":"Filesystem"},"totalBytes":10,"incrementalBytes":4'
    )
    assert json.loads(reports.text)["record"] == {"files": 2}
    assert reports.lines[-1] == Progress(10, 10)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StorageUnavailableError("bucket is away", temporary=True), 20, "bucket is away"),
        (AccessDeniedError("access denied"), 30, "access denied"),
        (CorruptedError("seal does not fit"), 40, "seal does not fit"),
        (CanceledError("canceled"), 10, "canceled: data path is canceled"),
        (ValueError("a bug"), 30, "a bug"),
        (RuntimeError(), 30, "RuntimeError"),
    ],
)
def test_every_failure_has_its_exit_code_and_a_message(
    tmp_path: Path, error: Exception, code: int, text: str
) -> None:
    result, reports = backup(tmp_path, error=error)
    assert (result, reports.text) == (code, text)


def test_snapshot_saved_in_spite_of_errors_is_named(tmp_path: Path) -> None:
    code, reports = backup(tmp_path, error=PartialSnapshotError("Error when processing a: denied", "ab"))
    assert code == 30
    assert json.loads(reports.text) == {"snapshotID": "ab", "error": "Error when processing a: denied"}


def test_pod_that_is_taken_away_is_no_cancel(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel(terminated=True)
    code, reports = backup(tmp_path, error=CanceledError("canceled"), cancel=cancel)
    assert code == 20
    assert "SIGTERM" in reports.text
    assert not reports.text.endswith("data path is canceled")


@pytest.mark.parametrize("rest", ["x", "я", "\n", '"', "\U0001f600", "\x01", "\udc80"])
@pytest.mark.parametrize(
    "kind", [ValueError, CanceledError, lambda text: PartialSnapshotError(text, "ab" * 16)]
)
def test_message_fits_into_what_a_kubelet_keeps_with_its_cause_in_front(
    tmp_path: Path, kind: Callable[[str], Exception], rest: str
) -> None:
    """Bytes count, whatever the characters; a kubelet keeps the last ones of what is longer."""
    _, reports = backup(tmp_path, error=kind("cause " + rest * 10000))
    assert len(reports.text.encode()) <= TERMINATION_LENGTH_MAX
    said = json.loads(reports.text)["error"] if reports.text.startswith("{") else reports.text
    assert said.startswith("cause ")
    assert len(said) > TERMINATION_LENGTH_MAX // 10
    assert reports.text.endswith(CANCELED_TEXT) == (kind is CanceledError)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"version": 99}', "version 99"),
        ('{"version":1,"kind":"move"}', "unknown kind"),
    ],
)
def test_unreadable_request_is_a_failure_with_its_reason(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "request").write_text(text)
    reports = Reports()
    assert serve("backup", [tmp_path], reports, CancelToken(), FakeEngine()) == 30
    assert said in reports.text


def test_request_for_another_role_is_refused(tmp_path: Path) -> None:
    code, reports = backup(tmp_path, role="restore")
    assert code == 30
    assert "BackupRequest was sent to a mover for restore" in reports.text


def test_mover_waits_for_its_request_and_starts_at_once_when_it_comes(tmp_path: Path) -> None:
    reports, codes = Reports(), []
    (tmp_path / "request").write_text("")  # as the downward API shows a missing annotation
    thread = threading.Thread(
        target=lambda: codes.append(serve("backup", [tmp_path], reports, CancelToken(), FakeEngine()))
    )
    thread.start()
    time.sleep(0.15)
    assert thread.is_alive()
    begun = time.monotonic()
    (tmp_path / "request").write_text(
        encode_request(BackupRequest("du", "u", "/u", "Filesystem", ACCESS, "path"))
    )
    thread.join(2)
    assert codes == [0]
    assert time.monotonic() - begun < 1


def test_whichever_of_agent_and_kubelet_brings_the_request_first_starts_it(tmp_path: Path) -> None:
    kubelet, agent = tmp_path / "kubelet", tmp_path / "agent"
    for directory in (kubelet, agent):
        directory.mkdir()
    (kubelet / "request").write_text("")
    text = encode_request(BackupRequest("du", "u", "/u", "Filesystem", ACCESS, "path"))
    (agent / "request").write_text(text)
    assert serve("backup", [kubelet, agent], Reports(), CancelToken(), FakeEngine()) == 0
    (agent / "request").unlink()
    (kubelet / "request").write_text(text)
    assert serve("backup", [kubelet, agent], Reports(), CancelToken(), FakeEngine()) == 0
    (agent / "cancel").write_text("now")
    (kubelet / "request").write_text("")
    assert serve("backup", [kubelet, agent], Reports(), CancelToken(), FakeEngine()) == 10


def test_cancel_before_the_start_ends_the_wait(tmp_path: Path) -> None:
    (tmp_path / "cancel").write_text("now")
    reports = Reports()
    assert serve("backup", [tmp_path], reports, CancelToken(), FakeEngine()) == 10
    assert reports.text.endswith("data path is canceled")


def test_done_file_is_written_in_a_fresh_directory_with_upstreams_modes(tmp_path: Path) -> None:
    (tmp_path / ".velero").mkdir()
    (tmp_path / ".velero" / "of-an-earlier-restore").touch()
    request = RestoreRequest("pvr", "u", str(tmp_path), "Filesystem", ACCESS, "ab", done_file="restore-uid")
    directory = tmp_path / "requests"
    directory.mkdir()
    (directory / "request").write_text(encode_request(request))
    assert serve("restore", [directory], Reports(), CancelToken(), FakeEngine()) == 0
    assert [path.name for path in (tmp_path / ".velero").iterdir()] == ["restore-uid"]
    assert stat.S_IMODE((tmp_path / ".velero").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / ".velero" / "restore-uid").stat().st_mode) == 0o644


def test_done_file_does_not_follow_a_link_that_came_with_the_data(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    volume.mkdir()
    (outside / "precious").touch()
    (volume / ".velero").symlink_to(outside)
    write_done_file(volume, "uid")
    assert (outside / "precious").exists()
    assert not (volume / ".velero").is_symlink()


def test_done_file_does_not_follow_a_link_that_is_swapped_in_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    volume.mkdir()
    make = os.mkdir

    def swap(path: str, *arguments: int, **named: int) -> None:
        make(path, *arguments, **named)
        (volume / ".velero").rmdir()
        (volume / ".velero").symlink_to(outside)

    monkeypatch.setattr(os, "mkdir", swap)
    with pytest.raises(DoneFileError, match="cannot be written"):
        write_done_file(volume, "uid")
    assert list(outside.iterdir()) == []


def test_done_file_replaces_nothing_that_was_put_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").write_text("data")
    (tmp_path / "volume").mkdir()
    make = os.mkdir

    def swap(path: str, *arguments: int, **named: int) -> None:
        make(path, *arguments, **named)
        (tmp_path / "volume" / ".velero" / "uid").symlink_to(tmp_path / "precious")

    monkeypatch.setattr(os, "mkdir", swap)
    with pytest.raises(DoneFileError, match="cannot be written"):
        write_done_file(tmp_path / "volume", "uid")
    assert (tmp_path / "precious").read_text() == "data"


def test_panic_of_the_engine_is_a_failure_with_a_message(tmp_path: Path) -> None:
    class PanicException(BaseException):
        """As pyo3 makes it: no `Exception`."""

    code, reports = backup(tmp_path, error=PanicException("capacity overflow"))
    assert code == 30
    assert "PanicException: capacity overflow" in reports.text


@pytest.mark.parametrize("name", ["..", "../../outside", "a/b"])
def test_done_file_is_never_written_outside_of_its_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(DoneFileError, match="cannot name a file"):
        write_done_file(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_done_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DoneFileError, match="cannot be written"):
        write_done_file(tmp_path / "gone", "uid")


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["move"]) == 2
    assert "backup|restore" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "budget"),
    [("max", None), (str(1 << 40), None), (str(120 << 20), 80 << 20), (str(50 << 20), 64 << 20)],
)
def test_engine_budget_follows_the_containers_limit(tmp_path: Path, text: str, budget: int | None) -> None:
    path = tmp_path / "memory.max"
    path.write_text(text)
    assert engine_budget_bytes((str(path),)) == budget
