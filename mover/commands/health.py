"""`mover repo health`, which is also the second half of `mover repo status`: sizes by kind and what hurts."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mover import exit_codes
from mover.arguments import examples
from mover.console import count_text, say, say_json, size_text
from mover.opening import open_session
from repository import care

if TYPE_CHECKING:
    from repository.session import Session


def configure(parser: argparse.ArgumentParser) -> None:
    """Examples of `repo health`."""
    examples(parser, "mover repo health", "mover repo health --json")


def health(arguments: argparse.Namespace) -> int:
    """Shows sizes by kind and what hurts."""
    with open_session(arguments) as session:
        if arguments.json:
            say_json(care.health(session))
        else:
            say_health(session)
    return exit_codes.DONE


def say_health(session: Session) -> None:
    """Lists all blobs of the repository and says what they are, when it was maintained, and what hurts."""
    document = care.health(session)
    for kind, sum_ in sorted(document["blobs"].items()):
        say(f"{kind + ':':<22}{count_text(sum_['count'], 'blob')}, {size_text(sum_['bytes'])}")
    for name in ("live", "deleted"):
        sum_ = document[name]
        say(f"{name + ' contents:':<22}{sum_['count']:,}, {size_text(sum_['bytes'])}")
    say(f"{'index blobs to open:':<22}{document['active_index_blobs']:,}")
    say(f"{'last maintenance:':<22}{_last_run(care.maintenance_info(session))}")
    for complaint in document["complaints"]:
        say(f"! {complaint}")


def _last_run(info: dict[str, Any]) -> str:
    runs = [run["start"] for runs in info["runs"].values() for run in runs[:1]]
    return max(runs) if runs else "never"


COMMANDS = {"repo health": (configure, health)}
