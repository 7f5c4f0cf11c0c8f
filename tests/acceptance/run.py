"""`make e2e`: the acceptance tests on the running cluster, closing with one line `N passed, N failed, N skipped`.

First the tests that bear company, side by side; then those marked `alone`, which stop daemons, change the configuration or
the node-agent, or look at times. What has failed is run once more with nothing beside it before it counts, and the
report says so. Writes tests/cluster/report.md and report.json after a whole run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance import report
from tests.acceptance.cluster import STATE

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "tests" / "cluster" / "report"
_SIDE_BY_SIDE = 4
_SLOTS = 4
SECOND_RUN = "passed on second run"


@dataclass
class Run:
    """One run: what was chosen, until when, and the lines so far."""

    expression: str
    deadline: float
    lines: dict[str, report.Line] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    unrun: list[str] = field(default_factory=list)

    def session(self, name: str, *arguments: str) -> dict[str, report.Line]:
        """Runs pytest once and gives its lines by test."""
        left = self.deadline - time.monotonic()
        if left < 1:
            self.unrun.append(name)
            return {}
        kept = STATE / "run" / f"e2e-{name.replace(' ', '-')}.json"
        kept.unlink(missing_ok=True)
        limit = [] if left == float("inf") else [f"--session-timeout={left:.0f}"]
        command = [sys.executable, "-m", "pytest", "-q", *limit, *arguments]
        print(f"\n== e2e, {name}: {' '.join(command[2:])}", flush=True)
        environment = os.environ | {"CLUSTER_REPORT_LINES": str(kept)}
        code = subprocess.run(command, cwd=ROOT, check=False, env=environment).returncode
        lines = json.loads(kept.read_text()) if kept.exists() else []
        if time.monotonic() > self.deadline:
            self.unrun.append(f"some of: {name}")
        elif code not in (0, 1, 5) or (code == 1 and not report.counts(lines)[1]):  # 5: nothing was chosen
            self.trouble.append(f"{name}: pytest ended with code {code}")
        return {line["id"]: line for line in lines}

    def both(self, where: list[str]) -> None:
        """Side by side, then alone."""
        chosen = f" and ({self.expression})" if self.expression else ""
        workers = ["-n", str(_SIDE_BY_SIDE), "--dist", "loadgroup"]
        os.environ["CLUSTER_SLOTS"] = str(_SLOTS)
        self.lines |= self.session("side by side", *where, "-m", f"not alone{chosen}", *workers)
        os.environ["CLUSTER_SLOTS"] = ""
        self.lines |= self.session("alone", *where, "-m", f"alone{chosen}")

    def once_more(self) -> None:
        """Runs what has failed again; a test that passes then has passed, and says so."""
        failed = [name for name, line in self.lines.items() if line["outcome"].startswith("failed")]
        if not failed:
            return
        for name, line in self.session("once more", *failed).items():
            if line["outcome"] == "passed":
                line["outcome"] = SECOND_RUN
            self.lines[name] = line


def main() -> int:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("where", nargs="*", default=["tests/acceptance"])
    parser.add_argument("--core", action="store_true", help="only the tests marked `core`")
    parser.add_argument("--settled", action="store_true", help="without the tests marked `trial`")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="what is not done by then is left out"
    )
    given = parser.parse_args()
    begun = time.monotonic()
    chosen = ["core"] * given.core + ["not trial"] * given.settled
    run = Run(" and ".join(chosen), begun + given.minutes * 60)
    run.both(given.where)
    run.once_more()
    lines = list(run.lines.values())
    seconds = time.monotonic() - begun
    if given.where == ["tests/acceptance"] and not chosen and not run.unrun:
        report.write(REPORT, lines, seconds)
    return _summary(run, seconds)


def _summary(run: Run, seconds: float) -> int:
    lines, trouble = list(run.lines.values()), run.trouble
    passed, failed, skipped = report.counts(lines)
    for text in run.unrun:
        print(f"\n************ TIME WAS UP, NOT RUN: {text}\n")
    for line in lines:
        if line["outcome"] != "passed":
            print(f"{line['outcome']}: {line['id']}")
    for text in trouble:
        print(f"failed: {text}")
    print(f"e2e took {seconds / 60:.1f} minutes")
    print(f"{passed} passed, {failed + len(trouble)} failed, {skipped + len(run.unrun)} skipped")
    return int(failed + len(trouble) > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
