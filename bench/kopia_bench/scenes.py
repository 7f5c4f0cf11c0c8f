"""What is compared: each scene makes its data once and runs the programs in turn on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import data
from .far import FarBucket, Link, Requests, far_bucket
from .measure import Measured
from .programs import PROGRAMS, Program

Runs = dict[tuple[str, str], list[Measured]]
"""Measured runs by (work, program name)."""


@dataclass(frozen=True)
class Scene:
    """One set of data and the works done on it."""

    name: str
    make: Callable[[Path], None]
    works: tuple[str, ...]
    compression: str = "none"
    needs_bytes: int = 12 * data.GIB
    link: Link | None = None
    """To the bucket; `None` is the local disk."""

    @property
    def local(self) -> bool:
        """Whether the repository is on the local disk."""
        return self.link is None


@dataclass
class Outcome:
    """All that a scene gave."""

    runs: Runs = field(default_factory=dict)
    repository_bytes: dict[str, int] = field(default_factory=dict)
    source_bytes: int = 0
    requests: dict[tuple[str, str], Requests] = field(default_factory=dict)
    """Of a run of (work, program name) on a bucket."""

    def add(self, work: str, program: Program, measured: Measured) -> None:
        self.runs.setdefault((work, program.name), []).append(measured)


def scenes(*, quick: bool) -> list[Scene]:
    """The scenes of the table; `quick` ones are smaller and fewer."""
    every = ("first", "unchanged", "restore", "verify")
    if quick:
        return [
            Scene("large files", lambda at: data.large_files(at, 500 * 10**6), every),
            Scene("small files", lambda at: data.small_files(at, 20_000), every),
            Scene("sparse file", lambda at: data.sparse_file(at, 2 * data.GIB), ("first",)),
            Scene("repetitive file", lambda at: data.repetitive_file(at, data.GIB), ("first",)),
            _far(Link(20)),
        ]
    return [
        Scene("large files", data.large_files, every),
        Scene("small files", data.small_files, every),
        Scene("large files, zstd", data.large_files, ("first",), compression="zstd"),
        Scene("small files, zstd", data.small_files, ("first",), compression="zstd"),
        Scene("sparse file 20 GB", lambda at: data.sparse_file(at, 20 * 10**9), ("first",)),
        Scene(
            "repetitive file 20 GB",
            lambda at: data.repetitive_file(at, 20 * 10**9),
            ("first",),
            needs_bytes=21 * 10**9,
        ),
        *(_far(Link(milliseconds, rate)) for milliseconds in (0, 20, 100) for rate in (None, 50)),
    ]


def million() -> Scene:
    """A million files: how time and memory grow with their number; too long for every run."""
    every = ("first", "unchanged", "restore", "verify")
    return Scene(
        "million files", lambda at: data.small_files(at, 1_000_000, 600), every, needs_bytes=16 * data.GIB
    )


def _far(link: Link) -> Scene:
    # What is over in a second is done more than once. Before each reading work the caches are emptied.
    works = ("first", *("unchanged",) * 3, *("part",) * 3, "restore", "verify")
    rate = f"{link.megabytes_per_second} MB/s" if link.megabytes_per_second else "unlimited"
    name = f"s3 {link.latency_milliseconds} ms {rate}"
    return Scene(name, data.mixed_files, works, needs_bytes=6 * data.GIB, link=link)


def play(scene: Scene, place: Path, binaries: dict[str, Path], repeat: int) -> Outcome:
    """Runs the works of `scene` under `place`, `repeat` times, the programs in turn."""
    if scene.link is None:
        return _play(scene, place, binaries, repeat, None)
    with far_bucket(place / "bucket", scene.link) as bucket:
        return _play(scene, place, binaries, repeat, bucket)


def _play(
    scene: Scene, place: Path, binaries: dict[str, Path], repeat: int, bucket: FarBucket | None
) -> Outcome:
    source = place / "source"
    scene.make(source)
    outcome = Outcome(source_bytes=data.apparent_bytes(source))
    for round_number in range(repeat):
        order = list(binaries.items())
        for name, binary in order if round_number % 2 == 0 else reversed(order):
            program = PROGRAMS[name](binary, place / f"{name}-{round_number}", bucket)
            program.create(scene.compression)
            outcome.add("open", program, program.open_only())
            for work in scene.works if name != "unsynced" else ("first",):
                snapshot = program.newest_snapshot() if work in ("restore", "part") else ""
                if bucket and work in ("part", "restore", "verify"):
                    program.forget()
                before = bucket.requests() if bucket else None
                outcome.add(work, program, _do(work, program, source, place / "target", snapshot))
                if bucket and before:
                    outcome.requests[work, name] = bucket.requests() - before
            outcome.repository_bytes[name] = program.repository_bytes()
            shutil.rmtree(program.home)
    return outcome


def _do(work: str, program: Program, source: Path, target: Path, snapshot: str) -> Measured:
    if work in ("first", "unchanged"):
        return program.backup(source)
    if work == "verify":
        return program.verify()
    below = "/" + data.PART if work == "part" else ""
    measured = program.restore(snapshot + below, target)
    shutil.rmtree(target)
    return measured
