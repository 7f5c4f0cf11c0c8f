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


# What a terminal takes for an order, or shows in another order: the control characters (C0, DEL, C1) and
# those that turn the direction of writing.
_ORDERS = (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SIGNS = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _ORDERS} | _SIGNS  # noqa: PLR2004
_ESCAPES_BUT_LINES = {code: text for code, text in _ESCAPES.items() if code not in (0x09, 0x0A)}
_ESCAPES_OF_JSON = {code: f"\\u{code:04x}" for code in _ORDERS if code not in (0x09, 0x0A)}


def escaped(text: str) -> str:
    r"""Text of data (a name, a tag, a message) as one line that a terminal only shows: `\n`, `\x1b`."""
    return text.translate(_ESCAPES)


def say(text: str) -> None:
    """Lines for people, on standard output. Nothing in them is an order to a terminal."""
    sys.stdout.write(f"{text.translate(_ESCAPES_BUT_LINES)}\n")


def tell(text: str) -> None:
    """A line beside the result, on standard error. It stays one line, whatever data it names."""
    sys.stderr.write(f"mover: {escaped(text)}\n")
    sys.stderr.flush()


def say_json(document: Any, indent: int | None = None) -> None:
    """The document that a script reads."""
    say(_json(document, indent))


def _json(document: Any, indent: int | None = None) -> str:
    """A document as text that standard output can hold, whatever its encoding."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(document, ensure_ascii=not unicode, indent=indent).translate(_ESCAPES_OF_JSON)


def say_json_lines(documents: Iterable[Any]) -> None:
    """An array that is never held whole, one document a line."""
    separator = "[\n"
    for document in documents:
        sys.stdout.write(f"{separator} {_json(document)}")
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
