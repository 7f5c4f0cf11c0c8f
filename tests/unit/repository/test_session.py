"""The Python API over a real repository in a temporary directory."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import repository
from repository import BackupOptions, OpenOptions, RestoreOptions, Session, Source, Stream
from repository.errors import (
    AccessDeniedError,
    InvalidPasswordError,
    InvalidRequestError,
    ObjectNotFoundError,
    RepositoryExistsError,
    RepositoryNotFoundError,
    SnapshotNotFoundError,
)
from repository.policies import Target

PASSWORD = "a password that must not be told"
FAST = repository.CreateOptions(key_derivation="pbkdf2-sha256-600000")


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = str(tmp_path / "repository")
    repository.create_repository(url, PASSWORD, FAST)
    return url


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    with repository.open_repository(url, PASSWORD, OpenOptions(username="me", hostname="here")) as session:
        yield session


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("alpha")
    (root / "sub" / "b.bin").write_bytes(bytes(range(256)) * 1000)
    (root / "link").symlink_to("a.txt")
    return root


def test_what_was_backed_up_is_listed_walked_read_and_restored(
    session: Session, tree: Path, tmp_path: Path
) -> None:
    result = session.backup(tree, BackupOptions(tags={"tag:kind": "test"}, description="said"))
    snapshot = session.snapshot(result.snapshot.id)
    assert [one.id for one in session.snapshots()] == [snapshot.id]
    assert snapshot.source == Source("me", "here", str(tree))
    assert (snapshot.description, snapshot.tags) == ("said", {"tag:kind": "test"})
    assert [entry.path for entry in session.walk(snapshot.id)] == ["", "sub", "sub/b.bin", "a.txt", "link"]
    assert [entry.path for entry in session.entries(f"{snapshot.id}/sub")] == ["b.bin"]
    restored = session.restore(snapshot.id, tmp_path / "out")
    assert (restored.file_count, restored.symlink_count, restored.failed_count) == (2, 1, 0)
    assert (tmp_path / "out/sub/b.bin").read_bytes() == (tree / "sub/b.bin").read_bytes()


def test_a_file_is_a_seekable_stream(session: Session, tree: Path) -> None:
    snapshot = session.backup(tree).snapshot
    expected = (tree / "sub/b.bin").read_bytes()
    with session.open_file(f"{snapshot.id}/sub/b.bin") as file:
        assert isinstance(file, io.BufferedReader)
        assert file.read() == expected
        assert file.seek(-10, io.SEEK_END) == len(expected) - 10
        assert file.read(100) == expected[-10:]
        file.seek(70_000)
        assert file.read(300) == expected[70_000:70_300]
        assert file.tell() == 70_300
        file.seek(0)
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(expected).digest()
        with pytest.raises((InvalidRequestError, OSError, ValueError)):
            file.seek(-1)


def test_unchanged_files_are_not_read_again_and_changes_are_told(session: Session, tree: Path) -> None:
    first = session.backup(tree)
    (tree / "new").write_text("new")
    (tree / "link").unlink()
    second = session.backup(tree)
    assert first.files_cached == 0
    assert second.files_cached == 2
    assert second.parents == (first.snapshot.id,)
    changes = {one.path: one.change for one in session.diff(first.snapshot.id, second.snapshot.id)}
    assert {path: change for path, change in changes.items() if path} == {"new": "added", "link": "removed"}


def test_a_stream_becomes_a_file(session: Session, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"streamed" * 1000)
    with (tmp_path / "data").open("rb") as data:
        options = BackupOptions(stream=Stream(data.fileno(), "dump.sql"))
        snapshot = session.backup("/databases/main", options).snapshot
    assert snapshot.source.path == "/databases/main"
    with session.open_file(f"{snapshot.id}/dump.sql") as file:
        assert file.read() == b"streamed" * 1000


def test_a_canceled_backup_is_saved_as_incomplete(session: Session, tree: Path) -> None:
    cancel = repository.CancelToken()
    cancel.cancel()
    result = session.backup(tree, cancel=cancel)
    assert result.snapshot.incomplete_reason == "canceled"


def test_progress_can_be_read_from_another_thread(session: Session, tree: Path) -> None:
    progress = repository.Progress()
    assert set(progress.read().values()) == {0}
    worker = threading.Thread(target=lambda: session.backup(tree, progress=progress))
    worker.start()
    worker.join()
    assert progress.read()["files_done"] >= 2


def test_snapshots_are_pinned_and_deleted(session: Session, tree: Path) -> None:
    first = session.backup(tree).snapshot
    pinned = session.pin_snapshot(first.id, add=["keep"])
    assert session.snapshot(pinned).pins == ("keep",)
    session.delete_snapshots([pinned])
    assert session.snapshots() == []
    with pytest.raises(SnapshotNotFoundError, match=pinned):
        session.snapshot(pinned)


def test_a_policy_is_found_for_exactly_its_target(session: Session) -> None:
    target = Target("me", "here", "/data")
    assert session.policy(target) == {}
    session.set_policy(target, {"retention": {"keepLatest": 1}})
    session.set_policy(target, {"retention": {"keepLatest": 2}})
    assert session.policy(target) == {"retention": {"keepLatest": 2}}
    assert session.policy(Target("me", "here")) == {}
    assert [str(one.target) for one in session.policies()] == ["(global)", "me@here:/data"]


def test_what_is_in_force_comes_from_above_and_expires_snapshots(session: Session, tree: Path) -> None:
    source = Source("me", "here", str(tree))
    session.set_policy(Target("me", "here"), {"retention": {"keepLatest": 2}})
    kept = dict.fromkeys(("keepHourly", "keepDaily", "keepWeekly", "keepMonthly", "keepAnnual"), 0)
    session.set_policy(Target("me", "here", str(tree)), {"retention": kept})
    retention = session.effective_policy(Target("me", "here", str(tree)))["retention"]
    assert (retention["keepLatest"], retention["keepDaily"]) == (2, 0)
    taken = [session.backup(tree).snapshot.id for _ in range(3)]
    assert [one.id for one in session.snapshots(source)] == taken[1:]
    assert session.retention_reasons(source) == {taken[1]: ["latest-2"], taken[2]: ["latest-1"]}
    session.set_policy(Target("me", "here", str(tree)), {"retention": kept | {"keepLatest": 1}})
    assert session.expire_snapshots(source, dry_run=True) == [taken[1]]
    assert session.expire_snapshots(source) == [taken[1]]
    assert [one.id for one in session.snapshots(source)] == taken[2:]


def test_contents_blobs_and_indexes_can_be_looked_at(session: Session, tree: Path) -> None:
    session.backup(tree)
    contents = {one["contentID"]: one for one in session.contents()}
    directory = next(one for one in contents if one.startswith("k"))
    assert session.content(directory).startswith(b'{"stream":"kopia:directory"')
    assert session.content_info(directory) == contents[directory]
    assert [one["contentID"] for one in session.contents("k")] == [k for k in contents if k[0] == "k"]
    packs = {one["id"]: one["length"] for one in session.blobs("p")}
    assert contents[next(iter(contents))]["packFile"] in packs
    indexed = {
        one["contentID"] for blob in session.blobs("xn") for one in session.index_entries(str(blob["id"]))
    }
    assert indexed == set(contents)


def test_what_is_not_there_is_named(session: Session, tree: Path) -> None:
    snapshot = session.backup(tree).snapshot
    with pytest.raises(ObjectNotFoundError, match="nowhere"):
        session.entry(f"{snapshot.id}/nowhere")
    with pytest.raises(SnapshotNotFoundError):
        session.entry("0123456789abcdef0123456789abcdef/sub")
    with pytest.raises(InvalidRequestError, match="directory"):
        session.open_file(f"{snapshot.id}/sub")


def test_a_repository_that_cannot_be_opened_says_why_and_not_the_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError, match="nowhere"):
        repository.open_repository(str(tmp_path / "nowhere"), PASSWORD)
    with pytest.raises(InvalidPasswordError) as wrong:
        repository.open_repository(url, PASSWORD + "!")
    assert PASSWORD not in str(wrong.value)
    with pytest.raises(RepositoryExistsError):
        repository.create_repository(url, PASSWORD, FAST)
    with pytest.raises(InvalidRequestError, match="gopher"):
        repository.open_repository("gopher://hole", PASSWORD)


def test_read_only_refuses_to_write_and_closed_refuses_everything(url: str, tree: Path) -> None:
    options = OpenOptions(connection=repository.ConnectionOptions(read_only=True))
    session = repository.open_repository(url, PASSWORD, options)
    with session, pytest.raises(AccessDeniedError, match="reading only"):
        session.backup(tree)
    session.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        session.snapshots()


def test_an_existing_file_is_treated_as_asked(session: Session, tree: Path, tmp_path: Path) -> None:
    snapshot = session.backup(tree).snapshot
    session.restore(snapshot.id, tmp_path / "out")
    again = session.restore(snapshot.id, tmp_path / "out", RestoreOptions(overwrite="skip"))
    assert again.skipped_count == 3
    never = RestoreOptions(overwrite="never", ignore_errors=True)
    refused = session.restore(f"{snapshot.id}/a.txt", tmp_path / "out/a.txt", never)
    assert (refused.failed_count, len(refused.failures)) == (1, 1)
