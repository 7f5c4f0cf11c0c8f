"""`mover repo upgrade [begin|rollback|validate]`."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import Any

from mover import exit_codes, opening
from mover.arguments import add_writer_options, examples, filled, seconds
from mover.console import count_text, duration_text, say, say_json, tell
from mover.password_sources import find_password
from repository import care
from repository.care import UpgradeOptions
from repository.identity import default_hostname, default_username
from repository.requests import OpenOptions


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `repo upgrade`, named as Kopia's."""
    add = parser.add_argument
    add("step", choices=("begin", "rollback", "validate"), nargs="?", default="begin", help="(begin)")
    add("--owner-id", metavar="NAME", type=filled, help="who upgrades, and may go on (USER@HOST)")
    add(
        "--io-drain-timeout",
        metavar="TIME",
        type=seconds,
        default=900.0,
        help="how long others may take to notice; waited for twice (15m)",
    )
    add(
        "--max-permitted-clock-drift", metavar="TIME", type=seconds, default=300.0, help="between clocks (5m)"
    )
    add("--status-poll-interval", metavar="TIME", type=seconds, default=60.0, help="advice to others (60s)")
    add("--advance-notice", metavar="TIME", type=seconds, default=0.0, help="lock later, and tell it now")
    add("--allow-unsafe-upgrade", action="store_true", help="a shorter drain: nobody else uses it")
    add("--lock-only", action="store_true", help="lock and do no more")
    add("--force", action="store_true", help="with rollback: though somebody else has begun it")
    add_writer_options(parser)
    parser.description = (
        "Upgrade a repository of format 1 or 2 to format 3: lock it, wait until every client has noticed\n"
        "(35 minutes), write the indexes anew, compare them with the old ones, commit. Until then all other\n"
        "clients are refused. Ctrl-C leaves it locked: call again to go on, or roll back to how it was.\n"
        "After the commit kopia 0.10 and older cannot open it. The password of a repository that was made\n"
        "in format 1 still cannot be changed."
    )
    examples(parser, "mover repo upgrade", "mover repo upgrade rollback", "mover repo upgrade validate")


def upgrade(arguments: argparse.Namespace) -> int:
    """Does one of the three."""
    found = opening.find_connection(arguments)
    options = OpenOptions(
        memory_limit_bytes=arguments.memory_limit,
        connection=opening.connection_options(arguments, found),
    )
    password = find_password(arguments, found)
    owner = arguments.owner_id or "@".join(
        (found.username or default_username(), found.hostname or default_hostname())
    )
    if arguments.step == "rollback":
        care.roll_back_upgrade(found.url, password, owner, force=arguments.force, options=options)
        _answer(arguments, {"state": "rolled_back"}, "rolled back: the repository is as it was")
    elif arguments.step == "validate":
        entries = care.validate_upgrade(found.url, password, options)
        _answer(arguments, {"entries": entries}, f"{count_text(entries, 'entry')}: the same in both indexes")
    else:
        answer = _begin(arguments, owner, lambda wanted: care.upgrade(found.url, password, wanted, options))
        _answer(arguments, answer, _text(answer))
    return exit_codes.DONE


def _begin(arguments: argparse.Namespace, owner: str, go_on: Any) -> dict[str, Any]:
    """Goes on as often as it takes; waits while others notice."""
    wanted = UpgradeOptions(
        owner_id=owner,
        io_drain_timeout_seconds=arguments.io_drain_timeout,
        status_poll_interval_seconds=arguments.status_poll_interval,
        max_permitted_clock_drift_seconds=arguments.max_permitted_clock_drift,
        advance_notice_seconds=arguments.advance_notice,
        allow_unsafe=arguments.allow_unsafe_upgrade,
        lock_only=arguments.lock_only,
    )
    while True:
        answer: dict[str, Any] = go_on(wanted)
        if answer["state"] != "draining" or arguments.lock_only or arguments.advance_notice:
            return answer
        until = datetime.fromisoformat(answer["until"])
        left = max((until - datetime.now(UTC)).total_seconds(), 0.0)
        if not arguments.quiet:
            tell(f"locked by {owner}; waiting {duration_text(left)} until every client has noticed")
        time.sleep(left)


def _answer(arguments: argparse.Namespace, document: dict[str, Any], text: str) -> None:
    if arguments.json:
        say_json(document)
    elif not arguments.quiet:
        say(text)


def _text(answer: dict[str, Any]) -> str:
    if answer["state"] == "up_to_date":
        return "the repository has the newest format already"
    if answer["state"] == "draining":
        return f"locked; call again after {answer['until']}"
    entries = answer["entries"]
    what = "" if entries is None else f": {count_text(entries, 'entry')} of the indexes written anew"
    return f"upgraded to format 3{what}"


COMMANDS = {"repo upgrade": (configure, upgrade)}
