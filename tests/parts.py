"""Real parts that a test needs and a machine may lack: without one a test fails in CI, and elsewhere is skipped loudly."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(part: str) -> NoReturn:
    """End the test: `part` says what is missing and how to get it."""
    if os.environ.get("CI"):
        pytest.fail(f"required in CI: {part}")
    pytest.skip(f"SKIPPED WITHOUT PROOF: {part}")
