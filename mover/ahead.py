"""A look ahead: the source is listed while the repository's key is derived, where that leaves a processor."""

from __future__ import annotations

import os

from repository.engine import Ahead

PROCESSORS_MIN = 2  # one derives the key


def look_ahead(path: str) -> Ahead | None:
    """Begin to look at a directory that will be backed up; `None` where it would only be in the way."""
    return Ahead(path) if len(os.sched_getaffinity(0)) >= PROCESSORS_MIN else None
