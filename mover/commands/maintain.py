"""`mover repo maintain`, `mover maintenance info`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mover import exit_codes
from mover.arguments import add_progress_options, add_writer_options, examples
from mover.console import say, say_json, size_text, tell
from mover.opening import open_session
from mover.progress_display import ProgressDisplay
from mover.running import run
from repository import care
from repository.care import MaintainOptions

NEVER = "0001-01-01T00:00:00Z"
RUNS_SHOWN = 3


def configure_maintain(parser: argparse.ArgumentParser) -> None:
    """Options of `repo maintain`."""
    add = parser.add_argument
    cycle = parser.add_mutually_exclusive_group()
    cycle.add_argument("--quick", action="store_true", help="the quick cycle now")
    cycle.add_argument("--full", action="store_true", help="the full cycle now")
    add("--safety", choices=("full", "none"), default="full", help="none: nobody else uses the repository")
    add("--dry-run", action="store_true", help="change nothing, say what would be done")
    add("--owner", metavar="USER@HOST", help="make this one, or `me`, the owner first")
    add("--force", action="store_true", help="run though somebody else is the owner")
    add("--no-job-running", action="store_true", help="no maintenance job of Velero runs now: I have looked")
    add_writer_options(parser)
    add_progress_options(parser)
    parser.description = (
        "Collect garbage, join short packs and indexes, delete what nobody needs: what is due, in Kopia's order\n"  # noqa: E501
        "and with its safety margins. Backups may run meanwhile."
    )
    examples(
        parser,
        "mover repo maintain",
        "mover repo maintain --full --dry-run",
        "mover repo maintain --full --owner me",
    )


def maintain(arguments: argparse.Namespace) -> int:
    """Runs a cycle; 40 if a task failed."""
    with open_session(arguments, read_only=arguments.dry_run) as session:
        if arguments.owner:
            us = f"{session.options.username}@{session.options.hostname}"
            care.set_owner(session, us if arguments.owner == "me" else arguments.owner)
        options = MaintainOptions(
            mode="full" if arguments.full else "quick" if arguments.quick else "auto",
            safety=arguments.safety,
            dry_run=arguments.dry_run,
            force=arguments.force,
            no_job_running=arguments.no_job_running,
            lock_file=str(lock_file(session.status()["uniqueIDHex"])),
        )
        report = run(
            lambda progress, cancel: care.maintain(session, options, progress=progress, cancel=cancel),
            ProgressDisplay("maintain", arguments),
        )
    if arguments.json:
        say_json(report)
    elif not arguments.quiet:
        say_report(report)
    if report.get("failed"):
        tell(f"maintenance ended before its time: {report['failed']}")
        return exit_codes.CORRUPTED
    return exit_codes.DONE


def lock_file(unique_id: str) -> Path:
    """The file that keeps other processes of this machine out while one maintains."""
    folder = Path.home() / ".cache" / "kopia-data-mover"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"maintenance-{unique_id[:16]}.lock"


def say_report(report: dict[str, Any]) -> None:
    """Prints what each task did, for people."""
    if report["cycle"] == "none":
        say(f"nothing is due; next quick cycle {report['next_quick']}, full {report['next_full']}")
        return
    say(f"{report['cycle']} maintenance{' (dry run)' if report['dry_run'] else ''}")
    for task in report["tasks"]:
        say(f"  {task['task'] + ':':<34}{_task_text(task)}")
    say(f"next quick cycle {report['next_quick']}, full {report['next_full']}")


def _task_text(task: dict[str, Any]) -> str:
    if task["outcome"] in {"skipped", "failed"}:
        return f"{task['outcome']}: {task['why']}"
    numbers = filter(None, map(_number_text, (task.get("details") or {}).items()))
    text = ", ".join(numbers) or "nothing to do"
    return f"{text}; {task['why']}" if task.get("why") else text


def _number_text(item: tuple[str, Any]) -> str:
    name, value = item
    words = name.replace("_", " ")
    if isinstance(value, dict):
        return f"{words} {value['count']:,} ({size_text(value['bytes'])})" if value["count"] else ""
    if isinstance(value, bool):
        return words if value else ""
    if isinstance(value, int):
        return f"{words} {value:,}" if value else ""
    return f"{words} {value}"


def configure_info(parser: argparse.ArgumentParser) -> None:
    """Examples of `maintenance info`."""
    examples(parser, "mover maintenance info", "mover maintenance info --json")


def info(arguments: argparse.Namespace) -> int:
    """Shows owner, schedule and history."""
    with open_session(arguments) as session:
        document = care.maintenance_info(session)
    if arguments.json:
        schedule = {
            "nextFullMaintenance": document["next_full"],
            "nextQuickMaintenance": document["next_quick"],
        }
        say_json({**document["parameters"], "schedule": {**schedule, "runs": document["runs"]}})
        return exit_codes.DONE
    say(f"owner: {document['parameters']['owner'] or 'nobody'}")
    for cycle in ("quick", "full"):
        due = document[f"next_{cycle}"]
        when = "now" if due == NEVER else due
        say(
            f"{cycle} cycle: {f'next {when}' if document['parameters'][cycle]['enabled'] else 'switched off'}"
        )
    for task, runs in document["runs"].items():
        say(f"{task}:")
        for one in runs[:RUNS_SHOWN]:
            say(f"  {one['start']}  {'success' if one.get('success') else one.get('error', 'failed')}")
    return exit_codes.DONE


COMMANDS = {
    "repo maintain": (configure_maintain, maintain),
    "maintenance info": (configure_info, info),
}
