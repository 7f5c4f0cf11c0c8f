"""`make e2e`: the acceptance tests on the running cluster, closing with one line `N passed, N failed, N skipped`.

First the tests that bear company, side by side; then those marked `alone`, which stop daemons, change the configuration or
the node-agent, or look at times. What has failed is run once more with nothing beside it, and a last time, before it counts,
and the report says so. Writes tests/cluster/report.md and report.json after a whole run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
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
AGAIN = (("once more", SECOND_RUN), ("a last time", "passed on third run"))
UNSETTLED = "skipped: failed once, and no time was left for a second run"
_SECOND_RUN_SECONDS = 60


@dataclass
class Run:
    """One run: until when, and the lines so far."""

    deadline: float
    lines: dict[str, report.Line] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    unrun: list[str] = field(default_factory=list)

    def failed(self) -> list[str]:
        """The tests that have failed so far."""
        return [name for name, line in self.lines.items() if line["outcome"].startswith("failed")]

    def session(self, name: str, *arguments: str, reserve_seconds: float = 0) -> dict[str, report.Line]:
        """Runs pytest once and gives its lines by test; begins no test in the last `reserve_seconds`."""
        left = self.deadline - time.monotonic() - reserve_seconds
        if left < 1:
            self.unrun.append(name)
            return {}
        kept = STATE / "run" / f"e2e-{name.replace(' ', '-')}.json"
        kept.unlink(missing_ok=True)
        limit = [] if left == float("inf") else [f"--session-timeout={left:.0f}"]
        command = [sys.executable, "-m", "pytest", "-q", *limit, *arguments]
        print(f"\n== e2e, {name}: {' '.join(command[2:])}", flush=True)
        environment = os.environ | {"CLUSTER_REPORT_LINES": str(kept)}
        code = self._pytest(command, environment)
        lines = json.loads(kept.read_text()) if kept.exists() else []
        if time.monotonic() > self.deadline - reserve_seconds:
            self.unrun.append(f"some of: {name}")
        elif code < 0:
            self.unrun.append(f"some of: {name}: pytest was killed by signal {-code}")
        elif code not in (0, 1, 5) or (code == 1 and not report.counts(lines)[1]):  # 5: nothing was chosen
            self.trouble.append(f"{name}: pytest ended with code {code}")
        return {line["id"]: line for line in lines}

    def _pytest(self, command: list[str], environment: dict[str, str]) -> int:
        """Runs it until the deadline at most: a test that is under way then is ended with it."""
        left = self.deadline - time.monotonic()
        timeout = None if left == float("inf") else left
        try:
            return subprocess.run(command, cwd=ROOT, check=False, env=environment, timeout=timeout).returncode
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL

    def both(self, where: list[str], *expressions: str) -> None:
        """Side by side, then alone, the tests that all of the expressions choose."""
        chosen = " and ".join(["", *(f"({expression})" for expression in expressions)])
        workers = ["-n", str(_SIDE_BY_SIDE), "--dist", "loadgroup"]
        for name, marks, slots, more in (
            ("side by side", "not alone", str(_SLOTS), workers),
            ("alone", "alone", "", []),
        ):
            os.environ["CLUSTER_SLOTS"] = slots
            reserve = _SECOND_RUN_SECONDS * (1 + len(self.failed()))
            title = ", ".join([name, *expressions])
            self.lines |= self.session(
                title, *where, "-m", f"{marks}{chosen}", *more, reserve_seconds=reserve
            )

    def once_more(self, title: str, passed_then: str) -> None:
        """Runs what has failed again; a test that passes then has passed, and says so."""
        failed = self.failed()
        if not failed:
            return
        again = self.session(title, *failed)
        for name in failed:
            unsettled = {"outcome": UNSETTLED} if passed_then == SECOND_RUN else {}
            line = again.get(name, self.lines[name] | unsettled)
            if line["outcome"] == "passed":
                line["outcome"] = passed_then
            self.lines[name] = line


def main() -> int:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("where", nargs="*", default=["tests/acceptance"])
    parser.add_argument("--core", action="store_true", help="only the tests marked `core`")
    parser.add_argument("--core-first", action="store_true", help="them first, then the others")
    parser.add_argument("--settled", action="store_true", help="without the tests marked `trial`")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="what is not done by then is left out"
    )
    given = parser.parse_args()
    begun = time.monotonic()
    chosen = ["core"] * given.core + ["not trial"] * given.settled
    run = Run(begun + given.seconds)
    for part in (["core"], ["not core"]) if given.core_first else ([],):
        run.both(given.where, *chosen, *part)
    for again in AGAIN:
        run.once_more(*again)
    lines = list(run.lines.values())
    seconds = time.monotonic() - begun
    if given.where == ["tests/acceptance"] and not chosen and not run.unrun:
        report.write(REPORT, lines, seconds)
    return _summary(run, seconds)


def _summary(run: Run, seconds: float) -> int:
    lines, trouble = list(run.lines.values()), run.trouble
    passed, failed, skipped = report.counts(lines)
    for text in run.unrun:
        print(f"\n************ NOT RUN, THE TIME WAS UP OR IT WAS KILLED: {text}\n")
    for line in lines:
        if line["outcome"] != "passed":
            print(f"{line['outcome']}: {line['id']}")
    for text in trouble:
        print(f"failed: {text}")
    print(f"e2e took {seconds / 60:.1f} minutes")
    print(f"{passed} passed, {failed + len(trouble)} failed, {skipped + len(run.unrun)} skipped")
    return int(failed + len(trouble) > 0 or (passed == 0 and not run.unrun))


if __name__ == "__main__":
    sys.exit(main())
