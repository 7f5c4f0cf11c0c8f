"""The limit: what reading, splitting, hashing, sealing and writing a byte must cost at least.

Each step is measured alone in this run with the fastest implementation known to us, one thread:
read and write by `dd` on the same kind of file system, split and hash and seal by the engine's own kernels
(`cargo run --example throughput`). The sum divided by the number of cores is the time that no program on
this machine can beat; the share is that time over ours.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

STEPS = {
    "split": ("split DYNAMIC-1M-BUZHASH", "kopia-kernels: buzhash, AVX2, minimum skipped"),
    "hash": ("hash BLAKE2B-256-128 (many)", "blake2b_simd::many, four messages side by side"),
    "seal": ("seal AES256-GCM-HMAC-SHA256", "ring AES-256-GCM, in place"),
}


@dataclass(frozen=True)
class Step:
    """One step and its speed."""

    name: str
    by: str
    bytes_per_second: float


def measure(root: Path, place: Path) -> list[Step]:
    """Measures every step; `place` is a directory on the file system of the scenes."""
    command = ["cargo", "run", "--quiet", "--release", "-p", "kopia-format", "--example", "throughput"]
    output = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    speeds = {
        name.strip(): float(value)
        for name, value in re.findall(r"^(.+?)\s+([\d.]+)\s+GB/s", output, re.MULTILINE)
    }
    steps = [Step(step, by, speeds[line] * 1e9) for step, (line, by) in STEPS.items()]
    return [Step("read", "dd, 1 MiB", _read(place)), *steps, Step("write", "dd, 1 MiB", _write(place))]


def _timed(arguments: list[str], size_bytes: int) -> float:
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(["dd", "status=none", "bs=1M", *arguments], check=True)
        best = max(best, size_bytes / (time.perf_counter() - started))
    return best


def _write(place: Path) -> float:
    file = place / "limit.bin"
    speed = _timed([f"of={file}", "if=/dev/zero", "count=256"], 256 << 20)
    file.unlink()
    return speed


def _read(place: Path) -> float:
    file = place / "limit.bin"
    file.write_bytes(os.urandom(256 << 20))
    speed = _timed([f"if={file}", "of=/dev/null"], 256 << 20)
    file.unlink()
    return speed


def seconds(steps: list[Step], source_bytes: int) -> float:
    """The least time for a first backup of `source_bytes` on all cores of this machine."""
    return source_bytes * sum(1 / step.bytes_per_second for step in steps) / (os.cpu_count() or 1)


def report(steps: list[Step], source_bytes: int, our_seconds: float) -> str:
    """Text under the table: the steps, the limit and our share of it."""
    lines = [f"- {step.name}: {step.bytes_per_second / 1e9:.2f} GB/s ({step.by})" for step in steps]
    least = seconds(steps, source_bytes)
    lines.append(f"- limit for {source_bytes / 1e9:.2f} GB on {os.cpu_count()} cores: {least:.2f} s")
    lines.append(
        f"- ours, opening taken off: {our_seconds:.2f} s = {100 * least / our_seconds:.0f} % of the limit"
    )
    return "\n".join(lines)
