#!/usr/bin/env python3
"""bench/block.py: a full and an incremental backup of a device of which 1 % changed, by three ways in one run.

With changed ranges, without tracking, and by the file-system mover (Kopia's layout of a device): seconds, bytes read and
stored, memory. The device is a loop device over a sparse image (`--filled` of it is noise), the repositories are
directories. Needs root and the built extension. `--direct no` reads through the page cache (docs/design/0007).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MIB = 1 << 20
WAYS = ("ranges", "no tracking", "fs mover")
SOURCE = "bench/velero-block/app/data"


def work(
    way: str, device: str, repository_path: str, changed: list[int], parent: str, *, direct: bool
) -> None:
    """One backup in a process of its own; prints what it cost."""
    import repository  # noqa: PLC0415 - in the child alone

    options = repository.OpenOptions(username="default", hostname="default", memory_limit_bytes=100 * MIB)
    counters = repository.Progress()
    with repository.open_repository(repository_path, "bench", options) as session:
        started = time.perf_counter()
        if way == "fs mover":
            source = repository.Source("default", "default", "bench/kopia/app/data")
            files = repository.BackupOptions(
                source=source, block_device=True, parents=[parent] if parent else []
            )
            done: Any = session.backup(device, files, progress=counters)
        else:
            source = repository.Source("default", "default", SOURCE)
            blocks = None
            if way == "ranges" and parent:
                with Path(device).open("rb") as file:
                    blocks = repository.ChangedBlocks(file.seek(0, os.SEEK_END))
                for piece in changed:
                    blocks.mark(piece * MIB, 4096)
            wanted = repository.BlockBackupOptions(source=source, parent=parent or None, direct=direct)
            done = session.backup_block(device, wanted, changed=blocks, progress=counters)
        seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024
    print(
        json.dumps(
            {
                "id": done.snapshot.id,
                "read": counters.read()["bytes_read"],
                "stored": done.bytes_uploaded,
                "seconds": seconds,
                "peak": peak,
            }
        )
    )


def measured(
    way: str, device: Path, place: Path, *, changed: list[int], parent: str, direct: str
) -> dict[str, Any]:
    """Runs `work` in a fresh process, with a cold page cache."""
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    words = [sys.executable, __file__, "--work", way, "--device", str(device), "--place", str(place)]
    words += ["--parent", parent, "--changed", json.dumps(changed), "--direct", direct]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def write_noise(image: Path, pieces: list[int], seed: int) -> None:
    """Fills whole pieces with noise."""
    generator = random.Random(seed)
    with image.open("r+b") as file:
        for piece in pieces:
            file.seek(piece * MIB)
            file.write(generator.randbytes(MIB))


def main() -> int:
    """Makes the device, and for each way a full backup, a change and an increment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=16384, help="MiB of the device")
    parser.add_argument("--filled", type=float, default=0.25, help="share of it that is not zero")
    parser.add_argument(
        "--place", type=Path, help="where image and repository are; default: the system's tmp"
    )
    parser.add_argument("--direct", choices=["yes", "no"], default="yes", help="read past the page cache")
    for hidden in ("--work", "--device", "--parent", "--changed"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        changed = json.loads(arguments.changed)
        place = str(arguments.place / arguments.work)
        direct = arguments.direct == "yes"
        work(arguments.work, arguments.device, place, changed, arguments.parent, direct=direct)
        return 0
    with tempfile.TemporaryDirectory(dir=arguments.place) as scratch:
        compare(Path(scratch), arguments.size, arguments.filled, arguments.direct)
    return 0


def compare(place: Path, size: int, filled: float, direct: str) -> None:
    """Measures all ways on one device and prints the table."""
    import repository  # noqa: PLC0415 - not in the children that are measured

    for way in WAYS:
        (place / way).mkdir()
        repository.create_repository(str(place / way), "bench")
    image = place / "image"
    with image.open("wb") as file:
        file.truncate(size * MIB)
    write_noise(image, random.Random(1).sample(range(size), int(size * filled)), seed=2)
    made = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, stdout=subprocess.PIPE, text=True
    )
    device = Path(made.stdout.strip())
    try:
        full = {way: measured(way, device, place, changed=[], parent="", direct=direct) for way in WAYS}
        changed = random.Random(3).sample(range(size), max(size // 100, 1))
        write_noise(device, changed, seed=4)
        print(f"{cpu()}, {size} MiB, {filled:.0%} filled, 1 % changed, direct: {direct}")
        print("| way | full s | increment s | read MiB | stored MiB | VmHWM MiB |\n|---|---|---|---|---|---|")
        for way in WAYS:
            increment = measured(way, device, place, changed=changed, parent=full[way]["id"], direct=direct)
            print(
                f"| {way} | {full[way]['seconds']:.1f} | {increment['seconds']:.2f} | {increment['read'] / MIB:.0f} "
                f"| {increment['stored'] / MIB:.0f} | {max(increment['peak'], full[way]['peak']) / MIB:.0f} |",
                flush=True,
            )
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)


def cpu() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU"
    )


if __name__ == "__main__":
    sys.exit(main())
