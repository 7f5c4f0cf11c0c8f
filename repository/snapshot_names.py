"""Which snapshot a word names, for everything that takes a snapshot.

    ID            a snapshot's ID, or the beginning of one (at least 4 digits); an object's ID whole
    latest        the newest complete snapshot of this user and host; of anybody where there is none
    PATH          the newest complete one of that source, and of a path below it that part of it
    USER@HOST:PATH    the same of somebody else
    latest@TIME, PATH@TIME    the newest that had begun by then (`repository.moments`)

`/SUB/PATH` may stand behind each. An ID that is whole costs no listing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from repository.errors import InvalidRequestError, SnapshotNotFoundError
from repository.moments import parse_moment

if TYPE_CHECKING:
    from repository.session import Session
    from repository.snapshots import Snapshot

LATEST = "latest"
WHOLE_ID = re.compile(r"(?:S\d+,\d+,)?[DIZ]*[g-z]?[0-9a-f]{32,}")
SHORT_ID = re.compile(r"[0-9a-f]{4,31}")
OWNED_PATH = re.compile(r"([^@/:]+)@([^@/:]+):(/.*)", re.DOTALL)
SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Named:
    """What a word names: `root` is an ID, `rest` empty or `/SUB/PATH`; `snapshot` is `None` of a whole ID.

    `by_source` where it was a source's path, without a time.
    """

    root: str
    rest: str = ""
    snapshot: Snapshot | None = None
    by_source: bool = False

    @property
    def path(self) -> str:
        """`ID/SUB/PATH`, as the engine takes it."""
        return self.root + self.rest


def _now() -> datetime:
    return datetime.now(UTC)


class SnapshotNames:
    """The names of an open repository; its snapshots are listed once, when a name first needs them."""

    def __init__(self, session: Session, now: Callable[[], datetime] = _now) -> None:
        self._session = session
        self._now = now
        self._listed: list[Snapshot] | None = None

    def resolve(self, text: str) -> Named:
        """What `text` names.

        Raises:
            SnapshotNotFoundError: Nothing; the message has what there is.
            InvalidRequestError: More than one snapshot, or its time is no time.
        """
        head, slash, tail = text.partition("/")
        rest = slash + tail
        if WHOLE_ID.fullmatch(head):
            return Named(head, rest)
        word, at, moment = head.partition("@")
        if word == LATEST:
            return Named((found := self._latest(moment if at else None)).id, rest, found)
        if SHORT_ID.fullmatch(head) and (found_id := self._short(head)):
            return Named(found_id.id, rest, found_id)
        return self._of_source(text)

    def path(self, text: str) -> str:
        """`ID/SUB/PATH` of what `text` names; raises as `resolve`."""
        return self.resolve(text).path

    def snapshot(self, text: str) -> Snapshot:
        """The whole snapshot that `text` names; raises as `resolve`, and where a part of one is named."""
        named = self.resolve(text)
        if named.rest.strip("/"):
            raise InvalidRequestError(f"{text!r} names a part of a snapshot: a whole one is needed")
        return named.snapshot or self._session.snapshot(named.root)

    def ids(self, texts: Iterable[str]) -> list[str]:
        """The IDs of the snapshots that `texts` name, each once; raises as `snapshot`."""
        return list(dict.fromkeys(self.snapshot(text).id for text in texts))

    def _all(self) -> list[Snapshot]:
        if self._listed is None:
            self._listed = self._session.snapshots()
        return self._listed

    def _complete(self) -> list[Snapshot]:
        return [one for one in self._all() if not one.incomplete_reason]

    def _mine(self, found: Sequence[Snapshot]) -> list[Snapshot]:
        """Those of this user and host; all of them if there are none."""
        me = self._session.source_of("")
        owner = me.username, me.hostname
        return [one for one in found if (one.source.username, one.source.hostname) == owner] or list(found)

    def _latest(self, moment: str | None) -> Snapshot:
        found = self._mine(self._complete())
        if not found:
            raise SnapshotNotFoundError("the repository has no complete snapshot")
        return self._newest(found, moment, "")

    def _newest(self, found: Sequence[Snapshot], moment: str | None, of: str) -> Snapshot:
        ordered = sorted(found, key=lambda one: one.started_at)
        if moment is None:
            return ordered[-1]
        until = parse_moment(moment, self._now())
        before = [one for one in ordered if one.started_at <= until]
        if not before:
            raise SnapshotNotFoundError(
                f"no snapshot{of} at or before {moment}: the oldest is {described(ordered[0])}"
            )
        return before[-1]

    def _short(self, text: str) -> Snapshot | None:
        found = [one for one in self._all() if one.id.startswith(text)]
        if len(found) > 1:
            raise InvalidRequestError(
                f"{text!r} begins the IDs of {len(found)} snapshots: {_candidates(found)}"
            )
        return found[0] if found else None

    def _of_source(self, text: str) -> Named:
        nearest, path = self._nearest(text)
        sources = list(dict.fromkeys(str(one.source) for one in nearest))
        if len(sources) > 1:
            raise InvalidRequestError(
                f"{text!r} was backed up by several: say which of {', '.join(sources[:SHOWN_MAX])}"
            )
        match = _match(nearest[0].source.path, path) if nearest else None
        if match is None:
            self._refuse(text)
        moment, rest = match
        snapshot = self._newest(nearest, moment, f" of {sources[0]}")
        return Named(snapshot.id, rest, snapshot, by_source=moment is None)

    def _nearest(self, text: str) -> tuple[list[Snapshot], str]:
        """The complete snapshots of the longest source that the path in `text` begins with, and that path."""
        owned, found = OWNED_PATH.fullmatch(text), self._complete()
        path = owned[3] if owned else _absolute(text) if text else ""
        if owned:
            owner = owned.group(1, 2)
            found = [one for one in found if (one.source.username, one.source.hostname) == owner]
        holding = [one for one in found if _match(one.source.path, path)]
        longest = max((len(one.source.path) for one in holding), default=0)
        return self._mine([one for one in holding if len(one.source.path) == longest]), path

    def _refuse(self, text: str) -> NoReturn:
        every = self._all()
        if not every:
            raise SnapshotNotFoundError(f"no snapshot {text!r}: the repository has none")
        paths = {one.source.path for one in every}
        near = get_close_matches(text, [LATEST, *paths, *(str(one.source) for one in every)], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the newest are {_candidates(every[-3:])}"
        raise SnapshotNotFoundError(f"no snapshot {text!r}: {hint}")


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - Path.resolve() follows links


def _match(source: str, path: str) -> tuple[str | None, str] | None:
    """The time and the rest of a path that begins with a source's; nothing if it does not."""
    if path == source:
        return None, ""
    if path.startswith(f"{source}@"):
        moment, slash, rest = path[len(source) + 1 :].partition("/")
        return moment, slash + rest
    parent = source.rstrip("/")
    return (None, path[len(parent) :]) if path.startswith(f"{parent}/") else None


def described(snapshot: Snapshot) -> str:
    """One snapshot in a message: ID, source, start."""
    return f"{snapshot.id} of {snapshot.source}, {snapshot.started_at:%Y-%m-%d %H:%M:%S} UTC"


def _candidates(found: Sequence[Snapshot]) -> str:
    shown = "; ".join(described(one) for one in found[:SHOWN_MAX])
    return shown + (f"; and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else "")
