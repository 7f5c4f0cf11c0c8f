"""What is read from a hosting pod is its mover's alone, whatever webhooks have put beside it."""

from __future__ import annotations

import pytest

from exposer.access_point import AccessPoint, VolumeMode, access_point
from exposer.hosting_pod import PodState, view_hosting_pod
from exposer.hosting_pod_manifest import HostingVolume, hosting_pod
from exposer.settings import ExposeSettings
from kube.api import Json
from tests.unit.exposer.test_hosting_pod_manifest import PLAN, TEMPLATE

SIDECAR = {"name": "istio-proxy", "volumeMounts": [{"name": "x", "mountPath": "/etc/istio"}]}


def meshed(*, is_block: bool = False) -> Json:
    """A pod of ours after webhooks: a sidecar before the mover, a mount and a device before its own."""
    plan = type(PLAN)(
        **{f: getattr(PLAN, f) for f in PLAN.__slots__}
        | {"volume": HostingVolume(claim="move-1", is_block=is_block)}
    )
    pod = hosting_pod(plan, TEMPLATE, ExposeSettings())
    mover = pod["spec"]["containers"][0]
    mover["volumeMounts"].insert(0, {"name": "agent", "mountPath": "/opt/agent"})
    if is_block:
        mover["volumeDevices"].insert(0, {"name": "other", "devicePath": "/dev/other"})
    pod["spec"]["containers"].insert(0, SIDECAR)
    pod["metadata"]["ownerReferences"].insert(0, {"uid": "of-a-webhook", "kind": "X", "name": "x"})
    return pod


def ended(pod: Json, phase: str, *, code: int, sidecar: Json) -> Json:
    mover = {"name": "uid-1", "state": {"terminated": {"exitCode": code, "message": "the mover's"}}}
    statuses = [{"name": "istio-proxy", "state": sidecar}, mover]
    return pod | {"status": {"phase": phase, "containerStatuses": statuses}}


@pytest.mark.parametrize("is_block", [False, True])
def test_volume_is_where_the_plan_put_it(is_block: bool) -> None:
    mode = VolumeMode.BLOCK if is_block else VolumeMode.FILESYSTEM
    assert access_point(meshed(is_block=is_block)) == AccessPoint("/uid-1", mode)


def test_pod_without_our_mount_has_no_access_point() -> None:
    pod = meshed()
    pod["spec"]["containers"].pop()
    assert access_point(pod).path == ""


STOPPED = {"terminated": {"exitCode": 143, "message": "the sidecar's"}}


@pytest.mark.parametrize(
    ("phase", "sidecar"),
    [("Running", {"running": {}}), ("Failed", STOPPED), ("Succeeded", {"terminated": {}})],
)
@pytest.mark.parametrize("code", [0, 1])
def test_pod_has_ended_as_its_mover_has_and_says_what_the_mover_said(
    phase: str, sidecar: Json, code: int
) -> None:
    view = view_hosting_pod(ended(meshed(), phase, code=code, sidecar=sidecar))
    assert view.state is (PodState.SUCCEEDED if code == 0 else PodState.FAILED)
    assert view.termination_message == "the mover's"
    assert view.owner_uid == "uid-1"


def test_sidecar_that_ends_does_not_end_the_mover() -> None:
    pod = meshed() | {
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {"name": "istio-proxy", "state": STOPPED},
                {"name": "uid-1", "state": {"running": {}}},
            ],
        }
    }
    view = view_hosting_pod(pod)
    assert (view.state, view.termination_message) == (PodState.RUNNING, "")


def test_pod_that_failed_for_another_container_says_which() -> None:
    pod = meshed() | {
        "status": {
            "phase": "Failed",
            "initContainerStatuses": [{"name": "istio-init", "state": {"terminated": {"exitCode": 1}}}],
        }
    }
    assert view_hosting_pod(pod).reason == "container istio-init ended with exit code 1"
