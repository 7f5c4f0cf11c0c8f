"""Where a CSI driver's changed-block service is, and how the mover shows who it is.

The driver's SnapshotMetadataService (named as the driver) says address, authority and audience; the hosting
pod gets a projected token for that audience, which rotates by itself: no agent needs a right to make tokens.
Source: Kubernetes external-snapshot-metadata; Velero `pkg/exposer`, which makes a TokenRequest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kube.api import SNAPSHOT_METADATA_SERVICE, KubeError, find

if TYPE_CHECKING:
    from kube.api import Kube

Json = dict[str, Any]

SERVICE_ANNOTATION = "kopia-data-mover.io/changed-block-service"
TOKEN_DIRECTORY = "/var/run/kopia-data-mover/changed-blocks"  # noqa: S105 - a path
TOKEN_PATH = f"{TOKEN_DIRECTORY}/token"
_TOKEN_SECONDS = 600
# On an annotation of the pod; all of them together may have 256 KiB.
_AUTHORITY_LENGTH_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class ChangedBlockService:
    """`authority` is PEM in base64."""

    address: str
    authority: str
    audience: str

    def note(self) -> str:
        """Write it as the value of an annotation."""
        texts = {"address": self.address, "authority": self.authority, "audience": self.audience}
        return json.dumps(texts, separators=(",", ":"))


def noted_service(annotations: Json) -> ChangedBlockService | None:
    """Read the annotation of a hosting pod; `None` without one."""
    text = annotations.get(SERVICE_ANNOTATION)
    return ChangedBlockService(**json.loads(text)) if text else None


async def find_service(kube: Kube, driver: str) -> ChangedBlockService | None:
    """Find the service of a driver; `None` if it has none, or one that cannot be used or may not be read."""
    try:
        body = await find(kube, SNAPSHOT_METADATA_SERVICE, "", driver) if driver else None
    except KubeError as error:
        if error.temporary:
            raise
        return None
    spec = (body or {}).get("spec") or {}
    texts = [str(spec.get(key) or "") for key in ("address", "caCert", "audience")]
    if not all(texts) or len(texts[1]) > _AUTHORITY_LENGTH_MAX:
        return None
    return ChangedBlockService(*texts)


def token_volume(audience: str) -> Json:
    """The volume with the token of the pod's own account."""
    token = {"audience": audience, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}
    return {"name": "changed-blocks", "projected": {"sources": [{"serviceAccountToken": token}]}}


def token_mount() -> Json:
    """Where the mover finds it."""
    return {"name": "changed-blocks", "mountPath": TOKEN_DIRECTORY, "readOnly": True}
