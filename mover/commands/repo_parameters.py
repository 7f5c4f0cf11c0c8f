"""`mover repo set-parameters`."""

from __future__ import annotations

import argparse

from mover import opening
from mover.arguments import add_writer_options, examples, filled, positive, seconds
from mover.console import say, say_json
from mover.password_sources import find_password
from repository import care
from repository.care import ParameterChanges
from repository.requests import OpenOptions

MIB = 1 << 20
MINUTE_SECONDS = 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `repo set-parameters`, named as Kopia's."""
    add = parser.add_argument
    add("--max-pack-size-mb", metavar="N", type=positive, help="packs are closed at so many MiB (10 to 120)")
    add("--index-version", metavar="N", type=positive, help="version of new index blobs; only upwards")
    add("--retention-mode", choices=("none", "GOVERNANCE", "COMPLIANCE"), help="object lock of new blobs")
    add("--retention-period", metavar="TIME", type=seconds, help="how long blobs are locked, like 720h")
    add("--epoch-refresh-frequency", metavar="TIME", type=seconds, help="how long a list of epochs is valid")
    add("--epoch-min-duration", metavar="TIME", type=seconds, help="an epoch lasts this long or longer")
    add(
        "--epoch-cleanup-safety-margin",
        metavar="TIME",
        type=seconds,
        help="joined index blobs are kept so long",
    )
    add(
        "--epoch-advance-on-count",
        metavar="N",
        type=positive,
        help="index blobs after which an epoch may end",
    )
    add("--epoch-advance-on-size-mb", metavar="N", type=positive, help="MiB of them after which it may end")
    add("--epoch-delete-parallelism", metavar="N", type=positive, help="index blobs deleted at a time")
    add(
        "--epoch-checkpoint-frequency", metavar="N", type=positive, help="epochs that are joined into a range"
    )
    add("--add-required-feature", metavar="NAME", type=filled, help="refuse clients that do not know it")
    add("--warn-on-missing-required-feature", action="store_true", help="warn them instead")
    add("--remove-required-feature", metavar="NAME", type=filled, help="clients need not know it any more")
    add_writer_options(parser)
    parser.description = (
        "Change what may change while a repository lives. What is stored stays as it is: new packs, index blobs and\n"  # noqa: E501
        "locks follow. Other clients notice within 15 minutes, or when they connect again."
    )
    examples(
        parser,
        "mover repo set-parameters --max-pack-size-mb 40",
        "mover repo set-parameters --retention-mode GOVERNANCE --retention-period 720h",
        "mover repo set-parameters --epoch-min-duration 12h --epoch-cleanup-safety-margin 2h",
    )


def set_parameters(arguments: argparse.Namespace) -> int:
    """Changes parameters; says which, and when others notice."""
    found = opening.find_connection(arguments)
    options = OpenOptions(connection=opening.connection_options(arguments, found))
    password = find_password(arguments, found)
    answer = care.set_parameters(found.url, password, _changes(arguments), options)
    if arguments.json:
        say_json(answer)
    elif not arguments.quiet:
        for name, before, now in answer["changes"]:
            say(f"{name}: {before or 'none'} -> {now or 'none'}")
        minutes = answer["copies_live_seconds"] // MINUTE_SECONDS
        told = f"clients that run now may go on with what was for up to {minutes} minutes"
        say(f"  {told}" if answer["changes"] else "nothing to change")
    return 0


def _changes(arguments: argparse.Namespace) -> ParameterChanges:
    def bytes_of(mebibytes: int | None) -> int | None:
        return None if mebibytes is None else mebibytes * MIB

    period = arguments.retention_period
    return ParameterChanges(
        max_pack_size_bytes=bytes_of(arguments.max_pack_size_mb),
        index_version=arguments.index_version,
        retention_mode=arguments.retention_mode,
        retention_period_seconds=None if period is None else int(period),
        epoch_refresh_frequency_seconds=arguments.epoch_refresh_frequency,
        epoch_min_duration_seconds=arguments.epoch_min_duration,
        epoch_cleanup_safety_margin_seconds=arguments.epoch_cleanup_safety_margin,
        epoch_advance_on_count=arguments.epoch_advance_on_count,
        epoch_advance_on_size_bytes=bytes_of(arguments.epoch_advance_on_size_mb),
        epoch_delete_parallelism=arguments.epoch_delete_parallelism,
        epoch_checkpoint_frequency=arguments.epoch_checkpoint_frequency,
        add_required_feature=arguments.add_required_feature,
        warn_on_missing_required_feature=arguments.warn_on_missing_required_feature,
        remove_required_feature=arguments.remove_required_feature,
    )


COMMANDS = {"repo set-parameters": (configure, set_parameters)}
