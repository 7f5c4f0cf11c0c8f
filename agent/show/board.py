"""The board: what the status page and `node-agent status` show, as JSON-ready values. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from agent.moves.custom_resources import Phase, bytes_per_second, format_time
from agent.moves.phases import owner_node
from agent.moves.status_patch import RECORD_ANNOTATION
from agent.moves.steps import WAITING_PREFIX
from agent.moves.volume_names import volume_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from agent.control.world import World
    from agent.moves.custom_resources import Move

Json = dict[str, Any]


def _version() -> str:
    try:
        return version("kopia-data-mover")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


__version__ = _version()
_ORDER = {phase: place for place, phase in enumerate(reversed(Phase))}


def board(world: World) -> Json:
    """Say what this agent knows of all moves, its slots and its queue."""
    line = sorted(world.slots.waiting, key=lambda uid: (world.slots.waiting[uid], uid))
    now = world.now()
    return {
        "version": __version__,
        "node": world.node,
        "namespace": world.config.namespace,
        "now": format_time(now),
        "slots": {"limit": world.slots.limit, "inUse": len(world.slots.holders), "waiting": len(line)},
        "prepareQueue": {"length": world.exposing.count, "limit": world.node_config.prepare_queue_length},
        "failedOfDay": world.history.day.failed_count(now),
        "oldestBackup": _oldest_backup(world),
        "agents": _agents(world),
        "moves": [
            row(move, now, line) | {"timeline": world.history.timeline(move)}
            for move in ordered(world.all_moves())
            if not move.phase.is_final
        ],
        "recent": [row(move, now) | {"timeline": steps} for move, steps in world.history.recent()],
    }


def last_day(world: World) -> Json:
    """Say what ended within 24 hours, for the picture; `started` is absent where none began."""
    now = world.now()
    bars = [
        {key: value for key, value in asdict(bar).items() if value} for bar in world.history.day.bars(now)
    ]
    return {"now": format_time(now), "bars": bars}


def _oldest_backup(world: World) -> Json | None:
    """Name the volume of this node whose last good backup is oldest."""
    found = world.successes.oldest(world.node)
    return {"volume": "/".join(found[0]), "at": found[1]} if found else None


def _agents(world: World) -> Json:
    """Count agents at work; name nodes whose agent is not, though it should be or has moves."""
    pods = world.velero_pods.items.values()
    wanted = {pod.node for pod in pods if pod.agent_name == world.config.daemon_set}
    wanted |= {owner_node(move) for move in world.all_moves() if not move.phase.is_final}
    dead = {node for node in wanted - {"", world.node} if not world.agents.serves(node)}
    return {"alive": len(world.agents.linux | {world.node}), "dead": sorted(dead)}


def ordered(moves: Iterable[Move]) -> list[Move]:
    """Put those at work first, each group oldest first."""
    return sorted(moves, key=lambda move: (_ORDER[move.phase], move.created_at, move.name))


def row(move: Move, now: datetime, line: list[str] | None = None) -> Json:
    """Say where a move stands. Times are RFC 3339, rates bytes a second; what is not known is absent."""
    waiting = move.message.removeprefix(WAITING_PREFIX) if move.message.startswith(WAITING_PREFIX) else ""
    times = {"accepted": move.accepted_at, "started": move.started_at, "completed": move.completed_at}
    facts: Json = {
        "kind": move.kind.name,
        "name": move.name,
        "namespace": move.namespace,
        "uid": move.uid,
        "owner": move.owner_name,
        "phase": move.phase.value,
        "volume": volume_of(move),
        "location": move.backup_storage_location,
        "node": owner_node(move),
        "message": "" if waiting else move.message,
        "waitingFor": waiting,
        "placeInLine": line.index(move.uid) + 1 if line and move.uid in line else None,
        "totalBytes": move.total_bytes,
        "doneBytes": move.done_bytes,
        "created": format_time(move.created_at),
        **{name: format_time(moment) for name, moment in times.items() if moment},
        **_rate(move, now),
        "record": _record(move),
    }
    return {key: value for key, value in facts.items() if value not in ("", None, {})}


def _record(move: Move) -> Json:
    """Return the transfer record that the mover left, if it can be read."""
    try:
        record = json.loads(move.annotations.get(RECORD_ANNOTATION) or "{}")
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _rate(move: Move, now: datetime) -> Json:
    rate = bytes_per_second(move, now)
    if not rate:
        return {}
    left = (move.total_bytes - move.done_bytes) / rate if move.total_bytes > move.done_bytes else None
    return {"bytesPerSecond": int(rate), "secondsLeft": None if left is None else int(left)}
