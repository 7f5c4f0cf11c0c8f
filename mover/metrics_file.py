"""Numbers of one run as a Prometheus text file, for node_exporter's textfile collector or a sidecar."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repository.errors import InvalidRequestError

PREFIX = "kopia_data_mover_repository_"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One series: its name behind the prefix, what it is, its labels, its value."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str]


def write(path: Path, gauges: Sequence[Gauge]) -> None:
    """Replaces the file, whole or not at all: it may be read at any moment.

    Raises:
        InvalidRequestError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text(gauges), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        reason = (error.strerror or "it failed").lower()
        raise InvalidRequestError(f"cannot write the metrics file {path}: {reason}") from None


def text(gauges: Sequence[Gauge]) -> str:
    """The exposition format; gauges of one name must follow one another."""
    lines: list[str] = []
    for gauge in gauges:
        name = PREFIX + gauge.name
        if f"# TYPE {name} gauge" not in lines:
            lines += [f"# HELP {name} {gauge.help}", f"# TYPE {name} gauge"]
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in gauge.labels.items())
        lines.append(f"{name}{{{labels}}} {gauge.value!r}")
    return "\n".join([*lines, ""])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
