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
from tests.oracle.reader import OracleRepository
from tests.trees import sample_tree

REPOSITORIES = ["v1", "v1-compacted", "v3-default", "v3-nocompress-128k", "hash-hmac-sha3-256", "velero-like"]


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
