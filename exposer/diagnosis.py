"""What is there of an exposure that failed, in lines for the log, before it is taken back (contract 2.1)."""

from __future__ import annotations

from typing import Any

from kube.api import (
    POD,
    PV,
    PVC,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    Kube,
    KubeError,
    find,
)
from kube.pod_warnings import newest_warning

Json = dict[str, Any]


async def diagnose(kube: Kube, namespace: str, name: str) -> list[str]:
    """Describe pod, PVC, PV, snapshot and content of an exposure, and the newest warning; never raises."""
    try:
        claim = await find(kube, PVC, namespace, name)
        volume = ((claim or {}).get("spec") or {}).get("volumeName", "")
        found = [
            (POD, await find(kube, POD, namespace, name)),
            (PVC, claim),
            (PV, await find(kube, PV, "", volume) if volume else None),
            (VOLUME_SNAPSHOT, await find(kube, VOLUME_SNAPSHOT, namespace, name)),
            (VOLUME_SNAPSHOT_CONTENT, await find(kube, VOLUME_SNAPSHOT_CONTENT, "", name)),
        ]
    except KubeError as error:
        return [f"cannot be looked at: {error}"]
    lines = [_line(resource.kind, body) for resource, body in found if body is not None]
    warning = await newest_warning(kube, namespace, name)
    return [*lines, *([f"warning {warning}"] if warning else [])]


def _line(kind: str, body: Json) -> str:
    meta, status = body["metadata"], body.get("status") or {}
    facts = {
        "phase": status.get("phase"),
        "node": (body.get("spec") or {}).get("nodeName"),
        "ready": status.get("readyToUse"),
        "error": (status.get("error") or {}).get("message"),
        "conditions": "; ".join(
            f"{one.get('type')}={one.get('status')} {one.get('reason', '')} {one.get('message', '')}".strip()
            for one in status.get("conditions") or []
        ),
    }
    told = ", ".join(f"{name} {value}" for name, value in facts.items() if value not in (None, ""))
    return f"{kind} {meta.get('namespace', '')}/{meta['name']}: {told}"
