"""Limits from options and from a file that changes."""

from __future__ import annotations

import argparse
import queue
from pathlib import Path

import pytest

from mover import throttle
from mover.throttle import read_throttle, throttle_of
from repository.errors import InvalidRequestError
from repository.requests import Throttle

WAIT_SECONDS_MAX = 60


def _arguments(**given: object) -> argparse.Namespace:
    return argparse.Namespace(
        **{"throttle_file": None, "max_upload_speed": None, "max_download_speed": None, **given}
    )


def test_options_win_over_what_is_kept_with_the_connection() -> None:
    assert throttle_of(_arguments(), 0, 0) == Throttle()
    assert throttle_of(_arguments(max_upload_speed=5), 7, 8) == Throttle(
        upload_bytes_per_second=5, download_bytes_per_second=8
    )


@pytest.mark.parametrize("text", ["", "[]", '{"maxUploadSpeedBytesPerSecond": "x"}'])
def test_a_file_with_something_else_is_refused_by_its_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match=r"limits\.json"):
        read_throttle(path)
    path.write_text('{"maxDownloadSpeedBytesPerSecond": -1}')
    with pytest.raises(InvalidRequestError, match="negative"):
        read_throttle(path)


def test_a_change_is_seen_also_when_it_comes_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "old").write_text('{"maxUploadSpeedBytesPerSecond": 100}')
    (tmp_path / "new").write_text('{"maxUploadSpeedBytesPerSecond": 200}')
    path = tmp_path / "limits.json"
    path.symlink_to("old")
    seen: queue.Queue[Throttle] = queue.Queue()
    throttle.watch(path, seen.put)
    (tmp_path / "link").symlink_to("new")
    (tmp_path / "link").rename(path)
    while seen.get(timeout=WAIT_SECONDS_MAX) != Throttle(upload_bytes_per_second=200):
        pass
