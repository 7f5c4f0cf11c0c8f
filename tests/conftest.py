"""Fixtures shared by all tests: the real programs, a scratch space, `mover` as a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts import lacking
from tests.programs import KOPIA, ProgramMissingError, program

FIXTURES = Path(__file__).parent / "fixtures"


def real_program(name: str) -> Path:
    """The pinned program, or a loud skip outside CI, or a failure in CI."""
    try:
        return program(name)
    except ProgramMissingError as missing:
        lacking(f"{name}: {missing}")


@pytest.fixture(scope="session")
def kopia_binary() -> Path:
    """The pinned real `kopia`."""
    return real_program(KOPIA)
