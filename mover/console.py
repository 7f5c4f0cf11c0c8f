"""What is printed: documents and texts on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

THOUSAND = 1000
UNITS = ("KB", "MB", "GB", "TB", "PB")
MINUTE = 60
HOUR = 3600


def say(text: str) -> None:
    """A line for people, on standard output."""
    sys.stdout.write(f"{text}\n")


def tell(text: str) -> None:
    """A line beside the result, on standard error."""
    sys.stderr.write(f"mover: {text}\n")
    sys.stderr.flush()


def say_json(document: Any) -> None:
    """The document that a script reads."""
    say(json.dumps(document, ensure_ascii=False))


def say_json_lines(documents: Iterable[Any]) -> None:
    """An array that is never held whole, one document a line."""
    separator = "[\n"
    for document in documents:
        sys.stdout.write(f"{separator} {json.dumps(document, ensure_ascii=False)}")
        separator = ",\n"
    say("[]" if separator.startswith("[") else "\n]")


def size_text(size_bytes: float) -> str:
    """Bytes with a unit of powers of a thousand, as Kopia prints them: `14 B`, `21 MB`, `10.5 MB`."""
    if size_bytes < THOUSAND:
        return f"{size_bytes:.0f} B"
    for unit in UNITS:
        size_bytes /= THOUSAND
        if size_bytes < THOUSAND or unit == UNITS[-1]:
            break
    return f"{size_bytes:.1f}".removesuffix(".0") + f" {unit}"


def count_text(number: int, what: str) -> str:
    """`1 file`, `2,000 files`, `3 directories`."""
    if number == 1:
        return f"1 {what}"
    return f"{number:,} " + (f"{what[:-1]}ies" if what.endswith("y") else f"{what}s")


def duration_text(seconds: float) -> str:
    """`0.3 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:  # noqa: PLR2004 - a digit behind the point is of use below that
        return f"{seconds:.1f} s"
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{int(seconds // MINUTE)} min {int(seconds % MINUTE):02} s"
    return f"{int(seconds // HOUR)} h {int(seconds % HOUR // MINUTE):02} min"
