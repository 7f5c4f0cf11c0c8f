"""Prefixes as people write them: what one program stores the other finds, and nothing is taken for empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.drivers import Kopia, Mover
from tests.objectstore.flat_s3 import FlatS3, flat_s3
from tests.objectstore.servers import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, write_credentials
from tests.objectstore.source import contents, mover_at, tree


@pytest.fixture(name="flat")
def _flat() -> Iterator[FlatS3]:
    with flat_s3() as server:
        yield server


def url_of(flat: FlatS3, prefix: str, tmp_path: Path) -> str:
    """What `mover --repo` takes."""
    credentials = tmp_path / "credentials"
    write_credentials(credentials, ACCESS_KEY, SECRET_KEY)
    options = f"prefix={quote(prefix, safe='')}&endpoint={flat.endpoint}&credentials-file={credentials}"
    return f"s3://{BUCKET}?{options}&region=us-east-1"


def kopia_on(kopia_binary: Path, tmp_path: Path) -> Kopia:
    """The real program with a home of its own."""
    return Kopia(kopia_binary, tmp_path / "kopia-home", tmp_path)


PREFIXES = ["/x/", "//", "a//b/", "/half-", "half-", "plain/"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_both_programs_mean_the_same_objects_by_a_prefix(
    prefix: str, flat: FlatS3, kopia_binary: Path, tmp_path: Path
) -> None:
    """Kopia's repository is read and written by ours, and read again by Kopia: keys are prefix and name, joined."""
    source = tree(tmp_path / "source", seed=1, large_bytes=1 << 20)
    kopia = kopia_on(kopia_binary, tmp_path)
    kopia("repository", "create", *flat.kopia_arguments(prefix))
    theirs = kopia.backup(source)["id"]
    mover = mover_at(tmp_path, url_of(flat, prefix, tmp_path))
    assert {one["id"] for one in mover.snapshots()} == {theirs}
    mover.restore(theirs, tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(source)
    (source / "more").write_bytes(b"more")
    ours = mover.backup(source)["id"]
    assert all(key.startswith(prefix) for key in flat.objects)
    kopia.restore(ours, tmp_path / "by-kopia")
    assert contents(tmp_path / "by-kopia") == contents(source)
    kopia.prove()


@pytest.mark.parametrize("prefix", ["/x/", "//"])
def test_a_repository_below_such_a_prefix_is_made_once(
    prefix: str, flat: FlatS3, kopia_binary: Path, tmp_path: Path
) -> None:
    """A second `repo create` is refused and the format blob stays as it is; kopia opens what ours made."""
    mover = mover_at(tmp_path, url_of(flat, prefix, tmp_path))
    mover.create()
    before = dict(flat.objects)
    done = Mover(mover.home, mover.repository)("repo", "create", str(mover.repository), check=False)
    assert done.returncode != 0
    assert b"exists" in done.stderr
    assert flat.objects == before
    kopia = kopia_on(kopia_binary, tmp_path)
    kopia("repository", "connect", *flat.kopia_arguments(prefix))
    assert kopia.snapshots() == []


@pytest.mark.parametrize("marker", ["s0123456789abcdef", "p0123456789abcdef0123456789abcdef-s0123", "xe7"])
def test_a_place_where_somebody_is_at_work_is_not_empty(marker: str, flat: FlatS3, tmp_path: Path) -> None:
    """A session marker or a pack without a format blob is another client's: nothing is put there."""
    flat.put(f"busy/{marker}", b"theirs", is_new=False)
    mover = mover_at(tmp_path, url_of(flat, "busy/", tmp_path))
    done = mover("repo", "create", str(mover.repository), check=False)
    assert b"not empty" in done.stderr
    assert marker.encode() in done.stderr
    assert set(flat.objects) == {f"busy/{marker}"}


def test_a_server_that_lists_otherwise_than_it_stores_gets_no_repository(
    s3: S3Server, tmp_path: Path
) -> None:
    """versitygw puts `/lost/a` where `lost/a` is, and lists nothing below `/lost/`: said before a backup is lost."""
    url = s3.url("").replace("?", "?prefix=%2Flost%2F&", 1)
    mover = mover_at(tmp_path, url)
    done = mover("repo", "create", url, check=False)
    assert done.returncode != 0
    assert b"does not list what was just put there" in done.stderr
    assert not [path for path in (s3.data / BUCKET / "lost").glob("*") if path.is_file()]
    # One that is there already, by the name that the server gives it, is not replaced either.
    mover_at(tmp_path, s3.url("lost/")).create()
    format_blob = s3.data / BUCKET / "lost" / "kopia.repository"
    before = format_blob.read_bytes()
    done = mover("repo", "create", url, check=False)
    assert b"exists" in done.stderr
    assert format_blob.read_bytes() == before


@pytest.mark.parametrize("prefix", ["a/../b/", "./x/", "x/.."])
def test_parts_that_urls_do_away_with_are_refused(prefix: str, flat: FlatS3, tmp_path: Path) -> None:
    """Before anything is asked of the server."""
    mover = mover_at(tmp_path, url_of(flat, prefix, tmp_path))
    done = mover("repo", "create", str(mover.repository), check=False)
    assert done.returncode == 2, done.stderr
    assert b"no part of its prefix may be . or .." in done.stderr
    assert flat.objects == {}


def test_foreign_keys_do_not_close_the_repository(flat: FlatS3, tmp_path: Path) -> None:
    """A key with `..`, an empty part or a control character is nobody's: it is passed over and told."""
    mover = mover_at(tmp_path, url_of(flat, "mine/", tmp_path))
    mover.create()
    source = tree(tmp_path / "source", seed=3, large_bytes=1 << 20)
    snapshot = mover.backup(source)["id"]
    for key in ("mine/..", "mine/../../etc/passwd", "mine//x", "mine/deeper/p1", "mine/a\tb"):
        flat.put(key, b"foreign", is_new=False)
    assert {one["id"] for one in mover.snapshots()} == {snapshot}
    mover.restore(snapshot, tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(source)


def test_a_listing_that_goes_in_a_circle_ends(flat: FlatS3, tmp_path: Path) -> None:
    """The same continuation token again is an error that says so."""
    mover = mover_at(tmp_path, url_of(flat, "mine/", tmp_path))
    mover.create()
    flat.same_token = True
    done = mover("snapshot", "list", check=False)
    assert done.returncode == 30, done.stderr
    assert b"same page again and again" in done.stderr
