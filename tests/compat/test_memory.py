"""Peak memory (VmHWM), told by the process that did the work: it hardly grows with the number of files, and
`--memory-limit` is a bound that holds.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.drivers import PASSWORD, Mover
from tests.peak import MIB, peak_bytes_of, run_script

FEW_FILES, MANY_FILES = 10_000, 110_000
# Beyond the open repository. Deriving the key took 64 MiB, which are free by then. What grows with the number of files
# (names of one directory, tables of entries, contents seen) takes 25 MiB here, and 41 for 400,000.
WORK_BYTES_MAX = 40 * MIB
PEAK_BYTES_MAX = 100 * MIB

# Each work of the library in turn; the kernel's peak is set back in between, for the key derivation hides all.
_WORKS = """
import json, re, sys
from repository import VerifyOptions, open_repository

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

peaks = {}
def work(name, do):
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    result = do()
    peaks[name] = peak() - before
    return result

url, source, target, password = sys.argv[1:]
with open_repository(url, password) as session:
    snapshot = work("backup", lambda: session.backup(source)).snapshot.id
    work("unchanged", lambda: session.backup(source))
    work("verify", lambda: session.verify(VerifyOptions(percent=100.0)))
    work("restore", lambda: session.restore(snapshot, target))
print(json.dumps(peaks))
"""


def _directory_of(root: Path, count: int) -> Path:
    root.mkdir()
    directory = os.open(root, os.O_RDONLY)
    for number in range(count):
        handle = os.open(f"file-{number:07}", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
        os.write(handle, b"%d " % number * 8)
        os.close(handle)
    os.close(directory)
    return root


@pytest.mark.timeout(600)
def test_a_directory_of_very_many_files_takes_no_more_than_the_key_derivation_did(tmp_path: Path) -> None:
    mover = Mover(tmp_path / "home", tmp_path / "repository")
    mover.create()
    source = _directory_of(tmp_path / "source", MANY_FILES)
    done = run_script(_WORKS, mover.repository, source, tmp_path / "target", PASSWORD)
    peaks = json.loads(done.stdout)
    assert peaks.keys() == {"backup", "unchanged", "verify", "restore"}
    assert max(peaks.values()) < WORK_BYTES_MAX, peaks


@pytest.mark.timeout(600)
def test_a_memory_limit_bounds_every_work_on_large_and_on_many_files(tmp_path: Path, mover: Mover) -> None:
    mover.create()
    source = _directory_of(tmp_path / "source", FEW_FILES)
    generator = random.Random(1)
    with (source / "large.bin").open("wb") as large:
        for _ in range(25):
            large.write(generator.randbytes(8 * MIB))
    options = ("--repo", mover.repository, "--memory-limit", "100M", "--quiet")

    peaks = {
        "backup": peak_bytes_of("backup", source, *options),
        "again": peak_bytes_of("backup", source, *options),
    }
    snapshot = str(mover.snapshots()[-1]["id"])
    peaks["verify"] = peak_bytes_of("verify", "--percent", "100", *options)
    peaks["verify --rehash"] = peak_bytes_of("verify", "--percent", "100", "--rehash", *options)
    peaks["restore"] = peak_bytes_of("restore", snapshot, tmp_path / "target", *options)
    assert max(peaks.values()) <= PEAK_BYTES_MAX, peaks
