"""`node-agent status`: the moves of all nodes, straight from the API, for a terminal or a script."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.control.history import History
from agent.control.world import RESOURCES
from agent.moves.custom_resources import MOVE_KINDS, MalformedResourceError, Move, parse_move
from agent.show.board import ordered, row
from agent.show.status_text import render
from kube.api import Kube, KubeError, list_all
from kube.client import KubeClient
from kube.connection import KubeConnectionError, configured

if TYPE_CHECKING:
    import argparse

Json = dict[str, Any]

_RECENT_COUNT = 20
_CLEAR_SCREEN = "\x1b[H\x1b[2J"


async def run_status(arguments: argparse.Namespace) -> int:
    """Print once, or again and again with `--watch`; return 0, or 1 when the API cannot be asked."""
    try:
        async with KubeClient(configured(arguments.kubeconfig, arguments.kubecontext)) as kube:
            while True:
                document = await read_status(kube, arguments.namespace, datetime.now(UTC))
                _show(document, as_json=arguments.json, again=bool(arguments.watch))
                if not arguments.watch:
                    return 0
                await asyncio.sleep(arguments.watch)
    except (KubeConnectionError, KubeError) as error:
        print(f"node-agent status: {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return 1


def _show(document: Json, *, as_json: bool, again: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=None if again else 1), flush=True)  # noqa: T201 - a command's output
        return
    text = render(document, width=shutil.get_terminal_size((140, 24)).columns)
    clear = _CLEAR_SCREEN if again and sys.stdout.isatty() else ""
    print(clear + text, flush=True)  # noqa: T201 - a command's output


async def read_status(kube: Kube, namespace: str, now: datetime) -> Json:
    """Read all moves under way and the latest of those that are over, as rows of the status page."""
    history = History(_RECENT_COUNT)
    at_work: list[Move] = []
    for kind in MOVE_KINDS:
        for body in await list_all(kube, RESOURCES[kind.name], namespace):
            try:
                move = parse_move(kind, body)
            except MalformedResourceError:
                continue
            if move.phase.is_final:
                history.ended(move)
            else:
                at_work.append(move)
    moves = [row(move, now) | {"timeline": history.timeline(move)} for move in ordered(at_work)]
    recent = [row(move, now) | {"timeline": steps} for move, steps in history.recent()]
    return {"moves": moves, "recent": recent}
