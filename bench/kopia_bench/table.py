"""The table that is printed: ratios peer / mover (kopia is the first peer), so that larger is better for us."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from .measure import Measured
from .scenes import Outcome

MIB = 1 << 20
# S3 Standard, us-east-1, one request.
WRITE_DOLLARS, READ_DOLLARS = 0.005 / 1000, 0.0004 / 1000
OURS = {"mover": "{}", "unsynced": "{}, --no-sync"}
"""How a work is called when this program of ours did it."""


def rows(kind: str, scene: str, outcome: Outcome) -> list[list[str]]:
    """One row for each work of the scene and each other program that did it."""
    works = [work for work, program in outcome.runs if program == "mover" and work != "open"]
    peers = [program for work, program in outcome.runs if work == "open" and program not in OURS]
    lines = [_row(kind, scene, Pair(work, peer), outcome) for peer in peers for work in works]
    if ("first", "unsynced") in outcome.runs:
        lines.insert(1, _row(kind, scene, Pair("first", "kopia", "unsynced"), outcome))
    return lines


class Pair(NamedTuple):
    """One work and who did it."""

    work: str
    peer: str
    mover: str = "mover"


def _row(kind: str, scene: str, pair: Pair, outcome: Outcome) -> list[str]:
    work, peer, mover = pair
    ours, theirs = outcome.runs[work, mover], outcome.runs[work, peer]
    plain = [k.wall_seconds / m.wall_seconds for k, m in zip(theirs, ours, strict=True)]
    opened = {name: median(r.wall_seconds for r in outcome.runs["open", name]) for name in (peer, mover)}
    net = [
        max(k.wall_seconds - opened[peer], 1e-3) / max(m.wall_seconds - opened[mover], 1e-3)
        for k, m in zip(theirs, ours, strict=True)
    ]
    cpu = [k.cpu_seconds / m.cpu_seconds for k, m in zip(theirs, ours, strict=True)]
    return [
        kind,
        scene,
        OURS[mover].format(work),
        peer,
        f"{median(plain):.1f}× ({min(plain):.1f}–{max(plain):.1f})",
        f"{median(net):.1f}×",
        f"{median(cpu):.1f}×",
        _memory(theirs),
        _memory(ours),
        f"{outcome.repository_bytes[peer] / MIB:.0f}",
        f"{outcome.repository_bytes[mover] / MIB:.0f}",
        f"{median(k.wall_seconds for k in theirs):.2f}",
        f"{median(m.wall_seconds for m in ours):.2f}",
        _requests(outcome, work, peer),
        _requests(outcome, work, "mover"),
        _received(outcome, work, peer),
        _received(outcome, work, "mover"),
    ]


def _requests(outcome: Outcome, work: str, program: str) -> str:
    """PUT and LIST, and GET and HEAD, of one run, and what they cost for each GB of the source."""
    made = outcome.requests.get((work, program))
    if made is None:
        return "–"
    cents = 100 * (made.writes * WRITE_DOLLARS + made.reads * READ_DOLLARS) / (outcome.source_bytes / 1e9)
    return f"{made.writes} + {made.reads} ({cents:.2f} ¢/GB)"


def _received(outcome: Outcome, work: str, program: str) -> str:
    made = outcome.requests.get((work, program))
    return "–" if made is None else f"{made.received_bytes / 1e6:.2f}"


def net_seconds(outcome: Outcome, work: str) -> float:
    """Our median time of `work` less the median of only opening."""
    opened = median(run.wall_seconds for run in outcome.runs["open", "mover"])
    return median(run.wall_seconds for run in outcome.runs[work, "mover"]) - opened


def _memory(runs: list[Measured]) -> str:
    resident = max(run.resident_bytes_max for run in runs) / MIB
    anonymous = max(run.anonymous_bytes_max for run in runs) / MIB
    return f"{resident:.0f} ({anonymous:.0f})"


HEADER = [
    "fs",
    "data",
    "work",
    "peer",
    "time ratio (range)",
    "less opening",
    "CPU ratio",
    "peer MiB (anon)",
    "mover MiB (anon)",
    "peer repo MiB",
    "mover repo MiB",
    "peer s",
    "mover s",
    "peer requests",
    "mover requests",
    "peer MB received",
    "mover MB received",
]


def markdown(lines: list[list[str]]) -> str:
    """A Markdown table."""
    text = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    text += ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(text)
