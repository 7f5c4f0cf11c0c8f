"""`node-agent status`: the moves of all nodes, straight from the API, for a terminal or a script."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.board import rows
from agent.resources import MOVE_KINDS, MalformedResourceError, Move, parse_move
from agent.world import RESOURCES
from exposer.kube import Kube, KubeError, list_all
from exposer.kube_client import KubeClient
from exposer.kube_connection import KubeConnectionError, connect

if TYPE_CHECKING:
    import argparse

Json = dict[str, Any]

_RECENT_COUNT = 20
_COLUMNS = ("KIND", "NAME", "PHASE", "DONE", "VOLUME", "NODE", "WHY")


async def run_status(arguments: argparse.Namespace, *, as_json: bool) -> int:
    """Print and return the exit code: 0, or 1 when the API cannot be asked."""
    try:
        async with KubeClient(connect(arguments.kubeconfig, arguments.kubecontext)) as kube:
            moves = await read_moves(kube, arguments.namespace)
    except (KubeConnectionError, KubeError) as error:
        print(f"node-agent status: {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return 1
    table = rows(moves, datetime.now(UTC))
    print(json.dumps(table, indent=1) if as_json else render(table))  # noqa: T201 - a command's output
    return 0


async def read_moves(kube: Kube, namespace: str) -> list[Move]:
    """Read every move that is under way, and the latest of those that are over."""
    moves: list[Move] = []
    for kind in MOVE_KINDS:
        for body in await list_all(kube, RESOURCES[kind.name], namespace):
            try:
                moves.append(parse_move(kind, body))
            except MalformedResourceError:
                continue
    over = sorted((move for move in moves if move.phase.is_final), key=lambda move: move.created_at)
    return [move for move in moves if not move.phase.is_final] + over[-_RECENT_COUNT:]


def render(table: list[Json]) -> str:
    """Lay rows out in columns as wide as their widest entry."""
    lines = [_COLUMNS] + [_cells(row) for row in table]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cells(row: Json) -> tuple[str, ...]:
    why = row.get("waitingFor") or row.get("message", "")
    if row.get("placeInLine"):
        why = f"number {row['placeInLine']} in line: {why}"
    return (
        row["kind"],
        row["name"],
        row["phase"],
        _done(row),
        row["volume"],
        row.get("node", ""),
        why.replace("\n", " "),
    )


def _done(row: Json) -> str:
    total, done = row.get("totalBytes", 0), row.get("doneBytes", 0)
    if not total:
        return human_bytes(done) if done else ""
    return f"{human_bytes(done)} of {human_bytes(total)}"


def human_bytes(count: float) -> str:
    """Write a size for people, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - binary units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
