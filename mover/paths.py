"""Paths of sources and targets as Kopia makes them absolute: by their letters, following no link."""

from __future__ import annotations

import os


def absolute(text: str) -> str:
    """The path without `.` and `..`, taken from the current directory."""
    return os.path.abspath(text)  # noqa: PTH100 - Path.resolve() would follow links


def readable(path: str) -> str:
    """The path as text: what is not UTF-8 becomes the replacement sign, as in Kopia's JSON."""
    return os.fsencode(path).decode(errors="replace")


def is_text(argument: str) -> bool:
    """Whether an argument of the command line was UTF-8."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
