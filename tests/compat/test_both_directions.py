"""What either program writes, the other reads, verifies, maintains and restores.

The matrix covers all pairs of (format, hash), (format, cipher), (splitter, compression) and ECC
rather than all combinations: each row below is one repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.trees import assert_same_tree, sample_tree

pytestmark = pytest.mark.kopia


@dataclass(frozen=True)
class Shape:
    """How one repository of the matrix is made."""

    version: int = 3
    hash: str = "BLAKE2B-256-128"
    cipher: str = "AES256-GCM-HMAC-SHA256"
    splitter: str = "DYNAMIC-4M-BUZHASH"
    compression: str = "none"
    ecc_percent: int = 0

    def __str__(self) -> str:
        return f"v{self.version}-{self.hash}-{self.cipher[:6]}-{self.splitter}-{self.compression}-ecc{self.ecc_percent}"

    def options(self) -> list[str]:
        """Options of `repository create` that both programs know by the same names."""
        options = [
            f"--format-version={self.version}",
            f"--block-hash={self.hash}",
            f"--encryption={self.cipher}",
            f"--object-splitter={self.splitter}",
        ]
        if self.ecc_percent:
            options.append(f"--ecc-overhead-percent={self.ecc_percent}")
        return options


CHACHA = "CHACHA20-POLY1305-HMAC-SHA256"
MATRIX = [
    Shape(),
    Shape(compression="zstd"),
    Shape(
        version=2,
        hash="BLAKE2B-256",
        cipher=CHACHA,
        splitter="DYNAMIC-128K-RABINKARP",
        compression="s2-default",
    ),
    Shape(version=1, hash="HMAC-SHA256-128", compression="zstd-fastest"),
    Shape(version=1, hash="BLAKE3-256", cipher=CHACHA, splitter="FIXED-1M"),
    Shape(hash="BLAKE2S-128", splitter="DYNAMIC-1M-BUZHASH", compression="gzip"),
    Shape(hash="BLAKE2S-256", splitter="FIXED-4M", compression="pgzip-best-speed", cipher=CHACHA),
    Shape(
        hash="BLAKE3-256-128", splitter="DYNAMIC-8M-RABINKARP", compression="deflate-default", ecc_percent=2
    ),
    Shape(version=2, hash="HMAC-SHA224", splitter="DYNAMIC-512K-BUZHASH", ecc_percent=10),
    Shape(
        hash="HMAC-SHA256",
        splitter="FIXED-128K",
        compression="zstd-better-compression",
        cipher=CHACHA,
        ecc_percent=5,
    ),
    Shape(hash="HMAC-SHA3-224", splitter="DYNAMIC-256K-RABINKARP", compression="s2-better"),
    Shape(
        version=2, hash="HMAC-SHA3-256", splitter="DYNAMIC-2M-BUZHASH", compression="zstd-best-compression"
    ),
]


@pytest.mark.parametrize("shape", MATRIX, ids=str)
def test_kopia_reads_verifies_maintains_and_restores_what_mover_wrote(
    shape: Shape, kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    source = sample_tree(tmp_path / "source")
    mover.create(*shape.options())
    snapshot = mover.backup(source, "--compression", shape.compression)
    kopia.connect()
    kopia.prove()
    kopia.maintain()
    kopia.prove()
    kopia.restore(snapshot["id"], tmp_path / "by-kopia")
    assert_same_tree(source, tmp_path / "by-kopia")
    mover.prove()
    mover.restore(snapshot["id"], tmp_path / "by-mover")
    assert_same_tree(source, tmp_path / "by-mover")


@pytest.mark.parametrize("shape", MATRIX, ids=str)
def test_mover_reads_verifies_and_restores_what_kopia_wrote(
    shape: Shape, kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    source = sample_tree(tmp_path / "source")
    kopia.create(*shape.options())
    kopia("policy", "set", "--global", f"--compression={shape.compression}")
    snapshot = kopia.backup(source)
    mover.prove()
    mover.restore(snapshot["id"], tmp_path / "by-mover")
    assert_same_tree(source, tmp_path / "by-mover")


# object-level compression (format 1) hashes the compressor's output, which need not be the same bytes
SAME_IDS = [shape for shape in MATRIX if shape.version > 1 or shape.compression == "none"]


@pytest.mark.parametrize("first", ["kopia", "mover"])
@pytest.mark.parametrize("shape", SAME_IDS, ids=str)
def test_a_tree_backed_up_by_one_adds_no_content_when_the_other_backs_it_up(
    shape: Shape, first: str, kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    source = sample_tree(tmp_path / "source")
    kopia.create(*shape.options())
    kopia("policy", "set", "--global", f"--compression={shape.compression}")
    if first == "kopia":
        before = kopia.backup(source)
        contents = set(kopia.contents())
        after = mover.backup(source, "--no-parent")
    else:
        before = mover.backup(source)
        contents = set(kopia.contents())
        after = kopia.backup(source, "--force-hash=100")
    added = {one for one in set(kopia.contents()) - contents if not one.startswith("m")}
    assert not added
    assert after["rootEntry"]["obj"] == before["rootEntry"]["obj"]
