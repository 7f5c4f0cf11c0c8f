"""What is fetched is what is needed: of a full restore each byte of a pack at most once, of a part not more than Kopia."""

from __future__ import annotations

import random
from pathlib import Path

from tests.drivers import Kopia
from tests.objectstore.meter import metered
from tests.objectstore.servers import BUCKET, S3Server
from tests.objectstore.source import contents, mover_at

FILE_COUNT, FILES_PER_DIRECTORY, MEAN_BYTES = 2000, 20, 12_000


def _many_files(root: Path) -> Path:
    generator = random.Random(41)
    for number in range(FILE_COUNT):
        path = root / f"d{number // FILES_PER_DIRECTORY:03}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(generator.randbytes(generator.randrange(2 * MEAN_BYTES)))
    return root


def test_a_restore_fetches_each_byte_once_and_a_part_no_more_than_kopia(
    s3: S3Server, kopia_binary: Path, tmp_path: Path
) -> None:
    prefix = "amplification/"
    source = _many_files(tmp_path / "source")
    with metered(s3.port) as meter:
        writer = mover_at(tmp_path / "writer", s3.url(prefix))
        writer.create()
        snapshot = writer.backup(source)["id"]
        packs = sum(path.stat().st_size for path in (s3.data / BUCKET / prefix).glob("[pq]*"))

        # Each reads with empty caches.
        far = s3.url(prefix, endpoint=f"http://127.0.0.1:{meter.port}")
        whole, part = (mover_at(tmp_path / name, far) for name in ("whole", "part"))
        whole.restore(snapshot, tmp_path / "restored")
        assert contents(tmp_path / "restored") == contents(source)
        assert 0.9 * packs < meter.down.total() <= 1.1 * packs

        meter.reset()
        part.restore(f"{snapshot}/d042", tmp_path / "part-by-mover")
        ours = meter.down.total()
        meter.reset()
        kopia = Kopia(kopia_binary, tmp_path / "kopia-home", tmp_path)
        direct, through = f"127.0.0.1:{s3.port}", f"127.0.0.1:{meter.port}"
        arguments = s3.kopia_arguments(prefix)
        kopia("repository", "connect", *(through if part == direct else part for part in arguments))
        kopia("snapshot", "restore", f"{snapshot}/d042", tmp_path / "part-by-kopia")
        assert contents(tmp_path / "part-by-mover") == contents(tmp_path / "part-by-kopia")
        assert ours <= meter.down.total(), "bytes"
