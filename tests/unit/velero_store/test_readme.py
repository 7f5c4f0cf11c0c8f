"""README's six lines for the day when the cluster is gone, as they stand there; only the places are the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.velero_buckets import BucketCopy, pod_volume_backup

ROOT = Path(__file__).parents[3]
HEADING = "## The cluster is gone"
STORE = "s3://bucket/prefix"


def commands() -> list[str]:
    """The indented lines below the heading."""
    section = (ROOT / "README.md").read_text().split(HEADING)[1].split("\n## ")[0]
    return [line[4:] for line in section.splitlines() if line.startswith("    ")]


def test_six_lines_bring_every_volume_back(tmp_path: Path) -> None:
    copy = BucketCopy(tmp_path / "bucket")
    source, log = tmp_path / "data", tmp_path / "log"
    source.mkdir()
    log.mkdir()
    (log / "lines").write_bytes(os.urandom(10_000))
    for day, backup in enumerate(("monday", "tuesday"), 1):
        (source / "orders.db").write_bytes(os.urandom(100_000))
        with copy.repository("shop") as session:
            data, lines = (session.backup(path).snapshot.id for path in (source, log))
        saved = [
            pod_volume_backup("shop", "db-0", "data", data, claim_name="data"),
            pod_volume_backup("shop", "db-0", "log", lines),
        ]
        copy.backup(backup, started=f"2026-11-{day:02}T01:00:00Z", podvolumebackups=saved)
    copy.flatten()
    lines_of_readme = commands()
    assert len(lines_of_readme) == 6
    script = "\n".join(["set -e", *lines_of_readme]).replace(STORE, str(copy.root))
    environment = {name: text for name, text in os.environ.items() if name != "KOPIA_PASSWORD"}
    environment |= {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "default password of Velero" in done.stderr
    assert "shop/pods/db-0/log" in done.stdout
    assert "2 backups, 2 versions" in done.stdout
    assert "M orders.db" in done.stdout
    newest = (source / "orders.db").read_bytes()
    assert (tmp_path / "orders.db").read_bytes() == newest
    assert (tmp_path / "rescued/shop/data/orders.db").read_bytes() == newest
    assert (tmp_path / "rescued/shop/pods/db-0/log/lines").read_bytes() == (log / "lines").read_bytes()
