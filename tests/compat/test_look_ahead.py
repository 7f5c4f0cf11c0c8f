"""What was seen of a source before its repository was open is a hint: the snapshot is the same, or newer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from repository import Session, Snapshot, open_repository
from repository.engine import Ahead
from tests.drivers import Kopia, Mover
from tests.trees import sample_tree

pytestmark = pytest.mark.kopia
LONG_AGO = 1_500_000_000


@pytest.fixture
def session(kopia: Kopia, mover: Mover) -> Iterator[Session]:
    """An open repository that `kopia` made."""
    kopia.create()
    with open_repository(str(mover.repository), mover.password) as session:
        yield session


def test_a_source_that_was_looked_at_ahead_is_the_same_snapshot(
    session: Session, kopia: Kopia, tmp_path: Path
) -> None:
    source = sample_tree(tmp_path / "source", seed=3)
    ahead = Ahead(source)
    expected = kopia.backup(source)["rootEntry"]["obj"]
    # By now it has seen everything.
    session.native.refresh()
    first = session.backup(source, ahead=ahead)
    again = session.backup(source, ahead=Ahead(source))
    assert first.snapshot.root.object_id == again.snapshot.root.object_id == expected
    assert again.bytes_read == 0


def test_what_changed_since_the_look_is_seen_now_or_by_the_next_backup(
    session: Session, kopia: Kopia, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    for name in ("kept", "changed", "below/gone"):
        (source / name).write_text("before")
    os.utime(source, (LONG_AGO, LONG_AGO))
    os.utime(source / "below", (LONG_AGO, LONG_AGO))
    session.backup(source)
    ahead = Ahead(source)
    kopia.backup(source)  # long enough to look at three files
    (source / "changed").write_text("after it")
    (source / "below" / "gone").unlink()
    (source / "new").write_text("new")
    result = session.backup(source, ahead=ahead)
    found = _sizes(session, result.snapshot)
    assert found.keys() == {"", "below", "kept", "changed", "new"}
    assert found["changed"] in {len("before"), len("after it")}
    assert result.snapshot.started_at < result.snapshot.ended_at
    assert _sizes(session, session.backup(source).snapshot)["changed"] == len("after it")


def _sizes(session: Session, snapshot: Snapshot) -> dict[str, int]:
    return {entry.path: entry.size_bytes for entry in session.walk(snapshot.id)}
