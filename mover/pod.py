"""Entry of the hosting pods that our agent makes: `mover-pod backup|restore`.

Waits for the request (a file of the agent's or, a second later, of the kubelet's downward API), works, and
leaves a termination message and an exit code. Imports neither a Kubernetes client nor a web server; the
engine is loaded while waiting, so that the first byte is read as soon as the request is there.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from mover import exit_codes
from mover.backup_pod import run_backup
from mover.cancel import CanceledError, CancelToken, cancel_on_file, cancel_on_signals
from mover.engine import Engine, PartialSnapshotError
from mover.protocol import (
    BackupRequest,
    End,
    Request,
    decode_request,
    encode_failure,
    encode_result,
)
from mover.reporting import PodReporter, Reporter
from mover.restore_pod import run_restore
from repository.errors import CanceledError as EngineCanceledError
from repository.errors import DataMoverError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mover.protocol import Result

REQUEST_DIRECTORIES = "/etc/kopia-data-mover:/etc/kopia-data-mover-signal"
TERMINATION_LOG = Path("/dev/termination-log")
_POLL_SECONDS = 0.05
_TERMINATED = "mover was told to end (SIGTERM: node drained, or pod evicted or deleted); run it again"


def main(arguments: list[str] | None = None) -> int:
    """Serve one request and return the exit code."""
    role = (sys.argv[1:] if arguments is None else arguments)[:1]
    if role not in (["backup"], ["restore"]):
        sys.stderr.write("usage: mover-pod backup|restore\n")
        return 2
    cancel = CancelToken()
    cancel_on_signals(cancel)
    directories = os.environ.get("KOPIA_DATA_MOVER_REQUEST_DIRECTORIES", REQUEST_DIRECTORIES)
    reporter = PodReporter(Path(os.environ.get("KOPIA_DATA_MOVER_TERMINATION_LOG", TERMINATION_LOG)))
    return serve(role[0], [Path(name) for name in directories.split(":")], reporter, cancel)


def serve(
    role: str,
    directories: Sequence[Path],
    reporter: Reporter,
    cancel: CancelToken,
    engine: Engine | None = None,
) -> int:
    """Wait for the request, carry it out, report. `engine` is loaded here unless it is given.

    The request and the wish to cancel may come in any of the directories; the first to come counts.
    """
    try:
        cancel_on_file(cancel, [directory / "cancel" for directory in directories])
        engine = engine or load_engine()
        places = [directory / "request" for directory in directories]
        request = decode_request(_wait_for_request(places, cancel))
        code, text = carry_out(role, request, engine, reporter, cancel)
    except BaseException as error:  # noqa: BLE001 - the last line of defence must leave a message
        code, text = _failure(error, cancel)
    try:
        reporter.finished(End(code, text))
    except OSError as error:
        sys.stderr.write(f"termination message cannot be written: {error}\n{text}\n")
        return code or exit_codes.PERMANENT
    return code


def load_engine() -> Engine:
    """Load the real engine; its import is the slow part of a start."""
    from mover.kopia_engine import KopiaEngine  # noqa: PLC0415 - only when there is work

    return KopiaEngine()


def _wait_for_request(paths: Sequence[Path], cancel: CancelToken) -> str:
    while True:
        for path in paths:
            text = _read(path)
            if text:
                return text
        if cancel.wait(_POLL_SECONDS):
            raise CanceledError("canceled before it was started")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def carry_out(
    role: str, request: Request, engine: Engine, reporter: Reporter, cancel: CancelToken
) -> tuple[int, str]:
    """Do what the request says; return exit code and termination message, whatever happens."""
    try:
        result = _run(role, request, engine, reporter, cancel)
    except BaseException as error:  # noqa: BLE001 - every end is reported; a panic of the engine is no Exception
        return _failure(error, cancel)
    return exit_codes.DONE, encode_result(request, result)


def _run(role: str, request: Request, engine: Engine, reporter: Reporter, cancel: CancelToken) -> Result:
    if isinstance(request, BackupRequest) != (role == "backup"):
        raise ValueError(f"a {type(request).__name__} was sent to a mover for {role}")
    if isinstance(request, BackupRequest):
        return run_backup(request, engine, reporter, cancel)
    return run_restore(request, engine, reporter, cancel)


def _failure(error: BaseException, cancel: CancelToken) -> tuple[int, str]:
    if isinstance(error, CanceledError | EngineCanceledError):
        if cancel.terminated:
            return exit_codes.TEMPORARY, encode_failure(_TERMINATED)
        return exit_codes.CANCELED, encode_failure(str(error), canceled=True)
    if isinstance(error, PartialSnapshotError):
        return exit_codes.PERMANENT, encode_failure(str(error), snapshot_id=error.snapshot_id)
    if not hasattr(error, "temporary"):
        traceback.print_exception(error)
    text = str(error) or type(error).__name__
    if not isinstance(error, Exception):
        text = f"the mover broke off ({type(error).__name__}: {error}); please report it with the pod's log"
    return _exit_code(error), encode_failure(text)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, DataMoverError):
        return exit_codes.of_error(error)
    return exit_codes.TEMPORARY if getattr(error, "temporary", False) else exit_codes.PERMANENT


if __name__ == "__main__":
    sys.exit(main())
