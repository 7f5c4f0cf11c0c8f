"""How much memory the engine may use in this pod: the container's limit, less what the interpreter needs."""

from __future__ import annotations

from pathlib import Path

# What a mover needs beside the engine's budget: interpreter, imports, stacks.
OVERHEAD_BYTES = 40 << 20
BUDGET_MIN_BYTES = 64 << 20
_LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def engine_budget_bytes(limit_files: tuple[str, ...] = _LIMIT_FILES) -> int | None:
    """Return the budget, or `None` for the engine's own default: no limit is set, or it is no tighter."""
    default = 128 << 20
    for name in limit_files:
        try:
            limit = int(Path(name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        budget = max(limit - OVERHEAD_BYTES, BUDGET_MIN_BYTES)
        return budget if budget < default else None
    return None
