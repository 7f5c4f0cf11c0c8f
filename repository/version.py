"""The version of the package, without loading the engine."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("kopia-data-mover")
