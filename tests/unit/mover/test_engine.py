"""The real engine as hosting pods use it, on a repository in a directory."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mover import ahead
from mover.backup_pod import run_backup
from mover.cancel import CancelToken
from mover.protocol import BackupRequest, End, Progress, RepositoryAccess

if TYPE_CHECKING:
    from pathlib import Path

repository = pytest.importorskip("repository", reason="the engine is not built: make build")
kopia_engine = pytest.importorskip("mover.kopia_engine")


class Silent:
    def progress(self, progress: Progress) -> None:
        self.last = progress

    def finished(self, end: End) -> None: ...


def request_of(root: Path, mode: str = "Filesystem") -> BackupRequest:
    """Back up `root/source` into the repository `root/kopia/app`, which is made."""
    (root / "kopia").mkdir(exist_ok=True)
    if not (root / "kopia" / "app").exists():
        repository.create_repository(str(root / "kopia" / "app"), "password")
        (root / "password").write_text("password")
    location = {"provider": "fs", "config": {"fspath": str(root)}}
    access = RepositoryAccess("default", location, "app", str(root / "password"))
    return BackupRequest("du", "uid", str(root / "source"), mode, access, "app/data")


@pytest.mark.parametrize(
    ("processors", "mode", "parent", "looks"),
    [
        (2, "Filesystem", "", True),
        (2, "Block", "", False),
        (1, "Filesystem", "", False),
        (2, "Filesystem", "none", False),
    ],
)
def test_source_is_looked_at_while_the_repository_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int, mode: str, parent: str, *, looks: bool
) -> None:
    """Not where no file can be taken over from a parent: each is looked at again when it is opened."""
    monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda _: set(range(processors)))
    used: list[Any] = []
    backup = repository.Session.backup

    def spied(self: Any, path: str, options: Any, **given: Any) -> Any:
        used.append(given["ahead"])
        return backup(self, path, options, **given)

    monkeypatch.setattr(repository.Session, "backup", spied)
    source = tmp_path / "source"
    if mode == "Block":
        source.write_bytes(b"device")
    else:
        source.mkdir()
        (source / "file").write_text("content")
    began = time.time()
    request = replace(request_of(tmp_path, mode), parent_snapshot=parent)
    run_backup(request, kopia_engine.KopiaEngine(), Silent(), CancelToken())
    assert [one is not None for one in used] == [looks]
    assert time.time() - began < 60


def test_total_is_known_while_a_backup_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a count beside the first backup, by the last snapshot later, of a device by its length."""
    source, totals = tmp_path / "source", []
    source.mkdir()
    (source / "file").write_bytes(b"x" * 1000)
    backup = repository.Session.backup

    def watched(self: Any, path: str, options: Any, **given: Any) -> Any:
        end = time.monotonic() + 60
        while not opened.progress().total_bytes and time.monotonic() < end:
            time.sleep(0.01)
        totals.append(opened.progress().total_bytes)
        return backup(self, path, options, **given)

    monkeypatch.setattr(repository.Session, "backup", watched)
    request = request_of(tmp_path)
    for size in (1000, 5000):
        (source / "file").write_bytes(b"x" * size)
        with kopia_engine.KopiaEngine().open(request.repository) as opened:
            opened.backup(request, CancelToken())
            assert opened.progress().total_bytes == size
    (tmp_path / "device").write_bytes(b"y" * 70)
    block = BackupRequest("du", "uid", str(tmp_path / "device"), "Block", request.repository, "app/device")
    with kopia_engine.KopiaEngine().open(request.repository) as opened:
        opened.backup(block, CancelToken())
    assert totals == [1000, 1000, 70]


def test_move_that_fails_leaves_its_record_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_of(tmp_path)
    with pytest.raises(repository.DataMoverError):
        run_backup(request, kopia_engine.KopiaEngine(), Silent(), CancelToken())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    [record] = [line["record"] for line in lines if line["msg"] == "transfer record"]
    assert record["seconds"]["open"] > 0
    assert record["retries"] == 0
