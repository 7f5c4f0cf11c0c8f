from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exposer.errors import UnsupportedVolumeError, VolumeNotFoundError
from exposer.host_path import on_node
from exposer.pod_volume import PodVolume, expose_pod_volume, hide_pod_volume
from exposer.settings import ExposeSettings
from kube.api import CSI_DRIVER, DAEMON_SET, NODE, POD, PV, PVC
from tests.fakes import scene

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from tests.fakes.kube import FakeKube


@pytest.fixture
def host_pods(tmp_path: Path, kube: FakeKube) -> Path:
    pod = {
        "metadata": {"name": "web-0", "namespace": "app", "uid": "pod-uid"},
        "spec": {
            "nodeName": "node-1",
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "scratch", "emptyDir": {}},
                {"name": "inline", "csi": {"driver": "csi.test"}},
            ],
        },
    }
    kube.put(POD, pod)
    return tmp_path


def mounted(host_pods: Path, below: str) -> None:
    (host_pods / "pod-uid" / "volumes" / below).mkdir(parents=True)


@pytest.mark.parametrize(
    ("volume", "below"),
    [
        ("scratch", "kubernetes.io~empty-dir/scratch"),
        ("inline", "kubernetes.io~csi/inline/mount"),
        ("data", "kubernetes.io~csi/pv-data/mount"),
    ],
)
async def test_each_kind_of_volume_is_found_below_the_kubelets_directory(
    kube: FakeKube, exposure: Exposure, host_pods: Path, volume: str, below: str
) -> None:
    mounted(host_pods, below)
    await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", volume), host_pods=host_pods)
    pod = await kube.get(POD, "velero", "move-1")
    assert pod["spec"]["nodeName"] == "node-1"
    assert pod["spec"]["volumes"][0]["hostPath"] == {"path": f"/var/lib/kubelet/pods/pod-uid/volumes/{below}"}
    assert pod["spec"]["containers"][0]["volumeMounts"][0]["mountPropagation"] == "HostToContainer"


async def test_volume_of_a_static_pod_is_in_the_directory_of_its_hash(
    kube: FakeKube, exposure: Exposure, host_pods: Path
) -> None:
    """The API knows a mirror of it under another UID than the kubelet."""
    mirror = {"metadata": {"annotations": {"kubernetes.io/config.mirror": "0a1b2c"}}}
    kube.change(POD, "app", "web-0", mirror)
    (host_pods / "0a1b2c/volumes/kubernetes.io~empty-dir/scratch").mkdir(parents=True)
    await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", "scratch"), host_pods=host_pods)
    pod = await kube.get(POD, "velero", "move-1")
    below = "/var/lib/kubelet/pods/0a1b2c/volumes/kubernetes.io~empty-dir/scratch"
    assert pod["spec"]["volumes"][0]["hostPath"] == {"path": below}


async def test_in_tree_volume_is_the_pvs_own_directory_unless_migrated(
    kube: FakeKube, exposure: Exposure, host_pods: Path
) -> None:
    kube.change(PV, "", "pv-data", {"spec": {"csi": None, "nfs": {"server": "s"}}})
    mounted(host_pods, "kubernetes.io~nfs/pv-data")
    await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", "data"), host_pods=host_pods)
    await hide_pod_volume(exposure)
    kube.change(PV, "", "pv-data", {"metadata": {"annotations": {"pv.kubernetes.io/migrated-to": "nfs.csi"}}})
    kube.put(CSI_DRIVER, {"metadata": {"name": "nfs.csi"}, "spec": {}})
    with pytest.raises(VolumeNotFoundError, match="pv-data/mount"):
        await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", "data"), host_pods=host_pods)
    assert kube.names(POD) == ["web-0"]


async def test_pod_that_has_ended_is_named_and_not_the_kubelets_directory(
    kube: FakeKube, exposure: Exposure, host_pods: Path
) -> None:
    """The pod of a Job that is done: its volumes are unmounted, and the directory is as it should be."""
    kube.change(POD, "app", "web-0", {"status": {"phase": "Succeeded"}})
    with pytest.raises(VolumeNotFoundError, match=r"pod app/web-0 has ended \(Succeeded\)"):
        await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", "data"), host_pods=host_pods)


async def test_what_cannot_be_reached_is_refused_with_its_reason(
    kube: FakeKube, exposure: Exposure, host_pods: Path
) -> None:
    with pytest.raises(VolumeNotFoundError, match="has no volume gone"):
        await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", "gone"), host_pods=host_pods)
    with pytest.raises(VolumeNotFoundError, match="pod app/web-9 does not exist"):
        await expose_pod_volume(exposure, PodVolume("app", "web-9", "pod-uid", "data"), host_pods=host_pods)
    with pytest.raises(VolumeNotFoundError, match="kubelet's pods directory"):
        await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", "data"), host_pods=host_pods)
    kube.change(PVC, "app", "data", {"spec": {"volumeMode": "Block"}})
    with pytest.raises(UnsupportedVolumeError, match="block device"):
        await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", "data"), host_pods=host_pods)
    kube.change(NODE, "", "node-1", {"metadata": {"labels": {"kubernetes.io/os": "windows"}}})
    with pytest.raises(UnsupportedVolumeError, match="Windows"):
        await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", "data"), host_pods=host_pods)


async def test_volume_of_a_pod_that_was_made_anew_is_not_taken_for_the_one_that_was_meant(
    kube: FakeKube, exposure: Exposure, host_pods: Path
) -> None:
    mounted(host_pods, "kubernetes.io~csi/pv-data/mount")
    meant = PodVolume("app", "web-0", "uid-of-before", "data")
    with pytest.raises(VolumeNotFoundError, match="made anew: its UID is pod-uid and not uid-of-before"):
        await expose_pod_volume(exposure, meant, host_pods=host_pods)
    assert kube.names(POD) == ["web-0"]
    await expose_pod_volume(exposure, replace(meant, uid=""), host_pods=host_pods)
    assert kube.names(POD) == ["move-1", "web-0"]


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("privileged", [True, False])
async def test_live_volume_of_an_application_is_not_writable_to_a_backup(
    kube: FakeKube, exposure: Exposure, host_pods: Path, read_only: bool, privileged: bool
) -> None:
    mounted(host_pods, "kubernetes.io~csi/pv-data/mount")
    wanted = PodVolume("app", "web-0", "pod-uid", "data", read_only=read_only)
    mine = replace(exposure, settings=ExposeSettings(privileged_fs_backup=privileged))
    await expose_pod_volume(mine, wanted, host_pods=host_pods)
    [container] = (await kube.get(POD, "velero", "move-1"))["spec"]["containers"]
    assert container["volumeMounts"][0].get("readOnly", False) is read_only
    if not privileged:
        capabilities = container["securityContext"]["capabilities"]["add"]
        assert (capabilities == ["DAC_OVERRIDE"]) is read_only


@pytest.mark.parametrize("case", [("master:7", False), ("master:7", True), ("", False), ("shared:7", False)])
async def test_csi_directory_with_nothing_mounted_is_no_empty_volume(
    kube: FakeKube,
    exposure: Exposure,
    host_pods: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, bool],
) -> None:
    """Only an agent whose `/host_pods` follows the node's mounts can tell; the others do not guess."""
    propagation, is_there = case
    below = "kubernetes.io~csi/pv-data/mount"
    mounted(host_pods, below)
    lines = [f"30 29 8:1 /pods {host_pods} rw,relatime {propagation} - ext4 /dev/sda1 rw"]
    if is_there:
        lines.append(f"31 30 8:1 /data {host_pods}/pod-uid/volumes/{below} rw master:8 - ext4 /dev/sda1 rw")
    monkeypatch.setattr("exposer.pod_volume._read_mounts", lambda: "\n".join(lines))
    wanted = PodVolume("app", "web-0", "pod-uid", "data")
    refused = propagation == "master:7" and not is_there
    if refused:
        with pytest.raises(VolumeNotFoundError, match=r"nothing is mounted at .*pv-data/mount"):
            await expose_pod_volume(exposure, wanted, host_pods=host_pods)
    else:
        await expose_pod_volume(exposure, wanted, host_pods=host_pods)
    assert ("move-1" in kube.names(POD)) is not refused


async def test_switched_off_host_paths_are_named(kube: FakeKube, exposure: Exposure, host_pods: Path) -> None:
    """Also where nothing is mounted: that is said and not what cannot be found there."""
    body = scene.daemon_set()
    body["spec"]["template"]["spec"]["volumes"].pop(0)
    kube.put(DAEMON_SET, body)
    with pytest.raises(UnsupportedVolumeError, match="fs-backup is switched off"):
        await expose_pod_volume(exposure, PodVolume("app", "web-0", "pod-uid", "data"), host_pods=host_pods)


def test_path_on_the_node_follows_a_changed_kubelet_root() -> None:
    assert (
        on_node(Path("/host_pods/u/volumes/x"), Path("/host_pods"), "/data/kubelet/pods/")
        == "/data/kubelet/pods/u/volumes/x"
    )
