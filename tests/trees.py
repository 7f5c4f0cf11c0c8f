"""Source trees for tests, and the comparison of two trees in all that Kopia keeps.

`sample_tree` has what re-implementers get wrong: odd names, empty files and directories, links,
modes with setuid and sticky bits, old times, files above the splitter's smallest chunk.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
from pathlib import Path

ODD_NAMES = (
    "with space",
    "<angle>&amp",
    'quote"back\\slash',
    "tab\there",
    "ünïcödé-日本",
    "\u2028line",
    "-dash",
    "~tilde",
)


def sample_tree(root: Path, *, seed: int = 1, large_bytes: int = 9_000_000, small_count: int = 60) -> Path:
    """Makes a seeded tree of about `large_bytes` plus small things; gives `root`."""
    generator = random.Random(seed)
    root.mkdir(parents=True)
    (root / "large.bin").write_bytes(generator.randbytes(large_bytes))
    (root / "text.log").write_bytes(b"the same line again and again\n" * 60_000)
    (root / "empty").write_bytes(b"")
    (root / "empty-directory").mkdir()
    for number in range(small_count):
        directory = root / f"d{number % 7}" / f"e{number % 3}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(generator.randbytes(generator.randrange(0, 40_000)))
    odd = root / "odd"
    odd.mkdir()
    for name in ODD_NAMES:
        (odd / name).write_text(name, encoding="utf-8")
    (root / "link").symlink_to("large.bin")
    (root / "dangling").symlink_to("/nowhere/at all")
    os.link(root / "text.log", root / "d0" / "hard-link")
    for mode in (0o600, 0o4755, 0o2755, 0o1777, 0o000):
        path = root / f"mode-{mode:o}"
        path.write_text(f"{mode:o}", encoding="utf-8")
        path.chmod(mode)
    os.utime(root / "empty", ns=(0, 0))
    os.utime(root / "text.log", ns=(1, 981_173_106_123_456_789))
    return root


def sparse_file(path: Path, *, length_bytes: int, islands: int = 3, seed: int = 5) -> Path:
    """A file with holes: islands of random bytes at odd offsets."""
    generator = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(length_bytes)
        for island in range(islands):
            file.seek(length_bytes * island // islands + 12_345)
            file.write(generator.randbytes(777_777))
    return path


Facts = tuple[str, int, int, int, int, str]


def facts(root: Path, *, directory_times: bool = False) -> dict[str, Facts]:
    """What is compared of each path below `root`: kind, mode, owner, group, mtime (ns), bytes or target."""
    found: dict[str, Facts] = {}
    for base, directories, files in os.walk(os.fsencode(root)):
        for name in directories + files:
            path = os.path.join(base, name)
            key = os.path.relpath(path, os.fsencode(root)).decode("utf-8", "surrogateescape")
            found[key] = _facts_of(path, directory_times=directory_times)
    return found


def _facts_of(path: bytes, *, directory_times: bool) -> Facts:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return (
            "link",
            0,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns // 1000,
            os.readlink(path).decode("utf-8", "surrogateescape"),
        )
    if stat.S_ISDIR(status.st_mode):
        return (
            "directory",
            mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns if directory_times else 0,
            "",
        )
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ("file", mode, status.st_uid, status.st_gid, status.st_mtime_ns, digest)


def assert_same_tree(expected: Path, actual: Path) -> None:
    """Fails naming the first differences between two trees.

    Times of symbolic links are compared to the microsecond, those of directories not at all:
    Kopia restores them so.
    """
    left, right = facts(expected), facts(actual)
    different = [
        key for key in sorted(left.keys() | right.keys()) if not _close(left.get(key), right.get(key))
    ]
    lines = [f"{key}: expected {left.get(key)}, got {right.get(key)}" for key in different[:8]]
    assert not different, f"{len(different)} paths differ:\n" + "\n".join(lines)


def _close(one: Facts | None, other: Facts | None) -> bool:
    if one is None or other is None:
        return False
    if one[0] == other[0] == "link":
        return one[2:4] + one[5:] == other[2:4] + other[5:] and abs(one[4] - other[4]) <= 1
    return one == other
