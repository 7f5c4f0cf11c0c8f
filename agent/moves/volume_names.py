"""What the volume of a move is called, as its user knows it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.moves.custom_resources import DataDownloadSpec, DataUploadSpec

if TYPE_CHECKING:
    from agent.moves.custom_resources import Move


def volume_of(move: Move) -> str:
    """Name the volume as its user knows it."""
    spec = move.spec
    if isinstance(spec, DataUploadSpec):
        return f"{spec.source_namespace}/{spec.source_pvc}"
    if isinstance(spec, DataDownloadSpec):
        return f"{spec.target_namespace}/{spec.target_pvc}"
    return f"{spec.pod_namespace}/{spec.pod_name}:{spec.volume}"
