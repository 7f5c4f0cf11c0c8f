"""The bandwidth that a command may use: from options, and from a file that is read again when it changes.

The file holds Kopia's names (`maxUploadSpeedBytesPerSecond`, `maxDownloadSpeedBytesPerSecond`, 0 for no
limit), so that a mounted ConfigMap can slow a transfer that runs. A file that cannot be read changes nothing.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from pathlib import Path

from repository.errors import InvalidRequestError
from repository.requests import Throttle

LOOK_SECONDS = 0.5
UPLOAD, DOWNLOAD = "maxUploadSpeedBytesPerSecond", "maxDownloadSpeedBytesPerSecond"


def read_throttle(path: Path) -> Throttle:
    """The limits in a file.

    Raises:
        InvalidRequestError: It cannot be read, or holds something else.
    """
    import json  # noqa: PLC0415 - rarely

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        limits = [int(document.get(name) or 0) for name in (UPLOAD, DOWNLOAD)]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON object with numbers"
        raise InvalidRequestError(f"cannot read the throttle file {path}: {reason}") from None
    if min(limits) < 0:
        raise InvalidRequestError(f"cannot use the throttle file {path}: a limit is negative")
    return Throttle(upload_bytes_per_second=limits[0] or None, download_bytes_per_second=limits[1] or None)


def throttle_of(arguments: argparse.Namespace, upload_kept: int, download_kept: int) -> Throttle:
    """The limits at the start: the file's, else the options', else those kept with the connection."""
    if arguments.throttle_file:
        return read_throttle(Path(arguments.throttle_file))
    return Throttle(
        upload_bytes_per_second=arguments.max_upload_speed or upload_kept or None,
        download_bytes_per_second=arguments.max_download_speed or download_kept or None,
    )


def watch(path: Path, change: Callable[[Throttle], None]) -> None:
    """Calls `change` with the limits whenever the file has changed, as long as the process runs."""
    threading.Thread(target=_watch, args=(path, change), name="throttle", daemon=True).start()


def _watch(path: Path, change: Callable[[Throttle], None]) -> None:
    # The first look applies the file anew: it may have changed since it was read.
    seen, waiting = None, threading.Event()
    while not waiting.wait(LOOK_SECONDS):
        stamp = _stamp(path)
        if stamp == seen or stamp is None:
            continue
        seen = stamp
        try:
            change(read_throttle(path))
        except InvalidRequestError as error:
            from mover.console import tell  # noqa: PLC0415 - rarely

            tell(f"{error}; the limits stay as they are")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with the contents. Of a link's target: a mounted ConfigMap is changed by its link."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
