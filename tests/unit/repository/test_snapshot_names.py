"""Words that name snapshots: each form, what is ambiguous, what is not there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import pytest

from repository.errors import InvalidRequestError, SnapshotNotFoundError
from repository.moments import parse_moment
from repository.requests import Source
from repository.session import Session
from repository.snapshot_names import SnapshotNames
from repository.snapshots import Snapshot

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


def _snapshot(id_: str, source: str, start: str, incomplete: str = "") -> Snapshot:
    of = Source.parse(source)
    document = {
        "id": id_.ljust(32, "0"),
        "source": {"userName": of.username, "host": of.hostname, "path": of.path},
        "startTime": start,
    }
    return Snapshot(document | ({"incomplete": incomplete} if incomplete else {}))


@dataclass
class Listed:
    """A session that has these snapshots and is `me@here`."""

    found: list[Snapshot]
    listings: int = field(default=0)

    def snapshots(self) -> list[Snapshot]:
        self.listings += 1
        return self.found

    def source_of(self, path: str) -> Source:
        return Source("me", "here", path)

    def snapshot(self, snapshot_id: str) -> Snapshot:
        return next(one for one in self.found if one.id == snapshot_id)


FOUND = [
    _snapshot("aaaa1", "me@here:/home/me", "2026-11-29T08:00:00Z"),
    _snapshot("aaaa2", "me@here:/home/me", "2026-11-30T09:00:00.7Z"),
    _snapshot("bbbb1", "me@here:/home/me", "2026-11-30T11:00:00Z"),
    _snapshot("cccc1", "me@here:/home/me/mail", "2026-11-30T10:00:00Z"),
    _snapshot("dddd1", "me@here:/home/me", "2026-12-01T11:59:00Z", "checkpoint"),
    _snapshot("eeee1", "you@there:/home/me", "2026-12-01T11:00:00Z"),
    _snapshot("ffff1", "you@there:/srv", "2026-12-01T10:00:00Z"),
    _snapshot("99991", "a@one:/shared", "2026-12-01T10:00:00Z"),
    _snapshot("99992", "a@two:/shared", "2026-12-01T11:00:00Z"),
]


def _names(found: list[Snapshot] = FOUND) -> SnapshotNames:
    return SnapshotNames(cast("Session", Listed(found)), now=lambda: NOW)


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")


@pytest.mark.parametrize(
    ("text", "id_", "rest"),
    [
        ("latest", "bbbb1", ""),
        ("latest/mail/inbox", "bbbb1", "/mail/inbox"),
        ("latest@2026-11-30T10:30Z", "cccc1", ""),
        ("latest@2026-11-29/x", "aaaa1", "/x"),
        ("latest@25h", "bbbb1", ""),
        ("latest@26h", "cccc1", ""),
        ("/home/me", "bbbb1", ""),
        ("/home/me/", "bbbb1", ""),
        ("~", "bbbb1", ""),
        ("~/../me/docs/letter", "bbbb1", "/docs/letter"),
        ("/home/me/mail", "cccc1", ""),
        ("/home/me/mail/inbox", "cccc1", "/inbox"),
        ("/home/me/mailing", "bbbb1", "/mailing"),
        ("/home/me@2026-11-30T09:00:00Z", "aaaa2", ""),
        ("/home/me@2026-11-29/docs", "aaaa1", "/docs"),
        ("/home/me@2026-11-30", "bbbb1", ""),
        ("you@there:/home/me", "eeee1", ""),
        ("you@there:/home/me@1m/x", "eeee1", "/x"),
        ("/srv", "ffff1", ""),
        ("aaaa2", "aaaa2", ""),
        ("dddd/x", "dddd1", "/x"),
        ("cccc1".ljust(32, "0") + "/x", "cccc1", "/x"),
    ],
)
def test_a_word_names_one_snapshot(text: str, id_: str, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    named = _names().resolve(text)
    assert (named.root, named.rest) == (id_.ljust(32, "0"), rest)


def test_a_relative_path_is_of_the_current_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getcwd", lambda: "/home")
    assert _names().resolve("me/docs").path == "bbbb1".ljust(32, "0") + "/docs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("aaaa", "begins the IDs of 2 snapshots: aaaa1"),
        ("/shared", "say which of a@one:/shared, a@two:/shared"),
        ("latest@yesterday", "'yesterday' is no time"),
        ("latest@2026-13-40", "is no time"),
        ("/home/me@", "'' is no time"),
    ],
)
def test_what_is_ambiguous_is_refused_with_its_candidates(text: str, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        _names().resolve(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latset", "did you mean latest"),
        ("/home/mee", "did you mean /home/me"),
        ("abcdef", "the newest are .*99992"),
        ("", "the newest are"),
        ("you@here:/home/me", "did you mean you@there:/home/me"),
        (
            "/home/me@2026-11-01",
            "no snapshot of me@here:/home/me at or before 2026-11-01: the oldest is aaaa1",
        ),
    ],
)
def test_what_is_not_there_is_told_with_what_is(text: str, said: str) -> None:
    with pytest.raises(SnapshotNotFoundError, match=said):
        _names().resolve(text)


def test_an_empty_repository_says_so() -> None:
    with pytest.raises(SnapshotNotFoundError, match="no complete snapshot"):
        _names([]).resolve("latest")
    with pytest.raises(SnapshotNotFoundError, match="the repository has none"):
        _names([]).resolve("abcd")


def test_whole_ids_cost_no_listing_and_several_names_only_one() -> None:
    session = Listed(FOUND)
    names = SnapshotNames(cast("Session", session), now=lambda: NOW)
    assert names.path("k" + "ab" * 16 + "/x") == "k" + "ab" * 16 + "/x"
    assert session.listings == 0
    assert len(names.ids(["latest", "bbbb", "aaaa1"])) == 2
    assert session.listings == 1


def test_a_part_is_no_whole_snapshot() -> None:
    with pytest.raises(InvalidRequestError, match="names a part"):
        _names().snapshot("latest/x")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-30", "2026-11-30T23:59:59.999999"),
        ("2026-11-30T14:05", "2026-11-30T14:05:59.999999"),
        ("2026-11-30 14:05:10Z", "2026-11-30T14:05:10.999999"),
        ("2026-11-30T14:05:10.25Z", "2026-11-30T14:05:10.250000"),
        ("2026-11-30T14:05:10.123456789Z", "2026-11-30T14:05:10.123456"),
        ("2026-11-30T14:05+02:00", "2026-11-30T12:05:59.999999"),
        ("3h", "2026-12-01T09:00:00"),
        ("2w", "2026-11-17T12:00:00"),
    ],
)
def test_a_time_counts_to_the_end_of_what_it_names(text: str, moment: str) -> None:
    assert parse_moment(text, NOW).replace(tzinfo=None).isoformat() == moment


@pytest.mark.parametrize(
    "text", ["", "now", "2026", "999999w", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "3x"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is no time"):
        parse_moment(text, NOW)
