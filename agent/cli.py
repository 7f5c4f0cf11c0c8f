"""`node-agent`: the command lines of upstream's node-agent, and for people `status` and care of repositories.

`server` understands every flag of Velero's `node-agent server` and lets unknown ones pass with a warning, so
that swapping the image of a DaemonSet never stops at a flag. Each flag has its environment variable where
upstream has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from agent.control.flags import (
    Config,
    daemon_set_from_environment,
    mover_names_from_environment,
    page_hosts_from_environment,
)
from agent.moves.custom_resources import parse_go_duration
from agent.show.telemetry import FORMATS, LEVELS, set_up_logging

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger(__name__)

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
_END_SECONDS = 20.0  # of the thirty between SIGTERM and SIGKILL


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    # An abbreviation would take a flag of a later Velero for one of ours.
    parser = argparse.ArgumentParser(
        prog="node-agent", description=__doc__.split("\n", maxsplit=1)[0], allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser(
        "server", help="run the agent of one node (the DaemonSet's command)", allow_abbrev=False
    )
    _add_connection(server)
    server.add_argument("--log-level", default="info", choices=sorted(LEVELS))
    server.add_argument("--log-format", default="text", choices=FORMATS)
    server.add_argument("--resource-timeout", default="10m", metavar="DURATION")
    server.add_argument("--data-mover-prepare-timeout", default="30m", metavar="DURATION")
    server.add_argument("--metrics-address", default=":8085", metavar="HOST:PORT")
    server.add_argument("--node-agent-configmap", default="", metavar="NAME")
    server.add_argument("--backup-repository-configmap", default="", metavar="NAME")
    server.add_argument("--features", default="", help="accepted for upstream's sake, without effect")
    status = commands.add_parser("status", help="show moves under way, waiting and recent")
    _add_connection(status)
    status.add_argument("--json", action="store_true", help="one JSON document on standard output")
    status.add_argument(
        "--watch", nargs="?", type=_seconds, const=2.0, metavar="SECONDS", help="show again and again"
    )
    _add_care(commands)
    return parser


def _add_care(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    change = commands.add_parser(
        "change-passwords", help="change the password of all repositories, then the Secret; may be repeated"
    )
    _add_connection(change)
    change.add_argument(
        "--location", action="append", required=True, metavar="NAME", help="each BackupStorageLocation in use"
    )
    change.add_argument("--new-password-file", metavar="FILE", help="else KOPIA_NEW_PASSWORD; neither: go on")
    change.add_argument(
        "--settle-seconds",
        type=float,
        default=120.0,
        metavar="N",
        help="for prepared movers to hear of it (120)",
    )
    change.add_argument("--json", action="store_true", help="one JSON document on standard output")
    maintain = commands.add_parser(
        "maintain", help="maintain a repository, unless a Job of the Velero server does so now"
    )
    _add_connection(maintain)
    maintain.add_argument("repository", metavar="BACKUPREPOSITORY", help="name of its object")
    cycle = maintain.add_mutually_exclusive_group()
    cycle.add_argument("--quick", action="store_true", help="the quick cycle now")
    cycle.add_argument("--full", action="store_true", help="the full cycle now")
    maintain.add_argument("--dry-run", action="store_true", help="change nothing, say what would be done")
    maintain.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _seconds(text: str) -> float:
    seconds = float(text)
    if seconds <= 0:
        raise ValueError
    return seconds


def _add_connection(parser: argparse.ArgumentParser) -> None:
    namespace = os.environ.get("VELERO_NAMESPACE", "velero")
    parser.add_argument("-n", "--namespace", default=namespace)
    parser.add_argument("--kubeconfig", default="")
    parser.add_argument("--kubecontext", default="")


def config_from_arguments(arguments: argparse.Namespace) -> Config:
    """Build the configuration of `server`.

    Raises:
        ValueError: a duration cannot be read.
    """
    return Config(
        node=os.environ.get("NODE_NAME") or socket.gethostname(),
        namespace=arguments.namespace,
        resource_timeout_seconds=parse_go_duration(arguments.resource_timeout),
        prepare_timeout_seconds=parse_go_duration(arguments.data_mover_prepare_timeout),
        metrics_address=arguments.metrics_address,
        node_agent_config_map=arguments.node_agent_configmap,
        backup_repository_config_map=arguments.backup_repository_configmap,
        log_level=arguments.log_level,
        log_format=arguments.log_format,
        kubeconfig=arguments.kubeconfig,
        kube_context=arguments.kubecontext,
        mover_names=mover_names_from_environment(),
        daemon_set=daemon_set_from_environment(),
        page_hosts=page_hosts_from_environment(),
    )


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    parser = build_parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown and arguments.command != "server":
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    if arguments.command == "status":
        from agent.show.status import run_status  # noqa: PLC0415 - the server does without it

        with contextlib.suppress(KeyboardInterrupt):  # how `--watch` ends
            return asyncio.run(run_status(arguments))
        return EXIT_DONE
    if arguments.command != "server":
        from agent.care.care_commands import run_care  # noqa: PLC0415 - the server does without the engine

        return asyncio.run(run_care(arguments))
    try:
        config = config_from_arguments(arguments)
    except ValueError as error:
        print(f"node-agent server: {error}", file=sys.stderr)
        return EXIT_USAGE
    set_up_logging(config.log_level, config.log_format)
    if unknown:
        log.warning("unknown flags are ignored", extra={"flags": unknown})
    return asyncio.run(serve(config))


async def serve(config: Config) -> int:
    """Run the agent and its HTTP server until SIGTERM or a failure that only a restart can mend."""
    from agent.control.node_agent import Agent, StartError  # noqa: PLC0415 - `--help` does without the client
    from agent.show.web import ListenError, serve_http  # noqa: PLC0415
    from kube.client import KubeClient  # noqa: PLC0415
    from kube.connection import KubeConnectionError, configured  # noqa: PLC0415

    try:
        async with KubeClient(configured(config.kubeconfig, config.kube_context)) as kube:
            if not config.host_pods.exists():
                log.warning("fs-backup is switched off: there is no %s", config.host_pods)
            agent = Agent(config, kube)
            return await _until_stopped(
                agent.run(), serve_http(agent, config.metrics_address, config.page_hosts)
            )
    except (KubeConnectionError, StartError, ListenError) as error:
        log.error("node-agent cannot start", extra={"error": str(error)})  # noqa: TRY400 - the message says it
        return EXIT_FAILED


async def _until_stopped(*work: Coroutine[Any, Any, None]) -> int:
    """Run all until one ends or SIGTERM comes; then cancel the rest and wait for them, not for ever."""
    tasks = [asyncio.create_task(one) for one in work]
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    stop = asyncio.ensure_future(stopped.wait())
    done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
    _exit_after(_END_SECONDS)
    for task in [stop, *tasks]:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
    return EXIT_DONE if stop in done else EXIT_FAILED


def _exit_after(seconds: float) -> None:
    """End the process whatever hangs: a task, or a thread in a system call (a dead NFS below `/host_pods`).

    Nothing is lost by it: what is to outlive the agent stands in the cluster.
    """

    def end() -> None:
        log.error("node-agent did not end by itself", extra={"seconds": seconds})
        logging.shutdown()
        os._exit(EXIT_FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main())
