"""Log setup: one line an event on standard output, as text or JSON, with Velero's field names.

The standard library's `logging`, because an idle agent's memory is counted (structlog brings 6 MiB along).
The event stands first and fixed; what varies are fields.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

# Velero's levels and what they are in Python.
LEVELS = {
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}
FORMATS = ("text", "json")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


class _Formatter(logging.Formatter):
    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """Return the line's fields: time, level and event first, as Velero's server has them."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "logSource": record.name,
        }
        fields |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return fields


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the fields as JSON."""
        return json.dumps(self.fields(record), default=str, ensure_ascii=False)


class TextFormatter(_Formatter):
    """`key=value`, quoted where needed: logfmt, as Velero's text format is."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the fields as logfmt."""
        return " ".join(f"{key}={_quoted(str(value))}" for key, value in self.fields(record).items())


def _quoted(text: str) -> str:
    plain = text and all(character.isalnum() or character in "-_./:@" for character in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def set_up_logging(level: str, log_format: str) -> None:
    """Send everything to standard output, where `velero debug` collects it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=LEVELS.get(level, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
