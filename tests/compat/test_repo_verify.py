"""`mover repo verify` on repositories of the real kopia: counts, damage, and what is remembered outside of it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import MOVER, Kopia, Mover
from tests.trees import sample_tree

pytestmark = pytest.mark.kopia

WAIT_SECONDS = 120


def _verify(mover: Mover, *options: str | Path) -> dict[str, Any]:
    answer: dict[str, Any] = mover.json("repo", "verify", *options)
    return answer


def _packs(repository: Path) -> list[Path]:
    return sorted(one for one in repository.rglob("*.f") if one.relative_to(repository).parts[0] == "p")


@pytest.mark.parametrize("version", ["1", "3"])
def test_every_content_that_kopia_lists_is_read_back(
    kopia: Kopia, mover: Mover, tmp_path: Path, version: str
) -> None:
    """The numbers are kopia's; what is remembered changes no blob, and the metrics say the same."""
    kopia.create(f"--format-version={version}")
    kopia.backup(sample_tree(tmp_path / "source"))
    blobs = {one["id"] for one in kopia.json("blob", "list")}
    metrics = tmp_path / "metrics" / "verify.prom"
    answer = _verify(mover, "--metrics-file", metrics)
    contents = kopia.contents()
    assert answer["contents"] == answer["read"]["contents"] == len(contents)
    assert answer["coverage"]["bytes"] == sum(one["length"] for one in contents.values())
    assert {one["percent"] for one in answer["coverage"]["within"]} == {100.0}
    assert {one["id"] for one in kopia.json("blob", "list")} == blobs
    assert 'verified_ratio{repository="' in metrics.read_text()
    kopia.backup(tmp_path / "source")
    fresh = _verify(mover, "--since", "1h")
    assert fresh["read"]["packs"] < fresh["packs"], "only what is new is read"
    assert "100 % of" in mover("repo", "verify", "--percent=0").stdout.decode()
    kopia.prove()


def test_damage_is_named_as_kopia_names_it(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    """One flipped bit: the content that kopia cannot read is the one that is told, and the pack is read first."""
    kopia.create()
    kopia.backup(sample_tree(tmp_path / "source"))
    _verify(mover)
    pack = _packs(kopia.repository)[0]
    sound = pack.read_bytes()
    pack.write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    done = mover("repo", "verify", "--json", check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 40
    assert b"mover repo repair" in done.stderr
    [damage] = answer["damages"]
    content = damage["context"]["content"]
    fresh = Kopia(kopia.binary, tmp_path / "fresh-home", kopia.repository)
    fresh.connect()
    refused = fresh("content", "show", content, check=False)
    assert refused.returncode != 0
    pack.write_bytes(sound)
    first = _verify(mover, "--budget=1")
    assert first["coverage"]["never_bytes"] == 0, "the pack that was damaged is read before all others"


def test_what_was_read_before_ctrl_c_is_not_read_again(mover: Mover, tmp_path: Path) -> None:
    """A slow verification is ended; the next one goes on with what is left."""
    mover.create()
    source = tmp_path / "source"
    source.mkdir()
    for number in range(8):
        (source / f"file-{number}").write_bytes(random.Random(number).randbytes(500_000))
        mover.backup(source)
    command = ["repo", "verify", "--json", "--parallel=1", "--max-download-speed=500K"]
    answer = _interrupted(mover, command)
    assert answer["canceled"]
    assert 0 < answer["read"]["packs"] < answer["packs"]
    assert answer["coverage"]["never_bytes"] > 0
    rest = _verify(mover, "--since=1h")
    assert rest["read"]["packs"] == answer["packs"] - answer["read"]["packs"]
    assert rest["coverage"]["never_bytes"] == 0


def _interrupted(mover: Mover, command: list[str]) -> dict[str, Any]:
    """Runs `mover` until a pack or more is read back, then does as Ctrl-C does; its answer."""
    environment = os.environ | {"HOME": str(mover.home), "KOPIA_PASSWORD": mover.password}
    words = [str(MOVER), *command, "--repo", str(mover.repository), "--progress-interval-seconds=0.3"]
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        deadline = time.monotonic() + WAIT_SECONDS
        while not re.match(r"[1-9]\d* packs?  ", running.stderr.readline()):
            assert time.monotonic() < deadline
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        told, _ = running.communicate(timeout=WAIT_SECONDS)
    assert running.returncode == 10
    answer: dict[str, Any] = json.loads(told)
    return answer
