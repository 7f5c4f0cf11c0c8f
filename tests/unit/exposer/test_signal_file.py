from __future__ import annotations

import os
from pathlib import Path

import pytest

from exposer.signal_file import write_signal


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    made = tmp_path / "pod-uid" / "volumes" / "kubernetes.io~empty-dir" / "signal"
    made.mkdir(parents=True)
    return made


def test_text_appears_under_its_name_and_nothing_beside_it(tmp_path: Path, volume: Path) -> None:
    assert write_signal(tmp_path, "pod-uid", "request", "first")
    assert write_signal(tmp_path, "pod-uid", "request", "again")
    assert [path.name for path in volume.iterdir()] == ["request"]
    assert (volume / "request").read_text() == "again"


def test_pod_without_the_volume_is_left_to_the_kubelet(tmp_path: Path) -> None:
    assert not write_signal(tmp_path, "pod-uid", "request", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["volume", "part"])
def test_no_link_is_followed(tmp_path: Path, volume: Path, where: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    if where == "volume":
        volume.rmdir()
        volume.symlink_to(outside)
    else:
        (volume / "request.part").symlink_to(outside / "request")
    assert not write_signal(tmp_path, "pod-uid", "request", "text")
    assert os.listdir(outside) == []
