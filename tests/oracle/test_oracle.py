"""The second reader reads Kopia's own fixtures, and then what the engine writes."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
import xxhash

from tests.conftest import FIXTURES
from tests.drivers import PASSWORD, Mover
from tests.oracle.ecc import Ecc, EccError
from tests.oracle.reader import OracleRepository
from tests.trees import sample_tree

REPOSITORIES = [
    "v1",
    "v1-compacted",
    "v3-default",
    "v3-nocompress-128k",
    "hash-hmac-sha3-256",
    "velero-like",
    "v3-ecc10",
]


@pytest.mark.parametrize("name", REPOSITORIES)
def test_the_oracle_itself_reads_what_kopia_wrote(name: str, tmp_path: Path) -> None:
    vectors = FIXTURES / "vectors" / "repos"
    with tarfile.open(vectors / f"{name}.tar") as archive:
        archive.extractall(tmp_path, filter="tar")
    expected = json.loads((vectors / f"{name}.expected.json").read_text())
    repository = OracleRepository(tmp_path / name, expected["password"])
    for content in repository.index:
        repository.content(content)
    assert repository.snapshots()


def _fingerprints(root: Path) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("s", xxhash.xxh3_128_hexdigest(os.fsencode(path.readlink())))
        elif path.is_dir():
            found[name] = ("d", "")
        else:
            found[name] = ("f", xxhash.xxh3_128_hexdigest(path.read_bytes()))
    return found


@pytest.mark.parametrize(
    ("percent", "shape"),
    [(1, (254, 2)), (3, (139, 2)), (5, (128, 2)), (6, (128, 3)), (10, (128, 4)), (20, (128, 17))],
)
def test_the_oracle_knows_the_codes(percent: int, shape: tuple[int, int]) -> None:
    assert Ecc(percent)._shape(1 << 20)[:2] == shape


def test_the_oracle_sees_a_flipped_bit_of_data_and_parity(tmp_path: Path) -> None:
    mover = Mover(tmp_path / "home", tmp_path / "repository")
    mover.create("--ecc-overhead-percent=2")
    (tmp_path / "file").write_bytes(b"some bytes that are worth a correction")
    mover.backup(tmp_path / "file")
    repository = OracleRepository(tmp_path / "repository", PASSWORD)
    (name,) = (name for name in repository.index if len(name) % 2 == 0)
    entry = repository.index[name]
    place = repository.blobs[entry.pack]
    for position in (0, entry.packed_length // 8 - 1, entry.packed_length - 1):
        damaged = bytearray(place.read_bytes())
        damaged[entry.offset + position] ^= 1
        sealed = bytes(damaged[entry.offset : entry.offset + entry.packed_length])
        with pytest.raises(EccError):
            Ecc(2).open(sealed)


@pytest.mark.parametrize("percent", [1, 5, 10])
def test_the_oracle_reads_and_proves_the_error_correction_of_the_engine(percent: int, tmp_path: Path) -> None:
    source = sample_tree(tmp_path / "source", large_bytes=700_000, small_count=12)
    mover = Mover(tmp_path / "home", tmp_path / "repository")
    mover.create(f"--ecc-overhead-percent={percent}")
    snapshot = mover.backup(source, "--compression", "zstd-fastest")
    repository = OracleRepository(tmp_path / "repository", PASSWORD)
    for content in repository.index:
        repository.content(content)
    assert repository.fingerprint(snapshot["id"]) == _fingerprints(source)


@pytest.mark.parametrize("compression", ["none", "zstd-fastest", "gzip"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_oracle_reads_what_the_engine_wrote(version: int, compression: str, tmp_path: Path) -> None:
    source = sample_tree(tmp_path / "source", large_bytes=6_000_000)
    mover = Mover(tmp_path / "home", tmp_path / "repository")
    mover.create(f"--format-version={version}", "--object-splitter=DYNAMIC-1M-BUZHASH")
    first = mover.backup(source, "--compression", compression)
    (source / "added").write_bytes(b"second snapshot")
    second = mover.backup(source, "--compression", compression)
    repository = OracleRepository(tmp_path / "repository", PASSWORD)
    for content in repository.index:
        repository.content(content)
    assert set(repository.snapshots()) == {first["id"], second["id"]}
    assert repository.fingerprint(second["id"]) == _fingerprints(source)
    for name in repository.blobs:
        if name[0] in "pq":
            assert repository.blobs[name].stat().st_mode & 0o777 == 0o600
