#!/usr/bin/env python3
"""bench/care.py: care of a repository by `kopia` and `mover`, on copies of the same repository; prints ratios.

Three works: full maintenance without margins of a million small contents in many short packs, half of them garbage;
opening a repository with 5,000 index blobs; verify 100 % of what maintenance has left (kopia verifies what ours left
too, which is a proof, not a measurement). Needs root (a fresh tmpfs), the built `.venv/bin/mover` and cargo.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from kopia_bench import care_data, filesystems  # noqa: E402 - after the path is set
from kopia_bench.measure import Measured, run  # noqa: E402
from kopia_bench.programs import PASSWORD  # noqa: E402

from tests.programs import KOPIA, program  # noqa: E402

MIB = 1 << 20
PLACE_BYTES = 8 << 30


@dataclass
class Row:
    """One work of both programs."""

    work: str
    kopia: Measured
    mover: Measured
    aim: str = ""

    def cells(self) -> list[str]:
        theirs, ours = self.kopia, self.mover
        memory = ours.resident_bytes_max / theirs.resident_bytes_max
        return [
            self.work,
            f"{theirs.wall_seconds:.2f}",
            f"{ours.wall_seconds:.2f}",
            f"{theirs.wall_seconds / ours.wall_seconds:.1f}×",
            f"{theirs.cpu_seconds:.2f}",
            f"{ours.cpu_seconds:.2f}",
            f"{theirs.cpu_seconds / ours.cpu_seconds:.1f}×",
            f"{theirs.resident_bytes_max / MIB:.0f}",
            f"{ours.resident_bytes_max / MIB:.0f}",
            f"{memory:.2f}",
            self.aim,
        ]


HEADER = [
    "work",
    "kopia s",
    "mover s",
    "time ratio",
    "kopia CPU s",
    "mover CPU s",
    "CPU ratio",
    "kopia MiB",
    "mover MiB",
    "memory, ours ÷ theirs",
    "aim",
]


@dataclass
class Programs:
    """Both programs, each with a home of its own below `place`."""

    place: Path
    binaries: dict[str, Path]
    rows: list[Row] = field(default_factory=list)

    def _environment(self, home: Path) -> dict[str, str]:
        home.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KOPIA_PASSWORD": PASSWORD,
            "KOPIA_CHECK_FOR_UPDATES": "false",
            "KOPIA_CONFIG_PATH": str(home / "repository.config"),
            "KOPIA_CACHE_DIRECTORY": str(home / "cache"),
            "KOPIA_LOG_DIR": str(home / "log"),
        }

    def kopia(self, home: str, *arguments: str | Path) -> Measured:
        return run([self.binaries["kopia"], *arguments], self._environment(self.place / home))

    def connect(self, home: str, repository: Path) -> None:
        """Connects kopia as a client that has nothing in its cache."""
        shutil.rmtree(self.place / home, ignore_errors=True)
        identity = ["--override-username", "bench", "--override-hostname", "here"]
        self.kopia(home, "repository", "connect", "filesystem", "--path", repository, *identity)

    def mover(self, repository: Path, *arguments: str | Path) -> Measured:
        command = [self.binaries["mover"], *arguments, "--repo", repository]
        return run(command, self._environment(self.place / "mover-home"))

    def add(self, work: str, kopia: Measured, mover: Measured, aim: str = "") -> None:
        self.rows.append(Row(work, kopia, mover, aim))
        print(markdown(self.rows), flush=True)


def markdown(rows: list[Row]) -> str:
    """The table so far."""
    lines = [HEADER, ["---"] * len(HEADER), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def maintain(programs: Programs, contents: int) -> None:
    """Full maintenance, then verify, on two copies."""
    half = contents // 2
    theirs, ours = programs.place / "theirs", programs.place / "ours"
    care_data.fill(ROOT, theirs, files=half, unused=half, flush=2500, spread=1)
    shutil.copytree(theirs, ours)
    programs.connect("kopia-home", theirs)
    cycle = ("--full", "--safety=none")
    kopia = programs.kopia("kopia-home", "maintenance", "run", *cycle)
    mover = programs.mover(ours, "repo", "maintain", *cycle, "--force")
    programs.add(f"full maintenance, {contents:,} contents", kopia, mover, "time ≥ 3×, memory ≤ 0.25")
    print(f"left: kopia {_packs(theirs)}, mover {_packs(ours)}")
    programs.connect("kopia-home", theirs)
    verify = ("snapshot", "verify", "--verify-files-percent=100", "--no-progress")
    kopia = programs.kopia("kopia-home", *verify)
    mover = programs.mover(ours, "verify", "--percent", "100", "--quiet")
    programs.add(f"verify 100 %, {half:,} files", kopia, mover)
    programs.connect("proof-home", ours)
    programs.kopia("proof-home", *verify)
    print("the real kopia verified 100 % of what our maintenance left")
    shutil.rmtree(theirs)
    shutil.rmtree(ours)


def _packs(repository: Path) -> str:
    sizes = [one.stat().st_size for one in repository.rglob("*.f")]
    return f"{len(sizes)} blobs, {sum(sizes) / MIB:.0f} MiB"


def opening(programs: Programs, blobs: int) -> None:
    """`snapshot list` of a repository with very many index blobs: with nothing in a cache, and again."""
    repository = programs.place / "indexes"
    care_data.fill(ROOT, repository, files=blobs * 100, directory=5000, flush=100, bytes=64)
    programs.connect("kopia-home", repository)
    shutil.rmtree(programs.place / "kopia-home" / "cache", ignore_errors=True)
    for which in ("first", "again"):
        kopia = programs.kopia("kopia-home", "snapshot", "list", "--all")
        mover = programs.mover(repository, "snapshot", "list", "--all")
        programs.add(f"open {blobs:,} index blobs, {which}", kopia, mover)
    shutil.rmtree(repository)


def main() -> int:
    """Runs the works and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contents", type=int, default=1_000_000, help="contents to maintain")
    parser.add_argument("--index-blobs", type=int, default=5000, help="index blobs to open")
    parser.add_argument("--only", choices=("opening", "maintenance"), help="one of the two parts")
    parser.add_argument("--place", type=Path, default=ROOT / "bench" / "out", help="where to mount")
    arguments = parser.parse_args()
    binaries = {"kopia": program(KOPIA), "mover": ROOT / ".venv" / "bin" / "mover"}
    with filesystems.fresh("tmpfs", arguments.place / "care", PLACE_BYTES) as place:
        programs = Programs(place, binaries)
        if arguments.only != "maintenance":
            opening(programs, arguments.index_blobs)
        if arguments.only != "opening":
            maintain(programs, arguments.contents)
    rows = [{"work": r.work, "kopia": vars(r.kopia), "mover": vars(r.mover)} for r in programs.rows]
    (arguments.place / "care.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}: {(error.stderr or b'').decode(errors='replace')}")
