"""`node-agent change-passwords` and `node-agent maintain`: care of Velero's repositories, for people.

They run where a kubeconfig or a service account lets them read the Secrets of Velero's namespace; the agent
itself never comes here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.care.change_passwords import (
    Change,
    PasswordChangeError,
    change_passwords,
    refuse_partial,
    wanted_password,
)
from agent.care.locations import find_places, read_passwords
from agent.care.maintenance import MaintenanceError, find_place, maintain_place
from agent.control.mover_inputs import MoverInputError
from kube.api import Kube, KubeError
from kube.client import KubeClient
from kube.connection import KubeConnectionError, configured
from mover.commands.maintain import say_report
from mover.commands.password import given_password
from mover.console import count_text, duration_text, say, say_json
from repository.errors import DataMoverError

if TYPE_CHECKING:
    import argparse

Json = dict[str, Any]

EXIT_DONE, EXIT_FAILED = 0, 1
_TROUBLES = (
    KubeConnectionError,
    KubeError,
    DataMoverError,
    MoverInputError,
    PasswordChangeError,
    MaintenanceError,
    OSError,
)


def tell(text: str) -> None:
    """A line beside the result, on standard error."""
    sys.stderr.write(f"node-agent: {text}\n")
    sys.stderr.flush()


async def run_care(arguments: argparse.Namespace) -> int:
    """Run one of the commands; return 0, or 1 with the reason on standard error."""
    command = {"change-passwords": _change_passwords, "maintain": _maintain}[arguments.command]
    try:
        with tempfile.TemporaryDirectory(prefix="node-agent-") as scratch:
            async with KubeClient(configured(arguments.kubeconfig, arguments.kubecontext)) as kube:
                return await command(arguments, kube, Path(scratch))
    except _TROUBLES as error:
        tell(str(error))
        return EXIT_FAILED


async def _change_passwords(arguments: argparse.Namespace, kube: Kube, scratch: Path) -> int:
    namespace = arguments.namespace
    new = wanted_password(await read_passwords(kube, namespace), given_password(arguments))
    places = await find_places(kube, namespace, scratch)
    refuse_partial(places, arguments.location)
    change = await change_passwords(
        kube, namespace, places, new, say=tell, settle_seconds=arguments.settle_seconds
    )
    if arguments.json:
        say_json(_document(change))
    else:
        _say_change(change)
    return EXIT_DONE


def _document(change: Change) -> Json:
    return {
        "changed": change.changed,
        "hadBeenChanged": change.had_been_changed,
        "absent": change.absent,
        "serverLockedOutSeconds": round(change.locked_out_seconds, 3),
    }


def _say_change(change: Change) -> None:
    say(f"{count_text(len(change.changed), 'repository')} changed: {', '.join(change.changed) or 'none'}")
    if change.had_been_changed:
        say(f"  by an earlier run: {', '.join(change.had_been_changed)}")
    if change.absent:
        say(f"  not made yet by the server: {', '.join(change.absent)}")
    say(f"the Velero server was locked out for {duration_text(change.locked_out_seconds)}")
    if change.had_been_changed:
        say("  and out of the ones above since that run")
    say("a repository that went NotReady meanwhile is ready again within 5 minutes")


async def _maintain(arguments: argparse.Namespace, kube: Kube, scratch: Path) -> int:
    place = await find_place(kube, arguments.namespace, arguments.repository, scratch)
    mode = "full" if arguments.full else "quick" if arguments.quick else "auto"
    report = await maintain_place(kube, arguments.namespace, place, mode, dry_run=arguments.dry_run)
    if arguments.json:
        say_json(report)
    else:
        say_report(report)
    if report.get("failed"):
        tell(f"maintenance ended before its time: {report['failed']}")
        return EXIT_FAILED
    return EXIT_DONE
