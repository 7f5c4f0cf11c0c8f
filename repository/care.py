"""Care of a repository: maintenance, health, verification, passwords, parameters, repair, copies.

Reports are the engine's JSON documents as they are; their
shapes are `native/crates/kopia-engine/src/maintenance/report.rs`,
`maintenance/health.rs`, `verify/repository.rs`, `repair/mod.rs`, `sync_to.rs` and `snapshot_copy.rs`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from repository import engine, requests
from repository.requests import ConnectionOptions, OpenOptions, encode
from repository.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintainOptions:
    """Which cycle, with which margins.

    `mode` is `auto`, `quick` or `full`; `safety` is `full` or `none`. `no_job_running` says that no
    other client
    with Velero's shared identity maintains now. `lock_file` keeps other processes of this machine out.
    """

    mode: str = "auto"
    safety: str = "full"
    dry_run: bool = False
    force: bool = False
    no_job_running: bool = False
    lock_file: str | None = None


def maintain(
    session: Session,
    options: MaintainOptions,
    *,
    progress: engine.Progress | None = None,
    cancel: engine.CancelToken | None = None,
) -> dict[str, Any]:
    """Runs a cycle; the report says what each task found, did, skipped and why.

    Raises:
        AccessDeniedError: Another client is the owner, or maintains on this machine now.
        StorageUnavailableError: The clocks of storage and machine differ too much.
    """
    request = json.dumps(asdict(options))
    progress, cancel = progress or engine.Progress(), cancel or engine.CancelToken()
    report: dict[str, Any] = json.loads(engine.maintain(session.native, request, progress, cancel))
    return report


def maintenance_info(session: Session) -> dict[str, Any]:
    """Owner, schedule and run history."""
    info: dict[str, Any] = json.loads(engine.maintenance_info(session.native))
    return info


def set_owner(session: Session, owner: str) -> None:
    """Makes `user@host` the one who maintains."""
    engine.set_maintenance_owner(session.native, owner)


def health(session: Session) -> dict[str, Any]:
    """Sizes by kind, indexes, what is not freed yet, and complaints."""
    document: dict[str, Any] = json.loads(engine.health(session.native))
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRepositoryOptions:
    """Which packs are read back: a random `percent`, only those not read since a Unix second, up to a budget.

    The longest unread go first. `windows_seconds` are the spans for which the answer says how much was read
    back within them. `ledger` is the file in which it is remembered; without one nothing is.
    """

    percent: float | None = None
    seed: int | None = None
    budget_bytes: int | None = None
    unread_since_seconds: int | None = None
    windows_seconds: Sequence[int] = ()
    ledger: str | None = None
    parallelism: int | None = None
    memory_budget_bytes: int | None = None


def verify_repository(
    session: Session,
    options: VerifyRepositoryOptions,
    *,
    progress: engine.Progress | None = None,
    cancel: engine.CancelToken | None = None,
) -> dict[str, Any]:
    """Checks all indexes against all packs and reads packs back; damage and cancellation are in the answer.

    Raises:
        FilesystemError: The ledger cannot be read or written.
    """
    limit = session.options.memory_limit_bytes
    budget = options.memory_budget_bytes or requests.restore_buffers_bytes(limit)
    request = encode(replace(options, memory_budget_bytes=budget))
    answer: dict[str, Any] = json.loads(
        engine.verify_repository(
            session.native, request, progress or engine.Progress(), cancel or engine.CancelToken()
        )
    )
    return answer


def change_password(
    url: str, old: str | bytes, new: str | bytes, options: OpenOptions | None = None
) -> dict[str, Any]:
    """Makes `new` the password that opens the repository; may be repeated if it was cut off.

    Raises:
        UnsupportedFormatError: This repository's password cannot be changed (format 1).
        InvalidPasswordError: Neither password opens it.
    """
    answer: dict[str, Any] = json.loads(
        engine.change_password(url, old, new, encode(options or OpenOptions()))
    )
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairOptions:
    """How to look, and whether to repair.

    `all_packs` takes in what only packs know though no index blob is damaged; `read_packs` reads every
    pack, so that contents whose bytes are damaged are found as well.
    """

    dry_run: bool = True
    all_packs: bool = False
    read_packs: bool = False
    open: OpenOptions = field(default_factory=OpenOptions)


def repair(
    url: str,
    password: str | bytes,
    options: RepairOptions,
    *,
    progress: engine.Progress | None = None,
    cancel: engine.CancelToken | None = None,
) -> dict[str, Any]:
    """Looks for damage and, unless `dry_run`, repairs it: `{"sound": …, "report": …}`.

    Raises:
        InvalidPasswordError: No format blob opens with the password.
    """
    progress, cancel = progress or engine.Progress(), cancel or engine.CancelToken()
    answer: dict[str, Any] = json.loads(engine.repair(url, password, encode(options), progress, cancel))
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterChanges:
    """What is to change; `None` stays as it is. `retention_mode` may be `none`."""

    max_pack_size_bytes: int | None = None
    index_version: int | None = None
    retention_mode: str | None = None
    retention_period_seconds: int | None = None
    epoch_refresh_frequency_seconds: float | None = None
    epoch_min_duration_seconds: float | None = None
    epoch_cleanup_safety_margin_seconds: float | None = None
    epoch_advance_on_count: int | None = None
    epoch_advance_on_size_bytes: int | None = None
    epoch_delete_parallelism: int | None = None
    epoch_checkpoint_frequency: int | None = None
    add_required_feature: str | None = None
    warn_on_missing_required_feature: bool = False
    remove_required_feature: str | None = None


def set_parameters(
    url: str, password: str | bytes, changes: ParameterChanges, options: OpenOptions | None = None
) -> dict[str, Any]:
    """Changes parameters of a repository; the answer has each with its value before and now.

    Raises:
        InvalidRequestError: Kopia would refuse it; nothing was changed.
        AccessDeniedError: Somebody upgrades the repository now.
    """
    answer: dict[str, Any] = json.loads(
        engine.set_parameters(url, password, encode(options or OpenOptions()), encode(changes))
    )
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeOptions:
    """How to upgrade; the times are Kopia's. Only `owner_id` may go on with what it has begun."""

    owner_id: str
    io_drain_timeout_seconds: float = 900
    status_poll_interval_seconds: float = 60
    max_permitted_clock_drift_seconds: float = 300
    advance_notice_seconds: float = 0
    allow_unsafe: bool = False
    lock_only: bool = False


def upgrade(
    url: str, password: str | bytes, upgrade: UpgradeOptions, options: OpenOptions | None = None
) -> dict[str, Any]:
    """Takes an upgrade to format 3 as far as it goes now: `state` is `up_to_date`, `draining` or `upgraded`.

    Raises:
        AccessDeniedError: Somebody else upgrades.
        CorruptedError: The new indexes differ from the old ones; it stays locked, and can be rolled back.
    """
    request = encode(options or OpenOptions())
    answer: dict[str, Any] = json.loads(engine.upgrade(url, password, request, encode(upgrade)))
    return answer


def roll_back_upgrade(
    url: str, password: str | bytes, owner_id: str, *, force: bool = False, options: OpenOptions | None = None
) -> None:
    """Ends an upgrade that is not committed; `force` takes somebody else's too."""
    engine.roll_back_upgrade(url, password, encode(options or OpenOptions()), owner_id, force)


def validate_upgrade(url: str, password: str | bytes, options: OpenOptions | None = None) -> int:
    """Compares the indexes of before an upgrade with those of after it; the number of entries."""
    return engine.validate_upgrade(url, password, encode(options or OpenOptions()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncToOptions:
    """How a repository is copied; `connection` is for both ends. `parallel` blobs are in memory at a time."""

    delete: bool = False
    dry_run: bool = False
    must_exist: bool = False
    parallel: int | None = None
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)


def sync_to(
    url: str,
    target: str,
    options: SyncToOptions,
    *,
    progress: engine.Progress | None = None,
    cancel: engine.CancelToken | None = None,
) -> dict[str, Any]:
    """Makes `target` hold what `url` holds; needs no password, and goes on where an earlier copy was cut off.

    Raises:
        RepositoryNotFoundError: There is none at `url`, or none at `target` though `must_exist`.
        RepositoryExistsError: `target` holds another repository, or anything else.
    """
    document = engine.sync_to(
        url, target, encode(options), progress or engine.Progress(), cancel or engine.CancelToken()
    )
    report: dict[str, Any] = json.loads(document)
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCopyOptions:
    """Which snapshots are copied: those whose IDs are given, else all, incomplete ones only if asked for."""

    snapshots: tuple[str, ...] = ()
    incomplete: bool = False
    dry_run: bool = False


def copy_snapshots(
    source: Session,
    target: Session,
    options: SnapshotCopyOptions,
    *,
    progress: engine.Progress | None = None,
    cancel: engine.CancelToken | None = None,
) -> dict[str, Any]:
    """Copies snapshots that `target` lacks, sealed anew with its keys; may be repeated if it was cut off.

    Raises:
        InvalidRequestError: Both are the same repository.
        ManifestNotFoundError: There is no such snapshot.
    """
    progress, cancel = progress or engine.Progress(), cancel or engine.CancelToken()
    document = engine.copy_snapshots(source.native, target.native, encode(options), progress, cancel)
    report: dict[str, Any] = json.loads(document)
    return report
