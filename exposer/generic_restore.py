"""Exposes a new volume for a restore: target PVC → a PVC like it → hosting pod (contract 2.2).

When the data is there, `rebind` gives the volume to the target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exposer.access_point import VolumeMode, volume_mode_of
from exposer.errors import TargetBoundError, VolumeNotFoundError
from exposer.exposure import claim_names
from exposer.hosting_pod_manifest import HostingVolume
from exposer.manifests import SELECTED_NODE_ANNOTATION, restore_pvc
from exposer.ownership import finish_giving_back
from exposer.rebind import unmark_given_volume
from exposer.removal import remove_claim, remove_pod
from exposer.secret_copies import copy_secrets, remove_copies
from kube.api import PVC, STORAGE_CLASS, find
from kube.waiting import wait_for

if TYPE_CHECKING:
    from exposer.exposure import Exposure

Json = dict[str, Any]

POD_GROUP = "generic-restore-exposer"


async def expose_new_volume(
    exposure: Exposure, namespace: str, claim: str, *, as_device: bool = False
) -> None:
    """Make a volume like the target's reachable by a hosting pod that has been created when this returns.

    `as_device`: of mode Block whatever the target's is; `rebind` gives it the target's.

    Raises:
        ExposeError: the target is missing or bound already, or no node was selected for it in time.
    """
    target = await _target(exposure, namespace, claim)
    if target["spec"].get("volumeName"):
        raise TargetBoundError(f"Target PVC {namespace}/{claim} has already been bound, abort")
    node = (target["metadata"].get("annotations") or {}).get(SELECTED_NODE_ANNOTATION, "")
    exposure.tell("")
    await copy_secrets(exposure, namespace, exposure.settings.restore_copied)
    await exposure.create_cache(node)
    mode = VolumeMode.BLOCK if as_device else volume_mode_of(target)
    volume = HostingVolume(claim=exposure.name, is_block=mode is VolumeMode.BLOCK)
    storage_class = target["spec"].get("storageClassName") or ""
    plan = exposure.plan(
        volume,
        pod_group=POD_GROUP,
        selected_node=node,
        affinity=None if node else exposure.settings.affinity_for(storage_class),
    )
    body = restore_pvc(
        exposure.name,
        exposure.namespace,
        target,
        owner=exposure.owner,
        selected_node=node,
        volume_mode=mode,
    )
    await exposure.make(PVC, exposure.namespace, body)
    await exposure.wait_bound(storage_class, node)
    await exposure.create_pod(plan)


async def _target(exposure: Exposure, namespace: str, claim: str) -> Json:
    """Return the target; of a late-binding class only once the scheduler has chosen a node for its pod."""
    target = await find(exposure.kube, PVC, namespace, claim)
    if target is None:
        raise VolumeNotFoundError(f"target PVC {namespace}/{claim} does not exist")
    if exposure.settings.ignore_delay_binding or not await _binds_late(exposure, target):
        return _without_selected_node(target) if exposure.settings.ignore_delay_binding else target
    exposure.tell(
        f"PVC {namespace}/{claim} waits for its first consumer: no pod that uses it is scheduled yet"
    )

    def has_node(body: Json | None) -> bool:
        if body is None:
            raise VolumeNotFoundError(f"target PVC {namespace}/{claim} was deleted")
        bound = bool(body["spec"].get("volumeName"))
        return bound or SELECTED_NODE_ANNOTATION in (body["metadata"].get("annotations") or {})

    found = await wait_for(
        exposure.kube,
        PVC,
        namespace,
        claim,
        until=has_node,
        timeout_seconds=exposure.prepare_seconds,
        what=f"a node is selected for PVC {namespace}/{claim}",
    )
    assert found is not None  # noqa: S101 - has_node raises on None
    return found


async def _binds_late(exposure: Exposure, target: Json) -> bool:
    name = target["spec"].get("storageClassName")
    body = await find(exposure.kube, STORAGE_CLASS, "", name) if name else None
    return (body or {}).get("volumeBindingMode") == "WaitForFirstConsumer"


def _without_selected_node(target: Json) -> Json:
    annotations = dict(target["metadata"].get("annotations") or {})
    annotations.pop(SELECTED_NODE_ANNOTATION, None)
    return target | {"metadata": target["metadata"] | {"annotations": annotations}}


async def hide_new_volume(exposure: Exposure) -> None:
    """Take back pod, PVC and cache. A PV that was given to the target is no longer the PVC's and stays.

    So does one whose data is whole and which could not be given.
    """
    kube, name, namespace, uid = exposure.kube, exposure.name, exposure.namespace, exposure.uid
    await remove_pod(kube, namespace, name, uid)
    await unmark_given_volume(exposure)
    claims = [await remove_claim(kube, namespace, claim, uid) for claim in claim_names(name)]
    if None in claims:
        await finish_giving_back(kube, namespace)
    await remove_copies(kube, namespace, uid)
