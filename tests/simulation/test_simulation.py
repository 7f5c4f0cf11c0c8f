"""The simulation finds nothing: 300 seeds of clusters, moves and faults, each to its end (`make soak`: 20,000).

A seed that fails is looked at with `python -m tests.simulation.simulation SEED --trace`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.mutants import HUNTS, hunt, violations
from tests.simulation.simulation import run_seed

SEEDS = 300
_GROUP = 25


@pytest.mark.parametrize("first", range(0, SEEDS, _GROUP))
def test_nothing_is_lost_and_nothing_is_wrong(first: int) -> None:
    found = {}
    for seed in range(first, first + _GROUP):
        result = run_seed(seed)
        assert result.phases, "nothing was asked for"
        if result.violations:
            found[seed] = result.violations
    assert not found, "\n".join(f"seed {seed}: {text}" for seed, texts in found.items() for text in texts)


@pytest.mark.parametrize("seed", [3, 17])
def test_the_same_seed_has_the_same_history(seed: int) -> None:
    """Also in another process, whose sets are in another order."""
    here = run_seed(seed).history
    assert run_seed(seed).history == here
    code = f"from tests.simulation.simulation import run_seed; print(run_seed({seed}).history)"
    environment = os.environ | {"PYTHONHASHSEED": "4711"}
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert there.stdout.strip() == here


def test_without_faults_every_move_is_completed() -> None:
    result = run_seed(5, chosen={})
    assert not result.violations
    assert {phase.split()[1] for phase in result.phases} == {"Completed"}


@pytest.mark.parametrize("name", HUNTS)
def test_a_mending_taken_back_is_found(name: str) -> None:
    seed, found = hunt(name)
    assert found, f"no seed finds {name} any more"
    mended = run_seed(seed, chosen=HUNTS[name].faults, kinds=HUNTS[name].kinds)
    assert not mended.violations, "the seed fails with the mending, too"


def test_a_hunt_says_what_is_wrong() -> None:
    """Data that is lost is called lost, and not merely something that is left over."""
    assert any("DATA LOST" in text for text in violations("A1", hunt("A1")[0]))
