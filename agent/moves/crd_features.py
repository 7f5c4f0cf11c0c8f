"""Which of Velero 1.15 to 1.18 the cluster's CRDs belong to, as far as writing is concerned. Pure.

Detected from the schemas, never configured. Fields that a schema lacks are dropped by the API server without
a word, so only two things matter: phases that would be refused (422), and facts that would be lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CrdFeatures:
    """What the installed schemas can hold. The defaults are 1.17 and newer.

    `pod_volume_phases`: PVB/PVR know `Accepted` to `Canceled` (1.17+).
    `data_mover_accepted`: DU/DD have `acceptedByNode` and `acceptedTimestamp` (1.16+).
    """

    pod_volume_phases: bool = True
    data_mover_accepted: bool = True


def features_from_crds(pod_volume_backups: Json | None, data_uploads: Json | None) -> CrdFeatures:
    """Read the two schemas that differ; a CRD that may not be read (`None`) counts as new."""
    phases = _status(pod_volume_backups).get("phase", {}).get("enum") if pod_volume_backups else None
    uploads = _status(data_uploads) if data_uploads else None
    return CrdFeatures(
        pod_volume_phases=phases is None or "Accepted" in phases,
        data_mover_accepted=uploads is None or "acceptedByNode" in uploads,
    )


def _status(crd: Json) -> Json:
    for version in crd["spec"]["versions"]:
        if version.get("storage"):
            schema: Json = version["schema"]["openAPIV3Schema"]["properties"]
            properties: Json = schema.get("status", {}).get("properties", {})
            return properties
    return {}
