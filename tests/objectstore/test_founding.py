"""Several clients make a repository in one place in the same moment: one has it, the others are told."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.objectstore.flat_s3 import flat_s3
from tests.objectstore.servers import S3Server
from tests.objectstore.test_prefixes import url_of

CLIENTS = 4
ROUNDS = 6


def create_at_once(tmp_path: Path, url: str) -> list[tuple[Mover, subprocess.CompletedProcess[bytes]]]:
    """`repo create` by several clients, each with a password of its own."""
    movers = [Mover(tmp_path / f"home-{n}", url, password=f"password-{n}") for n in range(CLIENTS)]  # type: ignore[arg-type]

    def create(mover: Mover) -> subprocess.CompletedProcess[bytes]:
        return mover("repo", "create", url, "--no-cache", check=False)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(zip(movers, pool.map(create, movers), strict=True))


def assert_one_winner(tmp_path: Path, url: str) -> Mover:
    """Exactly one client succeeds; its password opens what is there, and can write; nobody else's does."""
    ended = create_at_once(tmp_path, url)
    winners = [mover for mover, done in ended if done.returncode == 0]
    assert len(winners) == 1, [done.stderr for _, done in ended]
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / "file").write_bytes(b"bytes")
    assert winners[0].backup(source)["id"] in {one["id"] for one in winners[0].snapshots()}
    for mover, done in ended:
        if mover is not winners[0]:
            assert any(
                word in done.stderr for word in (b"exists", b"at the same time", b"being made", b"not empty")
            ), done.stderr
            assert b"invalid repository password" in mover("snapshot", "list", check=False).stderr
    return winners[0]


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_of_many_founders_one_has_the_repository(
    kind: str, request: pytest.FixtureRequest, kopia_binary: Path, tmp_path: Path
) -> None:
    """Round after round, on a file system and on a real S3 server; the real program opens the last one."""
    server: S3Server | None = request.getfixturevalue("s3") if kind == "s3" else None

    def place(number: int) -> str:
        return server.url(f"founded-{number}/") if server else str(tmp_path / f"repository-{number}")

    for number in range(ROUNDS):
        winner = assert_one_winner(tmp_path / f"round-{number}", place(number))
    kopia = Kopia(
        kopia_binary, tmp_path / "kopia-home", tmp_path / f"repository-{ROUNDS - 1}", winner.password
    )
    if server:
        kopia("repository", "connect", *server.kopia_arguments(f"founded-{ROUNDS - 1}/"))
    else:
        kopia.connect()
    assert len(kopia.snapshots()) == 1


@pytest.mark.parametrize("conditions", ["kept", "refused"])
def test_a_founder_knows_conditions_or_does_without(conditions: str, tmp_path: Path) -> None:
    """A store that refuses conditional puts still gets its repository."""
    with flat_s3() as flat:
        flat.conditions = conditions
        mover = Mover(tmp_path / "home", url_of(flat, "x/", tmp_path))  # type: ignore[arg-type]
        mover.create()
        assert mover.snapshots() == []


def test_where_conditions_are_passed_over_nobody_believes_in_a_repository_that_is_not_theirs(
    tmp_path: Path,
) -> None:
    """At most one client succeeds, and if one does its password opens what is there."""
    with flat_s3() as flat:
        flat.conditions = "ignored"
        url = url_of(flat, "x/", tmp_path)
        ended = create_at_once(tmp_path, url)
        winners = [mover for mover, done in ended if done.returncode == 0]
        assert len(winners) <= 1, [done.stderr for _, done in ended]
        for mover in winners:
            assert mover.snapshots() == []
