"""`mover repo verify`."""

from __future__ import annotations

import argparse
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from mover import exit_codes
from mover.arguments import (
    add_progress_options,
    examples,
    filled,
    percent,
    positive,
    seconds,
    size,
)
from mover.console import count_text, duration_text, say, say_json, size_text, tell
from mover.metrics_file import Gauge, write
from mover.opening import open_session
from mover.progress_display import ProgressDisplay
from mover.running import run
from repository import care
from repository.care import VerifyRepositoryOptions
from repository.session import Session

DAY_SECONDS = 86_400
WINDOWS_SECONDS = (DAY_SECONDS, 7 * DAY_SECONDS, 30 * DAY_SECONDS, 90 * DAY_SECONDS)
WINDOW_SHOWN_SECONDS = 30 * DAY_SECONDS
DAMAGES_SHOWN_MAX = 50
SEEDS = 1 << 32


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `repo verify`."""
    add = parser.add_argument
    add("--percent", metavar="0..100", type=percent, default=100.0, help="a random share of the packs (100)")
    add("--budget", metavar="SIZE", type=size, help="read no more than so many bytes, like 10G")
    add(
        "--since",
        metavar="WHEN",
        type=_moment,
        help="only what was not read back within a time (30d) or since a date (2026-11-01)",
    )
    add("--ledger", metavar="FILE", type=filled, help="where it is remembered (~/.local/state/…)")
    add("--metrics-file", metavar="FILE", type=filled, help="write the numbers as a Prometheus text file")
    add("--seed", metavar="N", type=int, help="the number that chooses the share (another one each time)")
    add("--parallel", metavar="N", type=positive, help="threads (one a core)")
    add_progress_options(parser)
    parser.description = (
        "Check every index entry against its pack, read packs back and hash what is in them: all of the\n"
        "repository, whether a snapshot uses it or not. What was read when is remembered, and the longest\n"
        "unread is read first: run it often with a small --budget. Ctrl-C keeps what was done.\n"
        "Exit code 40 if anything is damaged."
    )
    examples(
        parser,
        "mover repo verify",
        "mover repo verify --budget 10G --since 30d",
        "mover repo verify --percent 0 --json",
        "mover repo verify --percent 1 --metrics-file /var/lib/node_exporter/verify.prom",
    )


def _moment(text: str) -> tuple[int, int | None]:
    """A Unix second, and the length of time if it was given as one."""
    try:
        length = int(seconds(text))
    except argparse.ArgumentTypeError:
        pass
    else:
        return int(time.time()) - length, length
    try:
        return max(int(datetime.fromisoformat(text).timestamp()), 0), None
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a length of time like 30d nor a date like 2026-11-01"
        ) from None


def verify(arguments: argparse.Namespace) -> int:
    """Verifies; 40 if anything is damaged, 10 if it was canceled."""
    cutoff, window = arguments.since or (None, None)
    # What the cache holds says nothing about the storage.
    arguments.no_cache = True
    started = time.monotonic()
    with open_session(arguments) as session:
        unique_id = str(session.status()["uniqueIDHex"])
        options = VerifyRepositoryOptions(
            percent=arguments.percent,
            seed=int.from_bytes(os.urandom(4)) if arguments.seed is None else arguments.seed % SEEDS,
            budget_bytes=arguments.budget,
            unread_since_seconds=cutoff,
            windows_seconds=sorted({*WINDOWS_SECONDS, *filter(None, [window])}),
            ledger=arguments.ledger or str(_ledger(unique_id)),
            parallelism=arguments.parallel,
        )
        answer = _run(arguments, session, options)
    if arguments.metrics_file:
        write(Path(arguments.metrics_file), _gauges(answer, unique_id))
    if arguments.json:
        say_json({**answer, "seed": options.seed})
    elif not arguments.quiet:
        _say(answer, window or WINDOW_SHOWN_SECONDS, time.monotonic() - started)
    _tell_damages(answer)
    if answer["damage_count"]:
        return exit_codes.CORRUPTED
    return exit_codes.CANCELED if answer["canceled"] else exit_codes.DONE


def _run(arguments: argparse.Namespace, session: Session, options: VerifyRepositoryOptions) -> dict[str, Any]:
    return run(
        lambda progress, cancel: care.verify_repository(session, options, progress=progress, cancel=cancel),
        ProgressDisplay("repo verify", arguments),
    )


def _ledger(unique_id: str) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path(os.environ.get("HOME", "/")) / ".local" / "state"
    return Path(base) / "kopia-data-mover" / "verified" / f"{unique_id}.ledger"


def _say(answer: dict[str, Any], window_seconds: int, elapsed_seconds: float) -> None:
    read, coverage = answer["read"], answer["coverage"]
    say(
        f"checked {count_text(answer['contents'], 'content')} in {count_text(answer['packs'], 'pack')},"
        f" read back {count_text(read['packs'], 'pack')}, {size_text(read['bytes'])},"
        f" in {duration_text(elapsed_seconds)}"
    )
    if answer["canceled"]:
        say(f"  canceled: {size_text(answer['left_bytes'])} are left; what was read is remembered")
    say(f"  {_coverage_text(coverage, window_seconds)}")
    if coverage["never_bytes"]:
        say(f"  {size_text(coverage['never_bytes'])} were never read back")
    elif coverage["oldest_seconds"]:
        oldest = datetime.fromtimestamp(coverage["oldest_seconds"]).astimezone()
        say(f"  nothing was unread for longer than since {oldest:%Y-%m-%d %H:%M}")
    damages = answer["damage_count"]
    say(f"  {count_text(damages, 'damage')} found" if damages else "  no damage found")


def _coverage_text(coverage: dict[str, Any], window_seconds: int) -> str:
    found = next(one for one in coverage["within"] if one["seconds"] == window_seconds)
    share = f"{found['percent']:.2f}".rstrip("0").rstrip(".")
    days, rest = divmod(window_seconds, DAY_SECONDS)
    span = duration_text(window_seconds) if rest or not days else "a day" if days == 1 else f"{days} days"
    return f"{share} % of {size_text(coverage['bytes'])} read back within {span}"


def _tell_damages(answer: dict[str, Any]) -> None:
    count = answer["damage_count"]
    for damage in answer["damages"][:DAMAGES_SHOWN_MAX]:
        tell(damage["error"])
    if count > DAMAGES_SHOWN_MAX:
        tell(f"and {count - DAMAGES_SHOWN_MAX:,} more")
    if count:
        tell("mover repo repair tells which files are touched, and what can be done")


def _gauges(answer: dict[str, Any], unique_id: str) -> list[Gauge]:
    labels = {"repository": unique_id[:16]}
    coverage = answer["coverage"]
    verified = [
        Gauge(
            "verified_ratio",
            "Share of stored bytes read back within a span of days.",
            one["percent"] / 100,
            {**labels, "days": f"{one['seconds'] / DAY_SECONDS:g}"},
        )
        for one in coverage["within"]
    ]
    return [
        *verified,
        Gauge("content_bytes", "Stored bytes of live contents.", coverage["bytes"], labels),
        Gauge("never_verified_bytes", "Of these, never read back.", coverage["never_bytes"], labels),
        Gauge("damages", "Damaged contents that the last run found.", answer["damage_count"], labels),
        Gauge("verify_time_seconds", "When the last run ended.", int(time.time()), labels),
    ]


COMMANDS = {"repo verify": (configure, verify)}
