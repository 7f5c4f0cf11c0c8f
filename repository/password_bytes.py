"""What a password is: bytes, without the white space around them. The one place that says so.

Kopia trims what `KOPIA_PASSWORD` and `--password` hold (`cli/password.go`), Velero what its Secret holds,
both by Go's `strings.TrimSpace`: a new line at the end of a file or a variable is never part of a password,
one in its middle is. A password need not be text. Only what Kopia itself has kept in
`repository.config.kopia-password`, and what a person types, is taken as it is.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

from repository.errors import InvalidRequestError

KOPIA_SUFFIX = ".kopia-password"
# What Go's unicode.IsSpace says. Python's own strip() also takes the separators U+001C to U+001F.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def trimmed(password: bytes) -> bytes:
    """The password without white space around it, as Kopia and Velero have it."""
    # A byte that is no text stands for itself, and is no space.
    return password.decode("utf-8", "surrogateescape").strip(_SPACES).encode("utf-8", "surrogateescape")


def of_variable(name: str, environment: Mapping[bytes, bytes] | None = None) -> bytes | None:
    """The password in a variable; `None` if it is not set or empty.

    Raises:
        InvalidRequestError: It holds nothing but white space.
    """
    value = (os.environb if environment is None else environment).get(name.encode())
    return _not_empty(trimmed(value), f"the variable {name}") if value else None


def of_file(path: Path) -> bytes:
    """The password in a file; what Kopia has kept beside its connection file is decoded, and taken as it is.

    Raises:
        InvalidRequestError: The file cannot be read, or holds none.
    """
    try:
        content = path.read_bytes()
        if path.name.endswith(KOPIA_SUFFIX):
            return _not_empty(
                base64.b64decode(content.translate(None, b"\r\n"), validate=True), f"the password file {path}"
            )
    except OSError as error:
        why = (error.strerror or "it failed").lower()
        raise InvalidRequestError(f"cannot read the password file {path}: {why}") from None
    except ValueError:
        raise InvalidRequestError(
            f"cannot read the password file {path}: not base64, as Kopia writes it"
        ) from None
    return _not_empty(trimmed(content), f"the password file {path}")


def typed(text: str) -> bytes:
    """What a person typed to open a repository: as it is, as with Kopia."""
    return text.encode("utf-8", "surrogateescape")


def check_new(password: bytes) -> bytes:
    """A password that is to be set, if each program will be able to give it again.

    Raises:
        InvalidRequestError: It is empty, or has white space around it, which Kopia and Velero take away.
    """
    _not_empty(password, "what was typed")
    if trimmed(password) != password:
        raise InvalidRequestError(
            "a password cannot begin or end with white space: Kopia and Velero take it away"
        )
    return password


def _not_empty(password: bytes, where: str) -> bytes:
    if not password:
        raise InvalidRequestError(f"{where} holds no password")
    return password
