"""Velero's label values: names longer than a label may be are shortened the way the server does it. Pure."""

from __future__ import annotations

import hashlib

_LENGTH_MAX = 63
_HASH_LENGTH = 6


def label_value(name: str) -> str:
    """A name of up to 63 characters as it is; a longer one as 57 characters and 6 hex digits of its SHA-256.

    Source: Velero `pkg/label/label.go`, `GetValidName`.
    """
    if len(name) <= _LENGTH_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()
    return name[: _LENGTH_MAX - _HASH_LENGTH] + digest[:_HASH_LENGTH]
