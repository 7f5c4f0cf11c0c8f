"""Repositories that the real `kopia` made, in a bucket of Velero that was copied to a disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mover import cli
from tests.drivers import Kopia
from tests.trees import assert_same_tree, sample_tree
from tests.velero_buckets import BucketCopy, claim, data_upload, flat_copy, pod_volume_backup

DISK_BYTES = 5 << 20


def test_volumes_that_kopia_wrote_are_restored_from_the_copy(
    kopia: Kopia, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sample_tree(tmp_path / "source", large_bytes=3_000_000, small_count=20)
    disk = os.urandom(1 << 20) + bytes(DISK_BYTES - (1 << 20))
    kopia.create()
    data = kopia.backup(source)["id"]
    # as Velero's mover of 1.12 and later: a stream whose name is the device's path
    block = kopia.json(
        "snapshot", "create", "/volume", "--stdin-file", "dev-xvda", "--no-progress", stdin=disk
    )["id"]
    copy = BucketCopy(tmp_path / "bucket")
    copy.backup(
        "b",
        members=claim("shop", "disk", mode="Block") | data_upload("shop", "disk", block),
        podvolumebackups=[pod_volume_backup("shop", "db-0", "data", data, claim_name="data")],
    )
    flat_copy(kopia.repository, copy.root / "kopia/shop")
    refused = kopia("repository", "connect", "filesystem", "--path", copy.root / "kopia/shop", check=False)
    assert refused.returncode != 0  # kopia knows its own layout only, and leaves a `.shards` behind
    monkeypatch.setenv("KOPIA_PASSWORD", kopia.password)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert (
        cli.main(["velero", "restore", str(copy.root), "latest", "--all", "--into", str(tmp_path / "out")])
        == 0
    )
    assert_same_tree(source, tmp_path / "out/shop/data")
    assert (tmp_path / "out/shop/disk.img").read_bytes() == disk
