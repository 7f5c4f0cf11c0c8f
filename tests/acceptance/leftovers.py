"""What moves may leave behind, in Velero's namespace and cluster-wide, each thing with the application that it is for.

A test that runs beside others looks at what is for its own applications, and at what is for nobody's: the rest of a
move whose resource was deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kube.api import POD, PV, PVC, VOLUME_SNAPSHOT, VOLUME_SNAPSHOT_CONTENT
from tests.acceptance.cluster import DATA_DOWNLOAD, DATA_UPLOAD, FINAL, MOVES, VELERO

if TYPE_CHECKING:
    from kube.api import Resource
    from tests.acceptance.cluster import Cluster, Json

NOBODY = ""
Leftovers = dict[str, str]  # "Kind namespace/name" to the namespace of its application, or NOBODY


def leftovers(cluster: Cluster) -> Leftovers:
    """Everything that a move may have left now, or still needs."""
    moves = [(kind, body) for kind in MOVES for body in cluster.select(kind)]
    owners = {body["metadata"]["name"]: application_of(kind, body) for kind, body in moves}

    def owner(namespace: str, name: str) -> str:
        return owners.get(name, NOBODY) if namespace == VELERO else namespace

    found: Leftovers = {}
    for kind in (POD, PVC):
        for body in cluster.select(kind):
            if not _is_velero(body):
                name = body["metadata"]["name"]
                found[f"{kind.kind} {name}"] = owner(VELERO, name)
    for kind, reference in ((PV, "claimRef"), (VOLUME_SNAPSHOT_CONTENT, "volumeSnapshotRef")):
        for body in cluster.select(kind):
            ref = body["spec"].get(reference) or {"namespace": VELERO, "name": ""}
            about = f"{ref['namespace']}/{ref['name']}"
            found[f"{kind.kind} {body['metadata']['name']} of {about}"] = owner(ref["namespace"], ref["name"])
    for body in cluster.select(VOLUME_SNAPSHOT, ""):
        meta = body["metadata"]
        found[f"VolumeSnapshot {meta['namespace']}/{meta['name']}"] = owner(meta["namespace"], meta["name"])
    for kind, body in moves:
        if body["metadata"].get("finalizers") and (body.get("status") or {}).get("phase") in FINAL:
            name = body["metadata"]["name"]
            found[f"finalizer of {kind.kind} {name} after its end"] = owners[name]
    return found


def application_of(kind: Resource, move: Json) -> str:
    """The namespace of the application that a move is for."""
    spec = move["spec"]
    if kind is DATA_UPLOAD:
        return str(spec["sourceNamespace"])
    if kind is DATA_DOWNLOAD:
        return str(spec["targetVolume"]["namespace"])
    return str(spec["pod"]["namespace"])


def _is_velero(body: Json) -> bool:
    """Velero's own pods: the server, node-agents, maintenance Jobs."""
    labels = body["metadata"].get("labels") or {}
    return (
        labels.get("name") in ("node-agent", "velero")
        or labels.get("deploy") == "velero"
        or "job-name" in labels
    )
