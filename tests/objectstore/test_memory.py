"""Peak memory of works on a bucket: packs are whole in memory on their way, and are counted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.objectstore.servers import S3Server
from tests.objectstore.source import mover_at
from tests.peak import MIB, peak_bytes_of

# Four packs: more than may be in memory.
SOURCE_BYTES = 84 * MIB
# Libraries of a build for tests are larger than those that are installed, by some MiB.
PEAK_BYTES_MAX = 112 * MIB


@pytest.mark.timeout(300)
@pytest.mark.parametrize("limit", ["128M", "100M"])
def test_a_backup_of_large_files_to_a_bucket_stays_in_its_memory(
    s3: S3Server, tmp_path: Path, limit: str
) -> None:
    url = s3.url(f"memory-{limit}/")
    mover_at(tmp_path, url).create()
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(random.Random(1).randbytes(SOURCE_BYTES))
    options = ("--repo", url, "--no-cache", "--memory-limit", limit, "--quiet")
    assert peak_bytes_of("backup", source, *options) <= PEAK_BYTES_MAX
