"""`mover policy list|delete|export|import`: policies as a whole, and as a file of Kopia's form."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from mover.arguments import add_writer_options, examples
from mover.commands.policy import add_target, policy_document, target_of
from mover.console import count_text, escaped, say, say_json
from mover.opening import open_session
from repository.engine import check_policy
from repository.errors import InvalidRequestError
from repository.policies import Target

STANDARD = "-"
FILE_BYTES_MAX = 64 << 20


def configure_list(parser: argparse.ArgumentParser) -> None:
    """`policy list` has no options of its own."""
    examples(parser, "mover policy list", "mover policy list --json")


def list_(arguments: argparse.Namespace) -> int:
    """Lists the targets that have a policy; as JSON with what is set, as `kopia policy list --json`."""
    with open_session(arguments) as session:
        every = sorted(session.policies(), key=lambda one: str(one.target))
    if arguments.json:
        say_json([policy_document(one) for one in every])
    else:
        for one in every:
            say(f"{one.id}  {escaped(str(one.target))}")
    return 0


def configure_delete(parser: argparse.ArgumentParser) -> None:
    """Options of `policy delete`."""
    add_target(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    add_writer_options(parser)
    parser.description = (
        "Delete the policy of a target: what is above it, and the defaults, hold for it then."
    )
    examples(parser, "mover policy delete /home/me", "mover policy delete root@db:/var/lib --dry-run")


def delete(arguments: argparse.Namespace) -> int:
    """Deletes a policy."""
    with open_session(arguments, read_only=arguments.dry_run) as session:
        target = target_of(arguments, session)
        if target is None:
            raise InvalidRequestError("say which policy: --global, a path or USER@HOST:PATH")
        found = [one for one in session.policies() if one.target == target]
        if not found:
            raise InvalidRequestError(f"there is no policy of {target}; see mover policy list")
        if not arguments.dry_run:
            session.delete_policy(target)
    if arguments.json:
        say_json({"target": str(target), "dryRun": arguments.dry_run, "policy": dict(found[-1].document)})
    elif not arguments.quiet:
        say(f"{'would delete' if arguments.dry_run else 'deleted'} the policy of {escaped(str(target))}")
    return 0


def configure_export(parser: argparse.ArgumentParser) -> None:
    """Options of `policy export`."""
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default=STANDARD, help="a new file (- or none: print)"
    )
    examples(parser, "mover policy export policies.json", "mover policy export | jq .")


def export(arguments: argparse.Namespace) -> int:
    """Writes all policies by their targets, as `kopia policy export` does."""
    with open_session(arguments) as session:
        document = {str(one.target): dict(one.document) for one in session.policies()}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    if arguments.file == STANDARD:
        say(text)
        return 0
    descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{text}\n")
    _say_count(arguments, "exported", document)
    return 0


def configure_import(parser: argparse.ArgumentParser) -> None:
    """Options of `policy import`."""
    parser.add_argument(
        "file", metavar="FILE", help="what policy export, or kopia policy export, has written; or -"
    )
    parser.add_argument("--dry-run", action="store_true", help="only check it")
    add_writer_options(parser)
    parser.description = (
        "Define the policies in a file, each in place of the one of its target. All are checked before the\n"
        "first is set; policies of targets that are not in the file stay."
    )
    examples(parser, "mover policy import policies.json --dry-run", "mover policy import policies.json")


def import_(arguments: argparse.Namespace) -> int:
    """Reads, checks and sets policies."""
    document = _read(arguments.file)
    targets = {Target.parse(name): policy for name, policy in document.items()}
    for target, policy in targets.items():
        _check(target, policy)
    if not arguments.dry_run:
        with open_session(arguments, read_only=False) as session:
            for target, policy in targets.items():
                session.set_policy(target, policy, check=False)
    _say_count(arguments, "would import" if arguments.dry_run else "imported", document)
    return 0


def _read(name: str) -> dict[str, Any]:
    text = sys.stdin.read(FILE_BYTES_MAX) if name == STANDARD else Path(name).read_text(encoding="utf-8")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise InvalidRequestError(f"{name} is no file of policies: an object of JSON, from target to policy")
    return document


def _check(target: Target, policy: object) -> None:
    if not isinstance(policy, dict):
        raise InvalidRequestError(f"the policy of {target} is no object")
    try:
        check_policy(json.dumps(policy))
    except InvalidRequestError as error:
        raise InvalidRequestError(f"the policy of {target}: {error}; nothing was changed") from None


def _say_count(arguments: argparse.Namespace, verb: str, document: dict[str, Any]) -> None:
    if arguments.json:
        say_json({"targets": sorted(document), "dryRun": getattr(arguments, "dry_run", False)})
    elif not arguments.quiet:
        say(f"{verb} {count_text(len(document), 'policy')}")


COMMANDS = {
    "policy list": (configure_list, list_),
    "policy delete": (configure_delete, delete),
    "policy export": (configure_export, export),
    "policy import": (configure_import, import_),
}
