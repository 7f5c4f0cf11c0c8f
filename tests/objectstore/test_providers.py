"""Every object store by a real server: the promises of the storage, and both programs on one bucket."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Protocol

import pytest

from tests.drivers import Kopia
from tests.objectstore.source import contents, mover_at, tree

ROOT = Path(__file__).parents[2]
CARGO_SECONDS_MAX = 900


class Server(Protocol):
    """What the tests want of a server."""

    def url(self, prefix: str) -> str:
        """What `mover --repo` takes."""

    def put(self, key: str, content: bytes) -> None:
        """An object that no repository would make."""

    def kopia_arguments(self, prefix: str) -> list[str]:
        """What `kopia repository connect` or `create` takes."""

    def kopia_environment(self) -> dict[str, str]:
        """How the real program finds the server."""


@pytest.fixture(params=["s3", "azure", "gcs"])
def server(request: pytest.FixtureRequest) -> Server:
    """One server after the other."""
    found: Server = request.getfixturevalue(request.param)
    return found


def kopia_at(server: Server, binary: Path, tmp_path: Path) -> Kopia:
    """The real program, not connected yet."""
    return Kopia(binary, tmp_path / "kopia-home", tmp_path, environment=server.kopia_environment())


def test_the_storage_keeps_every_promise(server: Server, request: pytest.FixtureRequest) -> None:
    """The conformance suite of the engine, with a listing in pages: of 10,000 blobs where the server is quick."""
    command = ["cargo", "test", "--quiet", "--workspace", "--test", "storage_served", "--"]
    command += ["--ignored", "--test-threads", "1"]
    is_s3 = "s3" in request.node.callspec.id
    command += [] if is_s3 else ["--skip", "s3_"]
    url = server.url("conformance") + ("" if is_s3 else "&page-length=500")
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"KOPIA_TEST_STORAGE": url, "KOPIA_TEST_LISTED_COUNT": "10000" if is_s3 else "1200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=CARGO_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert ("6 passed" if is_s3 else "4 passed") in done.stdout, done.stdout


def test_a_repository_of_ours_is_kopias(server: Server, kopia_binary: Path, tmp_path: Path) -> None:
    """We create and back up; the real program verifies every byte, and backs up for us to restore."""
    mover = mover_at(tmp_path, server.url("ours/kopia/ns/"))
    mover.create()
    mover.backup(tree(tmp_path / "ours", seed=1))

    kopia = kopia_at(server, kopia_binary, tmp_path)
    kopia("repository", "connect", *server.kopia_arguments("ours/kopia/ns/"))
    kopia.prove()
    theirs = tree(tmp_path / "theirs", seed=2)
    kopia.backup(theirs)

    snapshot = next(one["id"] for one in mover.snapshots() if one["source"]["path"] == str(theirs))
    mover.restore(snapshot, tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(theirs)


def test_a_repository_of_kopia_is_ours(server: Server, kopia_binary: Path, tmp_path: Path) -> None:
    """The real program creates and backs up; we restore it and back up for it to restore."""
    kopia = kopia_at(server, kopia_binary, tmp_path)
    kopia("repository", "create", *server.kopia_arguments("theirs/"))
    theirs = tree(tmp_path / "theirs", seed=3)
    snapshot = kopia.backup(theirs)["id"]

    mover = mover_at(tmp_path, server.url("theirs"))
    mover.restore(snapshot, tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(theirs)
    ours = tree(tmp_path / "ours", seed=4)
    mover.backup(ours)
    snapshot = next(one["id"] for one in kopia.snapshots() if one["source"]["path"] == str(ours))
    kopia.restore(snapshot, tmp_path / "restored-by-kopia")
    assert contents(tmp_path / "restored-by-kopia") == contents(ours)
