"""The board as text for a terminal. Pure: rows in, text out. No colours: it is often piped."""

from __future__ import annotations

from datetime import datetime
from typing import Any

Json = dict[str, Any]

_AT_WORK = ("VOLUME", "KIND", "NAME", "PHASE", "PROGRESS", "RATE", "LEFT", "NODE")
_OVER = ("ENDED", "RESULT", "VOLUME", "KIND", "NAME", "SIZE", "TOOK", "NODE")
_BAR_LENGTH = 12
_NOTE_INDENT = "    > "
_GAP = "  "
_COLUMN_MIN = 8
# What a narrow terminal is spared, in this order; `--json` has everything.
_NAMES = ("VOLUME", "NAME", "NODE")  # known by their beginnings and ends: cut in the middle, before others
_BAR_WIDTH_MIN = 100
_LEFT_OUT_FIRST = ("KIND", "RATE", "TOOK")


def render(document: Json, *, width: int) -> str:
    """Lay both tables out; why a move waits or failed stands below it, cut to the terminal's width."""
    at_work, over = document["moves"], document["recent"]
    lines = [f"Under way: {len(at_work)}"]
    lines += _table(
        _AT_WORK, [(_at_work_cells(row, bar=width >= _BAR_WIDTH_MIN), _why(row)) for row in at_work], width
    )
    lines += ["", f"Recent: {len(over)}"]
    lines += _table(_OVER, [(_over_cells(row), row.get("message", "")) for row in over], width)
    return "\n".join(lines)


def _table(columns: tuple[str, ...], rows: list[tuple[tuple[str, ...], str]], width: int) -> list[str]:
    used = [place for place in range(len(columns)) if any(cells[place] for cells, _ in rows)]
    wanted = [max(len(columns[place]), *(len(cells[place]) for cells, _ in rows)) for place in used]
    shown = _shown(tuple(columns[place] for place in used), wanted, width)
    used, sizes = [used[place] for place in shown], list(shown.values())

    def line(cells: tuple[str, ...]) -> str:
        fields = (
            _cut_middle(cells[place], size).ljust(size) for place, size in zip(used, sizes, strict=True)
        )
        return ("  " + "  ".join(fields)).rstrip()

    lines = [line(columns)] if rows else []
    for cells, note in rows:
        lines.append(line(cells))
        if note:
            lines.append(_NOTE_INDENT + _cut(" ".join(note.split()), width - len(_NOTE_INDENT)))
    return lines


def _shown(names: tuple[str, ...], wanted: list[int], width: int) -> dict[int, int]:
    """Return which columns are shown and how wide: the least told first left out, then the long ones cut."""
    shown = dict(enumerate(wanted))
    for name in _LEFT_OUT_FIRST:
        if _total(shown) > width and name in names:
            shown.pop(names.index(name), None)
    for cut_down in (_NAMES, names):
        places = [place for place in shown if names[place] in cut_down]
        while places and _total(shown) > width and max(shown[place] for place in places) > _COLUMN_MIN:
            shown[max(places, key=lambda place: shown[place])] -= 1
    return shown


def _total(shown: dict[int, int]) -> int:
    return sum(size + len(_GAP) for size in shown.values())


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 1, 0)] + "…"


def _cut_middle(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    tail = max(length - 1, 0) // 2
    return text[: length - 1 - tail] + "…" + text[len(text) - tail :]


def _why(row: Json) -> str:
    if "waitingFor" not in row:
        return str(row.get("message", ""))
    place = f" (number {row['placeInLine']} in line)" if row.get("placeInLine") else ""
    return f"waiting: {row['waitingFor']}{place}"


def _at_work_cells(row: Json, *, bar: bool) -> tuple[str, ...]:
    return (
        row["volume"],
        row["kind"],
        row["name"],
        row["phase"],
        progress_text(row, bar=bar),
        f"{human_bytes(row['bytesPerSecond'])}/s" if "bytesPerSecond" in row else "",
        human_seconds(row["secondsLeft"]) if row.get("secondsLeft") is not None else "",
        row.get("node", ""),
    )


def _over_cells(row: Json) -> tuple[str, ...]:
    return (
        row.get("completed", ""),
        row["phase"],
        row["volume"],
        row["kind"],
        row["name"],
        human_bytes(row["totalBytes"]) if row.get("totalBytes") else "",
        _took(row),
        row.get("node", ""),
    )


def _took(row: Json) -> str:
    if "completed" not in row:
        return ""
    seconds = datetime.fromisoformat(row["completed"]) - datetime.fromisoformat(row["created"])
    return human_seconds(seconds.total_seconds())


def progress_text(row: Json, *, bar: bool = True) -> str:
    """Write a bar, its percentage and sizes; without a known total what is done; nothing before the start."""
    total, done = row.get("totalBytes", 0), row.get("doneBytes", 0)
    if not total:
        return human_bytes(done) if done else ""
    share = min(done / total, 1.0)
    filled = int(share * _BAR_LENGTH)
    drawn = f"[{'#' * filled}{'.' * (_BAR_LENGTH - filled)}] " if bar else ""
    return f"{drawn}{int(share * 100):3d} % {human_bytes(done)} of {human_bytes(total)}"


def human_bytes(count: float) -> str:
    """Write a size for people, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - binary units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """Write a duration for people: its two largest units."""
    whole = max(int(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
