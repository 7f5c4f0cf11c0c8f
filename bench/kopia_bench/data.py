"""Seeded source data: the same bytes for every run and every program.

Speed of making matters little; that it is the same everywhere does. Random bytes come from
Python's own generator with a fixed seed; text is a fixed vocabulary and compresses about 4:1.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
_WORDS = b"alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa".split()


def _random_file(path: Path, size_bytes: int, generator: random.Random) -> None:
    with path.open("wb") as file:
        left = size_bytes
        while left:
            piece = generator.randbytes(min(left, 8 * MIB))
            file.write(piece)
            left -= len(piece)


def _text_file(path: Path, size_bytes: int, generator: random.Random) -> None:
    pieces = [b" ".join(generator.choices(_WORDS, k=20_000)) + b"\n" for _ in range(64)]
    with path.open("wb") as file:
        left = size_bytes
        while left:
            piece = generator.choice(pieces)[: min(left, MIB)]
            file.write(piece)
            left -= len(piece)


def large_files(root: Path, total_bytes: int = 2150 * 10**6) -> None:
    """Four large files: three of random bytes, one of text."""
    root.mkdir(parents=True)
    generator = random.Random(1)
    quarter = total_bytes // 4
    for number in range(3):
        _random_file(root / f"random-{number}.bin", quarter, generator)
    _text_file(root / "text.log", quarter, generator)


def small_files(root: Path, count: int = 100_000, mean_bytes: int = 9_360) -> None:
    """`count` small files, a hundred to a directory; sizes spread around `mean_bytes`, a third of it text."""
    generator = random.Random(2)
    block = generator.randbytes(4 * MIB)
    text = b" ".join(generator.choices(_WORDS, k=400_000))
    for number in range(count):
        directory = root / f"d{number // 10_000:03}" / f"d{number // 100 % 100:02}"
        if number % 100 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        size = int(generator.expovariate(1 / mean_bytes)) + 1
        source = text if number % 3 == 0 else block
        at = generator.randrange(max(1, len(source) - size))
        (directory / f"file-{number:07}.dat").write_bytes(number.to_bytes(8, "big") + source[at : at + size])


PART = "small/d000/d07"
"""A directory of `mixed_files` with a hundred of its files."""


def mixed_files(root: Path) -> None:
    """What a volume may hold: 10,000 small files and four large ones, about 300 MB."""
    small_files(root / "small", 10_000)
    large_files(root / "large", 200 * 10**6)


def sparse_file(root: Path, length_bytes: int) -> None:
    """One file of `length_bytes` with 64 islands of 1 MiB of data and holes between."""
    root.mkdir(parents=True)
    generator = random.Random(3)
    with (root / "sparse.img").open("wb") as file:
        file.truncate(length_bytes)
        for island in range(64):
            file.seek(length_bytes // 64 * island)
            file.write(generator.randbytes(MIB))


def repetitive_file(root: Path, length_bytes: int) -> None:
    """One file without holes: the same 64 KiB again and again."""
    root.mkdir(parents=True)
    block = random.Random(4).randbytes(65_536) * 128
    with (root / "repeat.img").open("wb") as file:
        left = length_bytes
        while left:
            piece = block[: min(left, len(block))]
            file.write(piece)
            left -= len(piece)


def apparent_bytes(root: Path) -> int:
    """Sum of the sizes of all files below `root`."""
    total = 0
    for directory, _, names in os.walk(root):
        total += sum(os.lstat(os.path.join(directory, name)).st_size for name in names)  # noqa: PTH118 - hot loop
    return total
