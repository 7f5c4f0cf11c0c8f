"""`make test`: every test, Rust and Python, closing with one line `N passed, N failed`.

The Rust tests run first (they are the ground); the Python tests run even when those failed, so
that one run shows everything. Where CLUSTER_UNTIL names a time (seconds since 1970), as in CI, the
acceptance tests on a real cluster follow, as many as fit; their numbers are added. The exit code is
non-zero when anything failed or nothing ran.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
Counts = tuple[int, int, int]


def _stream(command: list[str]) -> tuple[int, str]:
    """Runs `command`, passing its output on while keeping it."""
    print("$", " ".join(command), flush=True)
    kept: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            kept.append(line)
    return process.returncode, "".join(kept)


def rust() -> tuple[int, Counts]:
    """Runs the tests of all crates; `(exit code, (passed, failed, skipped))`."""
    code, output = _stream(["cargo", "test", "--workspace", "--no-fail-fast", "--quiet"])
    found = re.findall(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", output)
    totals = [sum(int(row[column]) for row in found) for column in range(3)]
    return code, (totals[0], totals[1], totals[2])


def python(arguments: list[str]) -> tuple[int, Counts]:
    """Runs pytest; `(exit code, (passed, failed, skipped))`."""
    code, output = _stream([sys.executable, "-m", "pytest", "-q", *arguments])
    tail = output[-2000:]

    def count(word: str) -> int:
        found = re.findall(rf"(\d+) {word}", tail)
        return int(found[-1]) if found else 0

    return code, (count("passed"), count("failed") + count("errors?"), count("skipped"))


def cluster(until: str) -> tuple[int, Counts]:
    """Runs the acceptance tests in the time that is left; `(exit code, (passed, failed, skipped))`."""
    if not until:
        return 0, (0, 0, 0)
    minutes = max(int((float(until) - time.time()) // 60), 0)
    code, output = _stream(
        ["timeout", "-k", "150", str(minutes * 60 + 60), "tests/cluster/ci.sh", str(minutes)]
    )
    found = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", output, re.MULTILINE)
    passed, failed, skipped = (int(number) for number in found[-1]) if found else (0, 1, 0)
    return code, (passed, failed, skipped)


def main() -> int:
    """Runs all and prints the summary."""
    runs = [rust(), python(sys.argv[1:]), cluster(os.environ.get("CLUSTER_UNTIL", ""))]
    passed, failed, skipped = (sum(counts[column] for _, counts in runs) for column in range(3))
    failed = max(failed, int(any(code for code, _ in runs)))
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
