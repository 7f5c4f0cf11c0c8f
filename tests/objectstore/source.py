"""What the tests back up, and our program on a URL."""

from __future__ import annotations

import random
from pathlib import Path

from tests.drivers import Mover

LARGE_BYTES = 30 << 20


def tree(root: Path, *, seed: int, large_bytes: int = LARGE_BYTES) -> Path:
    """A few hundred small files and one of several packs."""
    for number in range(300):
        path = root / f"d{number % 7}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{seed} {number} ".encode() * (number % 50))
    (root / "large").write_bytes(random.Random(seed).randbytes(large_bytes))
    return root


def contents(root: Path) -> dict[str, bytes]:
    """All files below `root`."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def mover_at(tmp_path: Path, url: str) -> Mover:
    """Our program on a URL."""
    return Mover(tmp_path / "mover-home", url)  # type: ignore[arg-type]
