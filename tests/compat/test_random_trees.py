"""Trees made at random and changed at random: both programs make the same tree of them and restore each other's.

The seed is in the test's name; `RANDOM_TREES=500 pytest tests/compat/test_random_trees.py` tries that many.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.trees import assert_same_tree

pytestmark = pytest.mark.kopia

SEEDS = range(int(os.environ.get("RANDOM_TREES", "3")))
SIZES = (0, 1, 63, 4095, 4096, 4097, 65_536, 999_999, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_001)
"""Around pages, and around the least chunk of the default splitter."""
LETTERS = ("a", "b", "B", "é", "e\u0301", "-", ".", " ", "\t", "日", "\U0001f600", "%", "*", "'")
"""No bytes that are not UTF-8: Kopia replaces those (`test_sources`), so nobody restores them."""


class Chance:
    """Choices of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def name(self) -> str:
        """One that is neither too long nor a way to another directory."""
        length = self._random.choice((1, 2, 3, 8, 30))
        name = "".join(self._random.choices(LETTERS, k=length))
        return name if name.strip(".") else name + "_"

    def content(self) -> bytes:
        """Random bytes, or ones that repeat."""
        size = self._random.choice(SIZES) if self._random.random() < 0.6 else self._random.randrange(50_000)
        if self._random.random() < 0.3:
            return (b"again and again " * (size // 16 + 1))[:size]
        return self._random.randbytes(size)

    def inside(self, root: Path) -> Path:
        """A directory of the tree."""
        directories = [Path(os.fsdecode(base)) for base, _, _ in os.walk(os.fsencode(root))]
        return self._random.choice(directories)

    def entry(self, root: Path) -> Path | None:
        """Anything below the root."""
        found = sorted(Path(os.fsdecode(base)) / name for base, _, names in os.walk(root) for name in names)
        return self._random.choice(found) if found else None

    def time_ns(self) -> int:
        """Of this century or of any other that Kopia can name."""
        return self._random.choice(
            (self._random.randrange(10**18, 2 * 10**18), -self._random.randrange(10**18))
        )

    def grow(self, root: Path) -> None:
        """Puts one thing somewhere."""
        path = self.inside(root) / self.name()
        if os.path.lexists(path):
            return
        kind = self._random.random()
        if kind < 0.15:
            path.mkdir()
        elif kind < 0.25:
            path.symlink_to(self.name())
        elif kind < 0.3 and (other := self.entry(root)) and stat.S_ISREG(other.lstat().st_mode):
            os.link(other, path)
        else:
            path.write_bytes(self.content())
            path.chmod(self._random.randrange(0o10000))
            os.utime(path, ns=(0, self.time_ns()))

    def change(self, root: Path) -> None:
        """Does something to one file."""
        path = self.entry(root)
        if path is None or not stat.S_ISREG(path.lstat().st_mode):
            return
        other = self.inside(root) / self.name()
        if os.path.lexists(other):
            return
        actions: tuple[Callable[[], object], ...] = (
            path.unlink,
            lambda: path.write_bytes(self.content()),
            lambda: path.chmod(self._random.randrange(0o10000)),
            lambda: os.utime(path, ns=(0, self.time_ns())),
            lambda: path.rename(other),
            lambda: shutil.copy(path, other),
        )
        self._random.choice(actions)()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_tree_survives_both_programs(seed: int, kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    chance = Chance(seed)
    source = tmp_path / "source"
    source.mkdir()
    for _ in range(60):
        chance.grow(source)
    kopia.create()
    for first, second in ((kopia, mover), (mover, kopia)):
        mine, other = first.backup(source), second.backup(source)
        assert mine["rootEntry"]["obj"] == other["rootEntry"]["obj"], f"seed {seed}"
        for writer, reader in ((mine, second), (other, first)):
            target = tmp_path / f"{type(reader).__name__}-{writer['id']}"
            reader.restore(writer["id"], target)
            assert_same_tree(source, target)
        for _ in range(20):
            chance.change(source)
            chance.grow(source)
    kopia.prove()
