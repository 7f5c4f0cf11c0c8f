"""Very deep, very wide, placeholders, mount points, block devices."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.compat.test_sources import assert_same_root
from tests.drivers import Kopia, Mover
from tests.parts import lacking
from tests.trees import assert_same_tree

pytestmark = pytest.mark.kopia
LEVELS = 1_000
MEBIBYTE = 1 << 20


def _deep_tree(root: Path) -> None:
    """As deep as it gets before the paths are too long for the real program."""
    root.mkdir()
    handle = os.open(root, os.O_RDONLY)
    for level in range(LEVELS):
        os.mkdir("n", dir_fd=handle)
        below = os.open("n", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
        file = os.open(f"f{level % 7}", os.O_CREAT | os.O_WRONLY, dir_fd=handle)
        os.write(file, str(level).encode())
        os.close(file)
    os.close(handle)


@pytest.fixture
def deep_place(tmp_path: Path) -> Iterator[Path]:
    """A directory that is gone afterwards: Python's own removal, also pytest's, fails at such depths."""
    place = tmp_path / "deep"
    place.mkdir()
    yield place
    subprocess.run(["rm", "-rf", place], check=True)


def test_a_thousand_levels_are_backed_up_read_and_restored(
    kopia: Kopia, mover: Mover, deep_place: Path
) -> None:
    source, restored, archive_path = (deep_place / name for name in ("source", "restored", "all.tar"))
    _deep_tree(source)
    kopia.create()
    identity = assert_same_root(kopia, mover, source)["id"]
    mover.prove()
    mover.restore(identity, restored)
    assert subprocess.run(["diff", "-r", source, restored], check=False).returncode == 0
    mover.restore(identity, archive_path, "--format", "tar")
    with tarfile.open(archive_path) as archive:
        assert sum(1 for _ in archive) == 2 * LEVELS + 1
    assert len(mover("ls", "--recursive", identity).stdout.splitlines()) == 2 * LEVELS
    assert mover.json("diff", identity, f"{identity}/n")


def test_a_directory_of_65537_entries_is_the_same_to_both(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(65_537):
        os.close(os.open(source / f"{number:064x}", os.O_CREAT, 0o644))
    kopia.create()
    snapshot = assert_same_root(kopia, mover, source)
    assert snapshot["rootEntry"]["obj"].startswith("Ik")  # above 8 MiB, where no splitter leaves one chunk
    shutil.rmtree(source)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_placeholders_of_a_shallow_restore_stand_for_what_they_name(
    depth: int, kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "d" / "e").mkdir(parents=True)
    (source / "d" / "e" / "file").write_bytes(b"1" * 5000)
    (source / "big").write_bytes(random.Random(1).randbytes(300_000))
    (source / "small").write_text("s")
    kopia.create()
    whole = kopia.backup(source)
    shallow = tmp_path / "shallow"
    limits = (f"--shallow={depth}", "--shallow-minsize=1000")
    kopia("snapshot", "restore", whole["id"], shallow, *limits, "--no-progress")
    assert list(shallow.rglob("*.kopia-entry"))
    snapshot = assert_same_root(kopia, mover, shallow)
    mover.restore(snapshot["id"], tmp_path / "restored")
    assert_same_tree(source, tmp_path / "restored")
    (shallow / "alien.kopia-entry").write_text('{"name":"alien","type":"f","obj":"' + "ab" * 16 + '"}')
    done = mover("backup", shallow, check=False)
    assert done.returncode == 5
    assert b"alien" in done.stderr


def _needs_root() -> None:
    if os.geteuid() != 0:
        lacking("root, to mount and to make loop devices")


@contextmanager
def _mounted(place: Path) -> Iterator[None]:
    _needs_root()
    if subprocess.run(["mount", "-t", "tmpfs", "none", place], check=False, capture_output=True).returncode:
        lacking("the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_one_file_system_stops_at_mount_points_alike(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "mounted").mkdir(parents=True)
    (source / "file").write_text("f")
    kopia.create()
    with _mounted(source / "mounted"):
        (source / "mounted" / "inside").write_text("i")
        everything = assert_same_root(kopia, mover, source)
        kopia("policy", "set", source, "--one-file-system=true")
        limited = assert_same_root(kopia, mover, source)
    assert everything["rootEntry"]["summ"]["files"] == 2
    assert limited["rootEntry"]["summ"]["files"] == 1


@contextmanager
def _loop_device(image: Path) -> Iterator[Path]:
    _needs_root()
    made = subprocess.run(["losetup", "--show", "-f", image], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip("SKIPPED WITHOUT PROOF: the kernel gives no loop device")
    try:
        yield Path(made.stdout.strip())
    finally:
        subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)


def test_a_block_device_comes_back_to_a_device_zeros_too(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    source, target, small = (tmp_path / name for name in ("source.img", "target.img", "small.img"))
    with source.open("wb") as image:
        image.truncate(48 * MEBIBYTE)
        for place in (5, 40):
            image.seek(place * MEBIBYTE)
            image.write(random.Random(place).randbytes(2 * MEBIBYTE))
    target.write_bytes(b"\xff" * 48 * MEBIBYTE)
    small.write_bytes(b"\xee" * 24 * MEBIBYTE)
    mover.create()
    with _loop_device(source) as device:
        snapshot = mover.backup(device)
    assert snapshot["rootEntry"]["summ"]["size"] == 48 * MEBIBYTE
    kopia.connect()
    kopia.prove()
    with _loop_device(target) as device:
        mover.restore(snapshot["id"], device)
    assert target.read_bytes() == source.read_bytes()
    assert mover("restore", snapshot["id"], "-").stdout == source.read_bytes()
    with _loop_device(small) as device:
        done = mover("restore", snapshot["id"], device, check=False)
    assert done.returncode == 30
    assert b"25165824 bytes" in done.stderr
    assert small.read_bytes() == b"\xee" * 24 * MEBIBYTE
