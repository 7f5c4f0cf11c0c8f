"""Policies as they are defined: targets, and edits of their documents.

Documents keep Kopia's field names, and fields that are not known here pass unharmed. What is in force
for a source (how policies merge) is the engine's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from repository.errors import InvalidRequestError

Document = dict[str, Any]
# Kopia writes all of these, empty or not.
SECTIONS = (
    "retention",
    "files",
    "errorHandling",
    "scheduling",
    "compression",
    "metadataCompression",
    "splitter",
    "actions",
    "osSnapshots",
    "logging",
    "upload",
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a policy is for: a path of a user on a host; with fewer parts all below, with none everything."""

    username: str = ""
    hostname: str = ""
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads `USER@HOST:PATH`, `USER@HOST`, `@HOST` or `(global)`; refuses anything else."""
        if text == "(global)":
            return cls()
        owner, _, path = text.partition(":")
        username, at, hostname = owner.partition("@")
        if not at or not hostname or (path and not username):
            raise InvalidRequestError(f"{text!r} is neither USER@HOST:PATH nor USER@HOST nor @HOST")
        return cls(username, hostname, path)

    @property
    def kind(self) -> str:
        """Kopia's `policyType`."""
        if self.path:
            return "path"
        if self.username:
            return "user"
        return "host" if self.hostname else "global"

    def labels(self) -> dict[str, str]:
        """Labels of its manifest."""
        parts = {"hostname": self.hostname, "username": self.username, "path": self.path}
        return {"type": "policy", "policyType": self.kind} | {
            key: value for key, value in parts.items() if value
        }

    def __str__(self) -> str:
        if not self.hostname:
            return "(global)"
        return f"{self.username}@{self.hostname}" + (f":{self.path}" if self.path else "")


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that is defined."""

    id: str
    target: Target
    document: Mapping[str, Any]

    @classmethod
    def of(cls, manifest: Mapping[str, Any], document: Mapping[str, Any]) -> Policy:
        """From a manifest's metadata and payload."""
        labels = manifest["labels"]
        target = Target(labels.get("username", ""), labels.get("hostname", ""), labels.get("path", ""))
        return cls(manifest["id"], target, document)


def with_field(document: Mapping[str, Any], section: str, field: str, value: Any) -> Document:
    """The document with one field set, or removed where `value` is `None` (then it is inherited)."""
    changed = _with_sections(document)
    if value is None:
        changed[section].pop(field, None)
    else:
        changed[section][field] = value
    return changed


def with_list_changes(
    document: Mapping[str, Any],
    section: str,
    field: str,
    *,
    add: tuple[str, ...] = (),
    remove: tuple[str, ...] = (),
    clear: bool = False,
) -> Document:
    """The document with a list of texts changed: kept in order, each once; an empty one is left out."""
    before = [] if clear else _with_sections(document)[section].get(field) or []
    merged = dict.fromkeys([*before, *add])
    kept = [one for one in merged if one not in remove]
    return with_field(document, section, field, kept or None)


def _with_sections(document: Mapping[str, Any]) -> Document:
    copied = deepcopy(dict(document))
    return {section: copied.pop(section, None) or {} for section in SECTIONS} | copied
