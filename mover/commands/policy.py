"""`mover policy show|set`: options named as Kopia's, `inherit` takes a setting away again."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mover.arguments import add_writer_options, examples
from mover.console import say, say_json
from mover.opening import open_session
from mover.paths import absolute
from repository.errors import InvalidRequestError
from repository.policies import Policy, Target, with_field, with_list_changes
from repository.session import Session

INHERIT = "inherit"


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _mebibytes(text: str) -> int:
    return _natural(text) << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """One option and the field of the policy that it sets."""

    option: str
    section: str
    field: str
    read: Callable[[str], Any]
    metavar: str = "N"


SETTINGS = (
    Setting("--compression", "compression", "compressorName", str, "NAME"),
    Setting("--compression-min-size", "compression", "minSize", _natural),
    Setting("--compression-max-size", "compression", "maxSize", _natural),
    Setting("--metadata-compression", "metadataCompression", "compressorName", str, "NAME"),
    Setting("--splitter", "splitter", "algorithm", str, "NAME"),
    *(
        Setting(f"--keep-{period}", "retention", f"keep{period.capitalize()}", _natural)
        for period in ("latest", "hourly", "daily", "weekly", "monthly", "annual")
    ),
    Setting("--ignore-identical-snapshots", "retention", "ignoreIdenticalSnapshots", _flag, "BOOL"),
    Setting("--ignore-file-errors", "errorHandling", "ignoreFileErrors", _flag, "BOOL"),
    Setting("--ignore-dir-errors", "errorHandling", "ignoreDirectoryErrors", _flag, "BOOL"),
    Setting("--ignore-unknown-types", "errorHandling", "ignoreUnknownTypes", _flag, "BOOL"),
    Setting("--ignore-cache-dirs", "files", "ignoreCacheDirs", _flag, "BOOL"),
    Setting("--one-file-system", "files", "oneFileSystem", _flag, "BOOL"),
    Setting("--max-file-size", "files", "maxFileSize", _natural),
    Setting("--max-parallel-file-reads", "upload", "maxParallelFileReads", _natural),
    Setting("--max-parallel-snapshots", "upload", "maxParallelSnapshots", _natural),
    Setting("--parallel-upload-above-size-mib", "upload", "parallelUploadAboveSize", _mebibytes),
)
# name of the options -> field that holds a list of texts
LISTS = {
    "ignore": ("files", "ignore"),
    "dot-ignore": ("files", "ignoreDotFiles"),
    "only-compress": ("compression", "onlyCompress"),
    "never-compress": ("compression", "neverCompress"),
}


def configure_show(parser: argparse.ArgumentParser) -> None:
    """Options of `policy show`."""
    add_target(parser)
    parser.add_argument("--defined", action="store_true", help="only what is set for exactly this target")
    examples(parser, "mover policy show", "mover policy show --global --json", "mover policy show /home/me")


def add_target(parser: argparse.ArgumentParser) -> None:
    """The arguments that say whose policy."""
    parser.add_argument(
        "target", metavar="TARGET", nargs="?", help="a path, USER@HOST:PATH, USER@HOST or @HOST"
    )
    parser.add_argument("--global", action="store_true", dest="everything", help="the policy of everything")


def target_of(arguments: argparse.Namespace, session: Session) -> Target | None:
    """The target that is meant; nothing if none is named."""
    if arguments.everything or arguments.target is None:
        return Target() if arguments.everything else None
    if "@" in arguments.target and not Path(arguments.target).exists():
        return Target.parse(arguments.target)
    source = session.source_of(absolute(arguments.target))
    return Target(source.username, source.hostname, source.path)


def show(arguments: argparse.Namespace) -> int:
    """Prints the policy in force for a target, as Kopia does, or all that are defined."""
    with open_session(arguments) as session:
        target = target_of(arguments, session)
        if target is not None:
            found = session.policy(target) if arguments.defined else session.effective_policy(target)
            return _show_one(arguments, target, found)
        every = session.policies()
    if arguments.json:
        say_json([policy_document(policy) for policy in every])
    else:
        for policy in every:
            _say_policy(policy.target, dict(policy.document))
    return 0


def _show_one(arguments: argparse.Namespace, target: Target, document: dict[str, Any]) -> int:
    if arguments.json:
        say_json(document)
    else:
        _say_policy(target, document)
    return 0


def policy_document(policy: Policy) -> dict[str, Any]:
    """As `kopia policy list --json` has it."""
    target = policy.target
    named = {"host": target.hostname, "userName": target.username, "path": target.path}
    return {"id": policy.id, "target": named, **policy.document}


def _say_policy(target: Target, document: dict[str, Any]) -> None:
    say(f"policy of {target}")
    settings = [(f"{section}.{name}", value) for section, name, value in _leaves(document)]
    for name, value in settings:
        say(f"  {name:<40} {value}")
    if not settings:
        say("  nothing is set")


def _leaves(document: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        (section, name, value)
        for section, fields in document.items()
        if isinstance(fields, dict)
        for name, value in fields.items()
    ]


def configure_set(parser: argparse.ArgumentParser) -> None:
    """Options of `policy set`."""
    add_target(parser)
    group = parser.add_argument_group("settings (inherit takes one away)")
    for setting in SETTINGS:
        group.add_argument(setting.option, metavar=setting.metavar, dest=_name(setting))
    for name in LISTS:
        also = ("--ignore",) if name == "ignore" else ()
        group.add_argument(
            *also, f"--add-{name}", metavar="TEXT", action="append", default=[], dest=f"add_{name}"
        )
        group.add_argument(
            f"--remove-{name}", metavar="TEXT", action="append", default=[], dest=f"remove_{name}"
        )
        group.add_argument(f"--clear-{name}", action="store_true", dest=f"clear_{name}")
    add_writer_options(parser)
    examples(
        parser,
        "mover policy set --global --compression zstd",
        "mover policy set /home/me --ignore '*.tmp' --keep-latest 30",
        "mover policy set root@db:/var/lib --keep-annual inherit",
    )


def _name(setting: Setting) -> str:
    return f"{setting.section}.{setting.field}"


def set_(arguments: argparse.Namespace) -> int:
    """Changes the policy that is defined for a target."""
    with open_session(arguments, read_only=False) as session:
        target = target_of(arguments, session)
        if target is None:
            raise InvalidRequestError("say which policy: --global, a path or USER@HOST:PATH")
        document = _changed(session.policy(target), arguments)
        session.set_policy(target, document)
    if not arguments.quiet or arguments.json:
        _show_one(arguments, target, document)
    return 0


def _changed(document: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    for setting in SETTINGS:
        text = getattr(arguments, _name(setting))
        if text is not None:
            document = with_field(document, setting.section, setting.field, _value(setting, text))
    for name, (section, field) in LISTS.items():
        add, remove = getattr(arguments, f"add_{name}"), getattr(arguments, f"remove_{name}")
        clear = getattr(arguments, f"clear_{name}")
        if add or remove or clear:
            document = with_list_changes(
                document, section, field, add=tuple(add), remove=tuple(remove), clear=clear
            )
    return document


def _value(setting: Setting, text: str) -> Any:
    if text == INHERIT:
        return None
    try:
        return setting.read(text)
    except (ValueError, KeyError):
        raise InvalidRequestError(f"{setting.option} cannot be {text!r}") from None


COMMANDS = {"policy show": (configure_show, show), "policy set": (configure_set, set_)}
