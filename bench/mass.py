#!/usr/bin/env python3
"""bench/mass.py (`make mass`): care of twenty million contents, two million files in one directory.

Fails if a command needs more than `--limit`. Minutes, gigabytes of memory for a tmpfs, root, the built `.venv/bin/mover`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from kopia_bench import care_data, filesystems  # noqa: E402 - after the path is set
from kopia_bench.measure import run  # noqa: E402
from kopia_bench.programs import PASSWORD  # noqa: E402

MIB = 1 << 20
PLACE_BYTES = 10 << 30


def main() -> int:
    """Fills, opens, maintains twice, verifies; 1 if the bound did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contents", type=int, default=20_000_000, help="contents in all")
    parser.add_argument(
        "--files", type=int, default=2_000_000, help="of them: files of one directory that stay"
    )
    parser.add_argument("--directory", type=int, help="files in one directory, if not all of them")
    parser.add_argument("--limit", type=int, default=512, help="--memory-limit, MiB")
    parser.add_argument("--place", type=Path, default=ROOT / "bench" / "out", help="where to mount")
    arguments = parser.parse_args()
    held = True
    with filesystems.fresh("tmpfs", arguments.place / "mass", PLACE_BYTES) as place:
        repository = place / "repository"
        started = time.perf_counter()
        unused = arguments.contents - arguments.files
        care_data.fill(
            ROOT,
            repository,
            files=arguments.files,
            unused=unused,
            directory=arguments.directory or arguments.files,
            bytes=64,
        )
        print(f"filled in {time.perf_counter() - started:.0f} s", flush=True)
        limit = ("--memory-limit", f"{arguments.limit}M", "--repo", repository)
        cycle = ("repo", "maintain", "--full", "--safety=none", "--quiet", "--force")
        works: dict[str, tuple[str | Path, ...]] = {
            "open (snapshot list)": ("snapshot", "list", "--all"),
            "open again": ("snapshot", "list", "--all"),
            "repo verify, structure": ("repo", "verify", "--percent", "0", "--quiet"),
            "repo verify, everything": ("repo", "verify", "--quiet"),
            "repo repair, looking": ("repo", "repair", "--quiet"),
            "full maintenance": cycle,
            "full maintenance again": cycle,
            "verify, structure": ("verify", "--percent", "0", "--quiet"),
        }
        print("| work | s | CPU s | VmHWM MiB | anonymous MiB |\n|---|---|---|---|---|")
        for work, words in works.items():
            environment = os.environ | {"KOPIA_PASSWORD": PASSWORD, "HOME": str(place)}
            cost = run([ROOT / ".venv" / "bin" / "mover", *words, *limit], environment)
            resident, anonymous = cost.resident_bytes_max / MIB, cost.anonymous_bytes_max / MIB
            print(
                f"| {work} | {cost.wall_seconds:.1f} | {cost.cpu_seconds:.1f} | {resident:.0f} | {anonymous:.0f} |",
                flush=True,
            )
            held &= resident <= arguments.limit
    print("the bound held" if held else f"the bound of {arguments.limit} MiB did NOT hold")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
