"""What a user sees of a failure: one line on standard error, and an exit code; the trace with `--debug`."""

from __future__ import annotations

import sys

from mover import exit_codes
from repository.errors import DataMoverError, InternalError

REPORT = "this is a mistake of the program: please report it with the output of the same command and --debug"


def report(error: BaseException, *, debug: bool) -> int:
    """Prints the failure; gives the exit code."""
    if debug:
        import traceback  # noqa: PLC0415 - only with --debug

        traceback.print_exception(error)
    message, code = _describe(error)
    sys.stderr.write(f"mover: {message}\n")
    return code


def _describe(error: BaseException) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt):
        return "canceled", exit_codes.CANCELED
    if isinstance(error, InternalError):
        return f"{error}; {REPORT}", exit_codes.PERMANENT
    if isinstance(error, DataMoverError):
        return str(error), exit_codes.of_error(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror.lower()}", exit_codes.PERMANENT
    return f"{type(error).__name__}: {error}; {REPORT}", exit_codes.PERMANENT
