"""Peak memory (VmHWM) of one command of `mover`, told by the process that ran it: what a parent is told of a
child counts what the child was before it became the program.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.drivers import PASSWORD

MIB = 1 << 20

# The command as it is, and its peak behind it, whatever the command printed.
_COMMAND = """
import re, sys
from mover.cli import main

code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""


def run_script(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs Python code with our packages and the password of the tests."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = os.environ | {"KOPIA_PASSWORD": PASSWORD, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def peak_bytes_of(*words: str | Path) -> int:
    """Peak resident memory of `mover` with these arguments."""
    return int(run_script(_COMMAND, *words).stderr.split()[-1]) * 1024
