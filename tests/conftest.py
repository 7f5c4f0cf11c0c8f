"""Fixtures shared by all tests: the real programs, a scratch space, `mover` as a command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.programs import KOPIA, ProgramMissingError, program

FIXTURES = Path(__file__).parent / "fixtures"


def real_program(name: str) -> Path:
    """The pinned program, or a loud skip outside CI, or a failure in CI."""
    try:
        return program(name)
    except ProgramMissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is required in CI: {missing}")
        pytest.skip(f"SKIPPED WITHOUT PROOF: {missing}")


@pytest.fixture(scope="session")
def kopia_binary() -> Path:
    """The pinned real `kopia`."""
    return real_program(KOPIA)
