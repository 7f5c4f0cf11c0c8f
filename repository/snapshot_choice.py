"""What `snapshot copy` takes: snapshots of sources, the newest ones, policies.

Which of them the target lacks, and copying itself, is the engine's (`snapshot_copy.rs`).
Source: Kopia `cli/command_snapshot_migrate.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repository.errors import InvalidRequestError
from repository.policies import Policy, Target
from repository.requests import Source
from repository.session import Session


def choose(
    session: Session, sources: Sequence[Source], *, latest: bool = False, incomplete: bool = False
) -> tuple[str, ...]:
    """IDs of the snapshots of `sources` (all if there are none), of each only the newest one if `latest`.

    Raises:
        InvalidRequestError: A source has no snapshot.
    """
    found = [one for one in session.snapshots() if incomplete or not one.incomplete_reason]
    known = {one.source for one in found}
    for source in sources:
        if source not in known:
            raise InvalidRequestError(f"no snapshot of {source}")
    wanted = [one for one in found if not sources or one.source in sources]
    if latest:
        # They come by start time: the last of each source stays.
        wanted = list({one.source: one for one in wanted}.values())
    return tuple(one.id for one in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCopies:
    """Targets of policies that were, or would be, copied, and of those that are there already."""

    copied: tuple[str, ...]
    present: tuple[str, ...]


def copy_policies(
    source: Session,
    target: Session,
    sources: Sequence[Source] | None,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
) -> PolicyCopies:
    """Copies the policies that are defined for exactly `sources`, or all, as they stand.

    One that `target` has stays unless `overwrite`.
    """
    targets = None if sources is None else {Target(one.username, one.hostname, one.path) for one in sources}
    wanted = [one for one in source.policies() if targets is None or one.target in targets]
    there = {one.target for one in target.policies()}
    copied: list[Policy] = [one for one in wanted if overwrite or one.target not in there]
    if not dry_run:
        for policy in copied:
            target.set_policy(policy.target, policy.document, check=False)
    present = [one for one in wanted if one not in copied]
    return PolicyCopies(
        copied=tuple(sorted(str(one.target) for one in copied)),
        present=tuple(sorted(str(one.target) for one in present)),
    )
