"""Where files of a name are in the snapshots of a source; what did not change between them is not read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from repository.snapshots import Entry, Snapshot

if TYPE_CHECKING:
    from repository.session import Session

Matches = Callable[[Entry], bool]


@dataclass(frozen=True, slots=True)
class Found:
    """An entry in a snapshot. `same` if the snapshot before has the same object at the same path."""

    snapshot: Snapshot
    entry: Entry
    same: bool


def matcher(pattern: str, *, ignore_case: bool = False) -> Matches:
    """What an entry must be called: a pattern with `/` is of its path in the snapshot, else of its name.

    `*`, `?` and `[…]` are those of a shell, where `*` takes `/` too.
    """

    def folded(text: str) -> str:
        return text.casefold() if ignore_case else text

    wanted = folded(pattern.lstrip("/"))
    if "/" in wanted:
        return lambda entry: fnmatchcase(folded(entry.path), wanted)
    return lambda entry: fnmatchcase(folded(entry.path.rpartition("/")[2]), wanted)


def find(session: Session, snapshots: Sequence[Snapshot], matches: Matches) -> Iterator[Found]:
    """What matches in `snapshots` of one source, by time, paths in order.

    The first is walked whole, of each other one only what is not the same as in the one before: a thousand
    snapshots of a tree that hardly changes cost little more than one.
    """
    before: Snapshot | None = None
    there: dict[str, Entry] = {}
    for snapshot in snapshots:
        older = dict(there)
        if before is None:
            there = {one.path: one for one in session.walk(snapshot.id) if one.path and matches(one)}
        elif before.root.object_id != snapshot.root.object_id:
            _apply(session, before, snapshot, matches, there)
        for path in sorted(there):
            entry, known = there[path], older.get(path)
            yield Found(snapshot, entry, known is not None and known.object_id == entry.object_id)
        before = snapshot


def _apply(
    session: Session, before: Snapshot, after: Snapshot, matches: Matches, there: dict[str, Entry]
) -> None:
    """Brings what matched in one snapshot to what matches in the next."""
    for one in session.diff(before.id, after.id):
        there.pop(one.path, None)
        if one.after is not None and one.path:
            entry = replace(one.after, path=one.path)
            if matches(entry):
                there[one.path] = entry
