"""Fields of JSON documents that anybody may have written: what has another type counts as missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Document = Mapping[str, Any]
TEXT_LENGTH_MAX = 2000
NUMBER_MAX = (1 << 63) - 1
NAME_LENGTH_MAX = 253
# Names of Kubernetes objects (RFC 1123 subdomains): never a path, never an option
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?(Z|[+-]\d\d:\d\d)")


def value(document: Any, *keys: str) -> Any:
    """What is at `keys` below each other, or `None`. Keys begin in either case (Go structs without tags)."""
    for key in keys:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key, document.get(key[:1].lower() + key[1:]))
    return document


def mapping(document: Any, *keys: str) -> Document:
    """The object at `keys`; empty if there is none."""
    found = value(document, *keys)
    return found if isinstance(found, Mapping) else {}


def text(document: Any, *keys: str) -> str:
    """The text at `keys`, fit to be shown; empty if there is none."""
    found = value(document, *keys)
    return printable(found) if isinstance(found, str) else ""


def flag(document: Any, *keys: str) -> bool:
    """Whether `true` is at `keys`."""
    return value(document, *keys) is True


def number(document: Any, *keys: str) -> int | None:
    """The whole number at `keys`, not below 0 and of 63 bits; `None` if there is none."""
    found = value(document, *keys)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= NUMBER_MAX:
        return None
    return found


def documents(document: Any, *keys: str) -> list[Document]:
    """The objects of the list at `keys`; empty if there is none."""
    found = value(document, *keys)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def texts(document: Any, *keys: str) -> tuple[str, ...]:
    """The texts of the list at `keys`."""
    found = value(document, *keys)
    return tuple(printable(one) for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def moment(document: Any, *keys: str) -> datetime | None:
    """The RFC 3339 time at `keys`, in UTC; `None` if there is none."""
    found = TIME.fullmatch(text(document, *keys))
    if found is None:
        return None
    zone = "+00:00" if found[3] == "Z" else found[3]
    try:
        return datetime.fromisoformat(f"{found[1]}.{found[2] or '0':0<6}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def printable(found: str) -> str:
    """The text without what would drive a terminal or fail to be encoded, and not without end."""
    found = found[:TEXT_LENGTH_MAX].encode(errors="replace").decode()
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in found)


def is_name(found: str) -> bool:
    """Whether an object of Kubernetes can have this name, so that it is a safe name of a file too."""
    return len(found) <= NAME_LENGTH_MAX and NAME.fullmatch(found) is not None
