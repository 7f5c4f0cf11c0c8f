"""The table for people who come from Kopia or restic: every line of it runs, from top to bottom."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from mover import cli

PAGE = Path(__file__).parents[3] / "docs" / "coming-from-kopia-and-restic.md"
LINES = re.findall(r"`(mover [^`]+)`[^`|]*(?:`MOVER_REPOSITORY`\) )?\|$", PAGE.read_text(), re.MULTILINE)
PLACE = re.compile(r"(?<![\w-])(R|P|D|F|T\d)(?![\w-])")
RESTORED = {"T1": "dump.sql", "T2": "sub/f", "T3": "sub/f", "T4": "f"}


def test_every_line_of_the_table_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "D" / "sub").mkdir(parents=True)
    (tmp_path / "D" / "sub" / "f").write_text("the bytes")
    (tmp_path / "P").write_text("secret\n")
    (tmp_path / "input").write_text("the bytes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KOPIA_PASSWORD", "secret")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert len(LINES) == len(
        [one for one in PAGE.read_text().splitlines() if "`mover " in one and one[0] == "|"]
    )
    with (tmp_path / "input").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        for line in LINES:
            words = shlex.split(PLACE.sub(lambda found: str(tmp_path / found[1]), line))
            code = cli.main(words[1:])
            shown = capfd.readouterr()
            assert code == 0, (line, shown.err)
            if line.startswith("mover cat"):
                assert shown.out == "the bytes"
    for target, name in RESTORED.items():
        assert (tmp_path / target / name).read_text() == "the bytes"
    assert os.listdir(tmp_path / "R")
