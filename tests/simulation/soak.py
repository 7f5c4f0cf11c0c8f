"""Many seeds on all cores: `python -m tests.simulation.soak [SEEDS] [--from N]` (`make soak`: 20,000).

Prints what was wrong, by seed, and how often each fault has met a move in each phase. It fails where a seed fails, or
where a pair that is possible (all but `faults.NEVER`) was not met.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulation.faults import ALL_FAULTS, NEVER, PHASES
from tests.simulation.simulation import Result, run_seed

_SHOWN_MAX = 20


def unmet(met: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of a fault and a phase that are possible and did not come together."""
    pairs = ((fault, phase) for fault in ALL_FAULTS for phase in PHASES)
    return [pair for pair in pairs if not met[pair] and pair not in NEVER]


def table(met: Counter[tuple[str, str]]) -> str:
    """How often each fault met each phase; `-` where it cannot."""
    lines = [f"{'':20}" + "".join(f"{phase:>13}" for phase in PHASES)]
    for fault in ALL_FAULTS:
        counts = [(met[fault, phase], (fault, phase) in NEVER) for phase in PHASES]
        lines.append(
            f"{fault:20}" + "".join(f"{'-' if never and not count else count:>13}" for count, never in counts)
        )
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Run the seeds; 1 if one found something, or a pair was never met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", type=int, nargs="?", default=20_000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    arguments = parser.parse_args(argv)
    began, met, failed = time.monotonic(), Counter[tuple[str, str]](), 0
    phases: Counter[str] = Counter()
    with multiprocessing.Pool() as pool:
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        results: Iterator[Result] = pool.imap(run_seed, seeds, chunksize=20)
        for result in results:
            met += result.met
            phases += result.phases
            failed += bool(result.violations)
            if result.violations and failed <= _SHOWN_MAX:
                print(f"seed {result.seed}:", *result.violations, sep="\n    ", flush=True)
    print(table(met))
    missing = unmet(met)
    print(*(f"{moves:8} {what}" for what, moves in sorted(phases.items())), sep="\n")
    print(f"{arguments.seeds} seeds in {time.monotonic() - began:.0f} s, {failed} found something")
    print(f"{len(missing)} pairs were never met: {missing}" if missing else "every possible pair was met")
    return int(bool(failed or missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
