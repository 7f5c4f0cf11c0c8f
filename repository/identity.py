"""Who this client is, as Kopia names it: user and host of sessions and snapshots.

Source: Kopia `repo/userhost.go`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repository.requests import OpenOptions


def default_username() -> str:
    """The name of the user that runs this process; `nobody` if it has none."""
    try:
        import pwd  # noqa: PLC0415 - not needed where a connection names the user

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return "nobody"


def default_hostname() -> str:
    """The name of this host, lower case, without its domain."""
    return os.uname().nodename.split(".")[0].lower() or "nohost"


def identified(options: OpenOptions) -> OpenOptions:
    """`options` with this process's user and host where they name none."""
    return replace(
        options,
        username=options.username or default_username(),
        hostname=options.hostname or default_hostname(),
    )
