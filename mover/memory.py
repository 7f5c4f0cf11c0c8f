"""How much of its container's memory limit the engine may use."""

from __future__ import annotations

from pathlib import Path

# The engine's own default, taken when the container has no limit.
BUDGET_DEFAULT_BYTES = 128 << 20
BUDGET_MIN_BYTES = 64 << 20
# What a mover needs beside the engine's budget: interpreter, imports, stacks, TLS. Measured: 15 MiB once the
# engine is loaded, 21 MiB beside a budget of 64 MiB during a backup of 700 MB of random bytes.
OVERHEAD_BYTES = 40 << 20
_LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def engine_budget_bytes(limit_files: tuple[str, ...] = _LIMIT_FILES) -> int | None:
    """Return the budget, or `None` for the engine's own default: no limit is set, or it is no tighter."""
    for name in limit_files:
        try:
            limit = int(Path(name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        budget = max(limit - OVERHEAD_BYTES, BUDGET_MIN_BYTES)
        return budget if budget < BUDGET_DEFAULT_BYTES else None
    return None
