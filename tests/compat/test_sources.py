"""Sources that nobody keeps tidy: both programs must make the same tree of them, to the byte.

One root object ID for both is the whole proof: names, modes, owners, times, chunks, summaries and what
is left out all go into it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import Kopia, Mover
from tests.trees import assert_same_tree

pytestmark = pytest.mark.kopia

SECOND = 10**9
ODD_TIMES_NS = (
    -1,
    -2_000_000_000 * SECOND,
    -1_000_000_000_500_000_001,
    0,
    1,
    999_999_999,
    2**32 * SECOND,
    10_000_000_000 * SECOND,  # beyond the year 2262 Kopia's times wrap
    15_000_000_000 * SECOND,
    1_700_000_000_123_456_789,
)
BAD_UTF8 = (
    b"\xff\xfe",
    b"caf\xe9",
    b"\xe2\x28\xa1",
    b"cut\xf0\x9f\x98",
    b"half\xed\xa0\x80",
    b"long\xc0\xaf",
)


def assert_same_root(kopia: Kopia, mover: Mover, source: Path) -> dict[str, Any]:
    """Backs `source` up with both, nothing taken from a parent, and compares; gives mover's snapshot."""
    theirs = kopia.backup(source, "--force-hash=100")
    ours = mover.backup(source, "--no-parent")
    assert ours["rootEntry"] == theirs["rootEntry"]
    return ours


def _odd_tree(root: Path) -> None:
    root.mkdir()
    raw = os.fsencode(root)
    for name in ("f" * 255, "A.b", "A-b", "\U0001f600", '<a>&\u2028"\\\t\n\x01\x7f'):
        (root / name).write_bytes(b"x")
    (root / ("d" * 255)).mkdir()
    (root / ("d" * 255) / ("e" * 255)).write_bytes(b"long")
    for name in BAD_UTF8:
        Path(os.fsdecode(os.path.join(raw, name))).write_bytes(name)
    os.mkdir(os.path.join(raw, b"dir\xff"))
    os.symlink(b"t\xff", os.path.join(raw, b"link\xfe"))
    for number, time in enumerate(ODD_TIMES_NS):
        (root / f"t{number}").write_bytes(b"t")
        os.utime(root / f"t{number}", ns=(time, time))
    (root / "old").mkdir()
    (root / "old" / "older").write_bytes(b"o")
    os.utime(root / "old" / "older", ns=(-5 * SECOND, -5 * SECOND))
    os.utime(root / "old", ns=(-7 * SECOND, -7 * SECOND))
    for mode in (0o4755, 0o2755, 0o1777, 0o7777, 0, 0o222, 0o6000):
        (root / f"m{mode:o}").write_bytes(b"m")
        (root / f"m{mode:o}").chmod(mode)
        (root / f"dm{mode:o}").mkdir()
        (root / f"dm{mode:o}").chmod(mode)
    (root / "far-link").symlink_to("x" * 4000)
    os.link(root / "A.b", root / "hard")
    with (root / "sparse").open("wb") as file:
        file.truncate(20_000_000)
        file.seek(9_000_000)
        file.write(b"island")


def _special_files(root: Path) -> None:
    os.mkfifo(root / "fifo")
    directory = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/socket")  # the path itself may be too long
    os.close(directory)
    if os.geteuid() == 0:
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.chown(root / "A-b", 12345, 4294967294)
        os.chown(root / "far-link", 5, 6, follow_symlinks=False)


def test_an_odd_tree_is_the_same_tree_to_both(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _odd_tree(source)
    _special_files(source)
    kopia.create()
    snapshot = assert_same_root(kopia, mover, source)
    for restored, program in (("by-mover", mover), ("by-kopia", kopia)):
        program.restore(snapshot["id"], tmp_path / restored)
    assert_same_tree(tmp_path / "by-kopia", tmp_path / "by-mover")
    kopia("policy", "set", source, "--ignore-unknown-types=false")
    theirs = kopia("snapshot", "create", source, "--no-progress", check=False)
    ours = mover("backup", source, check=False)
    assert (theirs.returncode, ours.returncode) == (1, 5)
    assert kopia.snapshots()[-2]["rootEntry"] == kopia.snapshots()[-1]["rootEntry"]


@pytest.mark.parametrize("name", ["sparse", "empty", "A.b"])
def test_a_single_file_is_the_same_to_both(name: str, kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _odd_tree(source)
    (source / "empty").touch()
    kopia.create()
    assert_same_root(kopia, mover, source / name)


NAMES = [
    "a",
    "b",
    "foo",
    "bar",
    "foo.txt",
    "bar.tmp",
    "A",
    "Foo",
    "x y",
    "#h",
    "!n",
    "[b]",
    "a*b",
    "é",
    "日本",
]
NAMES += ["a\\b", ".hid", "foo.TXT", "f1", "f2", "f10", "a-b", " lead", "trail "]
SEGMENTS = ["*", "?", "**", "a", "b", "foo", "f*", "*.txt", "*.tmp", "[a-c]", "[!a]", "[^a]", "[]a]", "[a-]"]
SEGMENTS += ["[[:digit:]]", "[[:alpha:]]*", "f[0-9]*", "\\*", "\\[b\\]", "\\#h", "\\!n", "x y", "x\\ y", "é"]
SEGMENTS += [
    "?????",
    "**a",
    "a**",
    "***",
    "*a*",
    "[z-a]",
    ".*",
    " lead",
    "trail\\ ",
    "日*",
    "{a,b}",
    "~",
    ".",
]
WHOLE = ["#c", "", "  ", "!", "/", "//", "!/", "**/", "/**", "a//b", "./a", "../a", "*/", "!!a", "\ufeffa"]


class RandomRules:
    """Trees with dot-ignore files of gitignore's whole language, and beyond."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def _pattern(self) -> str:
        pick = self.random
        if pick.random() < 0.05:
            return pick.choice(WHOLE)
        text = "/".join(pick.choice(SEGMENTS) for _ in range(pick.choice([1, 1, 1, 2, 2, 3])))
        text = ("/" if pick.random() < 0.25 else "") + text + ("/" if pick.random() < 0.25 else "")
        text = ("!" if pick.random() < 0.2 else "") + text
        blank = [" ", "\t", "\r"] if not text.endswith("\\ ") else [""]
        return text + (pick.choice(blank) if pick.random() < 0.1 else "")

    def _write_rules(self, directory: Path) -> None:
        lines = [self._pattern() for _ in range(self.random.randint(1, 5))]
        (directory / ".kopiaignore").write_bytes("\n".join(lines).encode() + b"\n")

    def fill(self, directory: Path, depth: int = 0) -> None:
        """Makes a tree in `directory`."""
        for name in self.random.sample(NAMES, self.random.randint(3, 8)):
            if self.random.random() < 0.4 and depth < 3:
                (directory / name).mkdir()
                self.fill(directory / name, depth + 1)
            else:
                (directory / name).write_bytes(b"x")
        if depth == 0 or self.random.random() < 0.2:
            self._write_rules(directory)


@pytest.mark.parametrize("seed", [1, 2])
def test_both_leave_out_the_same_files(seed: int, kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    rules = RandomRules(seed)
    for number in range(60):
        directory = tmp_path / "source" / f"r{number}"
        directory.mkdir(parents=True)
        rules.fill(directory)
    kopia.create()
    assert_same_root(kopia, mover, tmp_path / "source")


def _ruled_tree(root: Path) -> None:
    tag = b"Signature: 8a477f597d28d172789f06886806bc55"
    for directory, signature in (("cache", tag + b"\nx"), ("near-cache", tag[:-1])):
        (root / directory / "below").mkdir(parents=True)
        (root / directory / "CACHEDIR.TAG").write_bytes(signature)
        (root / directory / "below" / "f").write_bytes(b"f")
    (root / "linked-cache").mkdir()
    (root / "linked-cache" / "CACHEDIR.TAG").symlink_to("../cache/CACHEDIR.TAG")
    (root / "sub" / "deep").mkdir(parents=True)
    for name in ("a.txt", "b.log", "c.zip", "d.TXT", "plain", ".hidden"):
        for directory in (root, root / "sub", root / "sub" / "deep"):
            (directory / name).write_bytes(str(directory / name).encode() * 900)
    (root / "big").write_bytes(b"B" * 50_000)
    (root / "sub" / "big").write_bytes(b"C" * 50_001)
    (root / ".kopiaignore").write_text("# comment\n\n*.tmp\n")
    (root / "x.tmp").write_text("x")
    (root / ".ign").write_text("d.*\n")
    (root / "sub" / ".ign").write_text("*.zip\n")
    (root / "sub" / ".kopiaignore").write_text("*.log\n!deep/b.log\n/plain\n")


# what is set for the source, and what for its directory `sub`
POLICIES: dict[str, tuple[list[str], list[str]]] = {
    "cache-directories": (["--ignore-cache-dirs=false"], []),
    "file-size": (["--max-file-size=50000"], []),
    "rules": (["--add-ignore=*.zip", "--add-ignore=/sub/deep"], ["--add-ignore=*.txt"]),
    "no-parent": (["--add-ignore=*.zip"], ["--add-ignore=*.txt", "--inherit=false"]),
    "dot-ignore": (["--add-dot-ignore=.ign"], []),
    "dot-ignore-below": ([], ["--add-dot-ignore=.ign", "--max-file-size=1000"]),
    "compression-size": (
        ["--compression=zstd", "--compression-min-size=20000", "--compression-max-size=50000"],
        [],
    ),
    "compression-names": (
        ["--compression=s2-default", "--add-never-compress=.txt", "--add-only-compress=.log"],
        ["--compression=gzip"],
    ),
    "metadata": (["--metadata-compression=none", "--splitter=FIXED-1M"], []),
    "actions": (["--before-folder-action=/bin/false", "--after-snapshot-root-action=/bin/false"], []),
}


@pytest.mark.parametrize("name", POLICIES)
def test_both_obey_a_policy_alike(name: str, kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _ruled_tree(source)
    kopia.create()
    for place, options in zip((source, source / "sub"), POLICIES[name], strict=True):
        if options:
            kopia("policy", "set", place, *options)
    # the same keys and policies, and none of the contents that the other has stored
    twin = Mover(tmp_path / "twin-home", tmp_path / "twin")
    shutil.copytree(kopia.repository, twin.repository)
    theirs, done = kopia.backup(source), twin("backup", source, "--json")
    assert json.loads(done.stdout)["rootEntry"] == theirs["rootEntry"]
    assert (b"actions" in done.stderr) == (name == "actions")
    assert _compressed(twin) == _compressed(mover)


def _compressed(mover: Mover) -> dict[str, int]:
    """The compressor of each content of a file.

    Not of directories: these may be so short that only one of two implementations of zstd makes them shorter.
    """
    every = mover.json("content", "list")
    data = [one for one in every if len(one["contentID"]) % 2 == 0]
    return {one["contentID"]: one.get("compression", 0) for one in data}
