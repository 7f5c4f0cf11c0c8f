"""A block backup's pod is told where the driver's changed-block service is, and gets a token for it alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.moves.mover_request import build_request
from exposer.access_point import access_point
from exposer.changed_blocks import TOKEN_PATH
from exposer.csi_snapshot import SnapshotSource, expose_csi_snapshot
from exposer.settings import ExposeSettings
from kube.api import POD, SNAPSHOT_METADATA_SERVICE
from mover.protocol import BackupRequest, ChangeTracking, RepositoryAccess
from tests.fakes.resources import move

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from tests.fakes.cluster import ClusterControllers
    from tests.fakes.kube import FakeKube

DEVICE = SnapshotSource("app", "data", "velero-data-x", "fast", as_device=True)
SPEC = {"address": "csi.test:6443", "caCert": "UEVN", "audience": "csi.test"}


def service(**changes: Any) -> dict[str, Any]:
    meta = {"name": "csi.test"}
    kind = {"apiVersion": "cbt.storage.k8s.io/v1beta1", "kind": "SnapshotMetadataService"}
    return kind | {"metadata": meta, "spec": SPEC | changes}


async def exposed(exposure: Exposure, kube: FakeKube, source: SnapshotSource) -> dict[str, Any]:
    settings = ExposeSettings(changed_block_account="cbt")
    await expose_csi_snapshot(replace(exposure, settings=settings), source)
    return await kube.get(POD, "velero", "move-1")


async def test_service_of_the_driver_reaches_the_mover_with_a_token_of_its_audience(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    kube.put(SNAPSHOT_METADATA_SERVICE, service())
    pod = await exposed(exposure, kube, DEVICE)
    projected = [v["projected"] for v in pod["spec"]["volumes"] if "projected" in v]
    token = {"audience": "csi.test", "expirationSeconds": 600, "path": "token"}
    assert projected == [{"sources": [{"serviceAccountToken": token}]}]
    assert pod["spec"]["serviceAccountName"] == "cbt"
    assert pod["spec"]["automountServiceAccountToken"] is False
    subject = move("DataUpload", "InProgress", spec={"datamover": "velero-block"})
    request = build_request(subject, access_point(pod), RepositoryAccess("default", {}, "app", "/password"))
    assert isinstance(request, BackupRequest)
    assert request.tracking == ChangeTracking("csi.test:6443", "UEVN", TOKEN_PATH, "velero", "move-1")


@pytest.mark.parametrize("fault", ["none", "no address", "files"])
async def test_without_a_usable_service_nothing_is_asked_and_nothing_is_mounted(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure, fault: str
) -> None:
    if fault != "none":
        kube.put(SNAPSHOT_METADATA_SERVICE, service(address="" if fault == "no address" else "x:1"))
    pod = await exposed(exposure, kube, replace(DEVICE, as_device=fault != "files"))
    assert not [v for v in pod["spec"]["volumes"] if "projected" in v]
    assert access_point(pod).service is None
    assert pod["spec"].get("serviceAccountName") != "cbt"
