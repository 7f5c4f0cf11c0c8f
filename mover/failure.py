"""What a user sees of a failure: one line on standard error, and an exit code; the trace with `--debug`."""

from __future__ import annotations

import sys

from mover import exit_codes
from mover.console import tell
from mover.usage import UsageError
from repository.errors import DataMoverError, InternalError

REPORT = "this is a mistake of the program: please report it with the output of the same command and --debug"


def report(error: BaseException, *, debug: bool, as_json: bool = False) -> int:
    """Prints the failure, for scripts as a document in one line; gives the exit code.

    It goes to standard error in both forms: a part of a command's own document may be on the other.
    """
    if debug:
        import traceback  # noqa: PLC0415 - only with --debug

        traceback.print_exception(error)
    message, code = _describe(error)
    if as_json:
        sys.stderr.write(f"{_document(error, message, code)}\n")
    else:
        tell(message)
    return code


def _document(error: BaseException, message: str, code: int) -> str:
    import json  # noqa: PLC0415 - only with --json

    found = {
        "error": message,
        "kind": type(error).__name__,
        "exitCode": code,
        "temporary": bool(getattr(error, "temporary", False)),
        "context": getattr(error, "context", None) or {},
    }
    return json.dumps(found, ensure_ascii=False)


def _describe(error: BaseException) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt):
        return "canceled", exit_codes.CANCELED
    if isinstance(error, UsageError):
        return str(error), exit_codes.USAGE
    if isinstance(error, InternalError):
        return f"{error}; {REPORT}", exit_codes.PERMANENT
    if isinstance(error, DataMoverError):
        return str(error), exit_codes.of_error(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror.lower()}", exit_codes.PERMANENT
    return f"{type(error).__name__}: {error}; {REPORT}", exit_codes.PERMANENT
