"""The protocols `kopia` and `velero` of fsspec: the suite of fsspec itself for what reads, and every trap of ours."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import repository
from tests.velero_buckets import BucketCopy, claim, data_upload, pod_volume_backup, upstream_stream

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install -r requirements-dev.lock")

from fsspec.implementations.local import LocalFileSystem  # noqa: E402
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests  # noqa: E402

PASSWORD = "static-passw0rd"
LARGE = random.Random(7).randbytes(12_000_000)


class Scenarios(AbstractFixtures):
    """Makes the suite's trees on the disk, to be backed up once."""

    def make(self, root: Path) -> None:
        local = LocalFileSystem(auto_mkdir=True)
        makers = {
            "bulk": self._bulk_operations_scenario_0,
            "glob": self._glob_edge_cases_files,
            "prefix": self._dir_and_file_with_same_name_prefix,
            "hashed": self._10_files_with_hashed_names,
        }
        for name, make in makers.items():
            make(local, os.path.join, str(root / name))
        (root / "recursive/src").mkdir(parents=True)
        (root / "recursive/src/file").touch()


class Place:
    """One tree, in a repository and in a bucket of Velero."""

    def __init__(self, root: Path) -> None:
        self.tree = root / "tree"
        Scenarios().make(self.tree)
        own = self.tree / "own"
        (own / "deep" / "er").mkdir(parents=True)
        (own / "large").write_bytes(LARGE)
        (own / "deep/er/file").write_bytes(b"deep")
        (own / "empty").touch()
        (own / "csv").write_text("name,number\none,1\ntwo,2\n")
        (own / "link").symlink_to("deep/er/file")
        (own / "out").symlink_to("/etc/passwd")
        (own / "above").symlink_to("../../../../../etc/passwd")
        (own / "loop").symlink_to("loop")
        (own / "link-to-directory").symlink_to("deep")
        with zipfile.ZipFile(own / "archive.zip", "w") as archive:
            archive.writestr("inside.txt", "zipped")
        Path(os.fsdecode(os.fsencode(own) + b"/bad\xff")).write_bytes(b"no UTF-8")
        bad = Path(os.fsdecode(os.fsencode(own) + b"/dir\xfe"))
        bad.mkdir()
        (bad / "file").write_bytes(b"below it")
        self.copy = BucketCopy(root / "bucket")
        (root / "disk").write_bytes(LARGE[: 3 << 20])
        with self.copy.repository("shop") as session:
            self.snapshot = session.backup(self.tree).snapshot.id
            with (root / "disk").open("rb") as disk:
                stream = upstream_stream(disk.fileno(), "/dev/xvda")
                self.disk = session.backup("disk", repository.BackupOptions(stream=stream)).snapshot.id
        self.copy.backup(
            "b",
            members=claim("shop", "disk", mode="Block") | data_upload("shop", "disk", self.disk),
            podvolumebackups=[
                pod_volume_backup("shop", "db-0", "data", self.snapshot, claim_name="data"),
                pod_volume_backup("shop", "db-0", "log", self.snapshot),
                pod_volume_backup("shop", "db-0", "tmp", ""),
                pod_volume_backup("shop", "db-0", "old", "fb55f1a5", uploader="restic"),
            ],
        )
        self.copy.flatten()
        self.kopia = {"repo": str(self.copy.root / "kopia/shop"), "password": PASSWORD}
        self.velero = {"store": str(self.copy.root), "password": PASSWORD}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("fsspec"))


def pickled(thing: Any) -> Any:
    """What a worker gets of it."""
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - made here


class Opened:
    """A file system, and where the tree is in it."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self.fs, self.root = filesystem, root


@pytest.fixture(params=["kopia", "velero"])
def opened(request: pytest.FixtureRequest, place: Place) -> Opened:
    if request.param == "kopia":
        return Opened(fsspec.filesystem("kopia", **place.kopia), place.snapshot)
    return Opened(fsspec.filesystem("velero", **place.velero), "backups/b/shop/data")


class TestFsspecsOwnSuite(AbstractGetTests, AbstractFixtures):
    @pytest.fixture
    def fs(self, opened: Opened) -> Any:
        return opened.fs

    @pytest.fixture
    def fs_path(self, opened: Opened) -> str:
        return opened.root

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, opened: Opened) -> str:
        return f"{opened.root}/bulk/source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self, opened: Opened) -> str:
        return f"{opened.root}/glob/source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, opened: Opened) -> str:
        return f"{opened.root}/prefix/source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, opened: Opened) -> str:
        return f"{opened.root}/hashed/source"

    def test_get_directory_recursive(  # noqa: PLR0917 - the suite's
        self, fs: Any, fs_join: Any, fs_path: str, local_fs: Any, local_join: Any, local_target: str
    ) -> None:
        """The suite's own makes its files through the file system; the same steps over what is there."""
        source = f"{fs_path}/recursive/src"
        for loop in range(2):
            fs.get(source, local_target, recursive=True)
            assert local_fs.isfile(local_join(local_target, "file"))
            assert local_fs.isfile(local_join(local_target, "src", "file")) == (loop == 1)
        local_fs.rm(local_target, recursive=True)
        for _ in range(2):
            fs.get(source + "/", local_target, recursive=True)
            assert local_fs.isfile(local_join(local_target, "file"))
            assert not local_fs.exists(local_join(local_target, "src"))


def test_a_directory_that_was_not_listed_yet_lists_what_is_in_it(opened: Opened) -> None:
    """fsspec's `_ls_from_cache` would give the parent's entry here."""
    own = f"{opened.root}/own"
    assert f"{own}/deep" in opened.fs.ls(own, detail=False)
    assert opened.fs.ls(f"{own}/deep", detail=False) == [f"{own}/deep/er"]
    assert opened.fs.ls(f"{own}/csv", detail=False) == [f"{own}/csv"]
    assert opened.fs.find(f"{own}/deep") == [f"{own}/deep/er/file"]
    assert opened.fs.isdir(f"{own}/deep")
    assert not opened.fs.exists(f"{own}/none")
    assert not opened.fs.exists(f"{own}/csv/none")


def test_any_place_of_a_file_is_read_and_not_the_rest_of_it(opened: Opened) -> None:
    path = f"{opened.root}/own/large"
    with opened.fs.open(path) as file:
        assert file.size == len(LARGE)
        file.seek(9_000_001)
        assert file.read(1000) == LARGE[9_000_001:9_001_001]
        file.seek(-5, io.SEEK_END)
        assert file.read() == LARGE[-5:]
        copied = pickled(file)
        assert copied.tell() == len(LARGE)
    assert opened.fs.cat_file(path, start=-10) == LARGE[-10:]
    assert opened.fs.cat_file(path, start=5, end=-5) == LARGE[5:-5]
    assert opened.fs.cat_file(path, start=10, end=5) == b""
    ranges = opened.fs.cat_ranges(
        [path, path, f"{opened.root}/own/none"], [7_000_000, 3, 0], [7_000_010, 9, 1]
    )
    assert ranges[:2] == [LARGE[7_000_000:7_000_010], LARGE[3:9]]
    assert isinstance(ranges[2], FileNotFoundError)
    assert opened.fs.cat_file(f"{opened.root}/own/empty") == b""


def test_links_are_followed_within_the_snapshot_only(opened: Opened, tmp_path: Path) -> None:
    own = f"{opened.root}/own"
    assert opened.fs.info(f"{own}/link")["type"] == "link"
    assert opened.fs.cat_file(f"{own}/link") == b"deep"
    for name in ("out", "above"):
        with pytest.raises(FileNotFoundError):
            opened.fs.open(f"{own}/{name}")
    with pytest.raises(OSError, match="symbolic links"):
        opened.fs.open(f"{own}/loop")
    with pytest.raises(IsADirectoryError):
        opened.fs.open(f"{own}/link-to-directory")
    opened.fs.get(own, str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out/link").read_bytes() == b"deep"
    assert (tmp_path / "out/large").read_bytes() == LARGE
    assert not any(
        (tmp_path / "out" / name).exists() for name in ("out", "above", "loop", "link-to-directory")
    )


def test_names_that_are_no_utf_8_are_listed_and_opened(opened: Opened) -> None:
    own = f"{opened.root}/own"
    assert f"{own}/bad\ufffd" in opened.fs.ls(own, detail=False)
    assert opened.fs.cat_file(f"{own}/bad\ufffd") == b"no UTF-8"
    opened.fs.invalidate_cache()
    assert opened.fs.cat_file(f"{own}/dir\ufffd/file") == b"below it"
    assert opened.fs.cat_file(f"{own}/bad\ufffd") == b"no UTF-8"


def test_nothing_writes(opened: Opened) -> None:
    path = f"{opened.root}/own/new"
    for write in (
        lambda: opened.fs.open(path, "wb"),
        lambda: opened.fs.open(path, "ab"),
        lambda: opened.fs.pipe(path, b"x"),
        lambda: opened.fs.touch(path),
        lambda: opened.fs.mkdir(path),
        lambda: opened.fs.makedirs(path),
        lambda: opened.fs.rm(f"{opened.root}/own/csv"),
        lambda: opened.fs.mv(f"{opened.root}/own/csv", path),
        lambda: opened.fs.copy(f"{opened.root}/own/csv", path),
        lambda: opened.fs.put(__file__, path),
    ):
        with pytest.raises(OSError, match="only read") as refused:
            write()
        assert refused.value.errno == errno.EROFS


def test_instances_are_shared_pickled_and_opened_once(place: Place) -> None:
    one = fsspec.filesystem("kopia", **place.kopia)
    assert fsspec.filesystem("kopia", **place.kopia) is one
    assert one.session is one.session
    other = pickled(one)
    assert other == one
    opened_file = fsspec.open(f"kopia://{place.snapshot}/own/csv", "rt", **place.kopia)
    with pickled(opened_file) as file:
        assert file.read().splitlines()[1] == "one,1"


def _read_in_child(filesystem: Any, path: str, queue: Any) -> None:
    queue.put(filesystem.cat_file(path))


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_another_process_opens_the_repository_anew(opened: Opened, method: str) -> None:
    path = f"{opened.root}/own/deep/er/file"
    assert opened.fs.cat_file(path) == b"deep"
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(opened.fs, path, queue))
    child.start()
    assert queue.get(timeout=60) == b"deep"
    child.join()
    assert opened.fs.cat_file(path) == b"deep"


def test_urls_text_and_chains(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with fsspec.open("velero:///backups/latest/shop/data/own/csv", "rt", **place.velero) as file:
        assert file.read() == "name,number\none,1\ntwo,2\n"
    with fsspec.open(
        "zip://inside.txt::velero:///backups/b/shop/data/own/archive.zip", velero=place.velero
    ) as file:
        assert file.read() == b"zipped"
    monkeypatch.setenv("KOPIA_PASSWORD", PASSWORD)
    with fsspec.open(f"kopia://{place.snapshot}/own/csv", repo=place.kopia["repo"]) as file:
        assert file.readline() == b"name,number\n"


def test_the_connection_in_force_and_a_password_file_are_enough(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from repository import connection  # noqa: PLC0415

    monkeypatch.delenv("KOPIA_PASSWORD", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    connection.save(connection.default_path(), connection.Connection(url=place.kopia["repo"]))
    options = {"password_file": str(tmp_path / "password"), "skip_instance_cache": True}
    with fsspec.open(f"kopia://{place.snapshot}/own/deep/er/file", **options) as file:
        assert file.read() == b"deep"
    with pytest.raises(repository.DataMoverError, match="no password"):
        fsspec.filesystem("kopia", repo=place.kopia["repo"], skip_instance_cache=True).ls("")


def test_snapshots_are_the_roots_and_new_ones_are_seen(tmp_path: Path) -> None:
    repository.create_repository(str(tmp_path / "repository"), PASSWORD)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("x")
    fs = fsspec.filesystem("kopia", repo=str(tmp_path / "repository"), password=PASSWORD)
    assert fs.ls("") == []
    with repository.open_repository(str(tmp_path / "repository"), PASSWORD) as session:
        snapshot = session.backup(tmp_path / "source").snapshot
    fs.invalidate_cache()
    assert fs.ls("", detail=False) == [snapshot.id]
    assert fs.find("") == [f"{snapshot.id}/file"]
    assert fs.modified(f"{snapshot.id}/file").timestamp() == pytest.approx(
        (tmp_path / "source/file").stat().st_mtime
    )
    assert (
        fs.checksum(f"{snapshot.id}/file")
        == fs.ukey(f"{snapshot.id}/file")
        == snapshot_object(fs, snapshot.id)
    )


def snapshot_object(fs: Any, snapshot: str) -> str:
    return str(fs.ls(snapshot)[0]["object_id"])


def test_the_tree_of_a_store_is_that_of_restore_all(place: Place) -> None:
    fs = fsspec.filesystem("velero", **place.velero)
    assert fs.ls("", detail=False) == ["backups"]
    assert fs.ls("/backups/", detail=False) == ["backups/b"]
    assert fs.ls("velero:///backups/b", detail=False) == ["backups/b/.velero", "backups/b/shop"]
    assert fs.ls("backups/b/shop", detail=False) == [
        "backups/b/shop/data",
        "backups/b/shop/disk.img",
        "backups/b/shop/pods",
    ]
    assert fs.ls("backups/b/shop/pods/db-0", detail=False) == [
        "backups/b/shop/pods/db-0/log",
        "backups/b/shop/pods/db-0/tmp",
    ]
    assert fs.ls("backups/b/shop/pods/db-0/tmp") == []
    image = fs.info("backups/b/shop/disk.img")
    assert (image["type"], image["size"]) == ("file", 3 << 20)
    assert (
        fs.cat_file("backups/b/shop/disk.img", start=1_000_000, end=1_000_100) == LARGE[1_000_000:1_000_100]
    )
    assert b"fb55f1a5" in fs.cat_file("backups/b/.velero/volumes.json")
    assert fs.info("backups/b/.velero/volumes.json")["size"] == len(
        fs.cat_file("backups/b/.velero/volumes.json")
    )
    for path in ("backups/none", "backups/../x", "other", "backups/b/none", "backups/b/shop/disk.img/x"):
        assert not fs.exists(path), path
    with pytest.raises(FileNotFoundError):
        fs.ls("backups/b/shop/pods/db-0/old")


def test_a_whole_volume_is_the_same_byte_for_byte(place: Place, opened: Opened) -> None:
    files = {
        path.relative_to(place.tree): path
        for path in place.tree.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    compared = 0
    for path, info in opened.fs.find(opened.root, detail=True).items():
        relative = Path(path.removeprefix(f"{opened.root}/"))
        if info["type"] == "file" and "\ufffd" not in path:
            assert opened.fs.cat_file(path) == files[relative].read_bytes()
            compared += 1
    assert compared == len(files) - 2  # the two names that are no UTF-8


@pytest.fixture
def without_fsspec(tmp_path: Path) -> dict[str, str]:
    """An environment in which `import fsspec` fails."""
    (tmp_path / "fsspec.py").write_text("raise ImportError('not here')\n")
    return os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"}


@pytest.mark.parametrize("module", ["repository.kopia_filesystem", "velero_store.velero_filesystem"])
def test_without_fsspec_one_line_says_what_to_install(without_fsspec: dict[str, str], module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        env=without_fsspec,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.stderr.splitlines()[-1]
        == "ImportError: fsspec is not installed: pip install 'kopia-data-mover[fsspec]'"
    )
