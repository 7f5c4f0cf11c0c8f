"""Gives a restored volume to the PVC it was restored for (contract 2.2).

The server checks the outcome when it finalizes the restore. Safe to repeat from any point, its end too: the
PV is found through the restore PVC or through the mark that the first step leaves on it, and the mark stays
until clean-up, when `Completed` is written. Once data is on the PV nothing here deletes it; what fails names
it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exposer.access_point import volume_mode_of
from exposer.errors import NotRetainedError, RebindError, TargetBoundError, TargetMisfitError
from exposer.mode_change import change_mode, changed_name, changed_volume, drop_replaced, needs_change
from exposer.ownership import BOUND_BY_CONTROLLER, POLICY_ANNOTATION, foreign, is_owned, is_provisioned_for
from exposer.quantity import quantity_bytes
from exposer.removal import RESTORED_LABEL, remove_pod, set_reclaim_policy
from exposer.volume_nodes import wait_detached
from kube.api import POD, PV, PVC, KubeError, NotFoundError, Selection, find, list_all
from kube.labels import label_value
from kube.waiting import WaitTimeoutError, wait_for, wait_gone

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from kube.api import Kube

Json = dict[str, Any]

READ_ONLY = {"ReadOnlyMany"}
RESTORE_ANNOTATION = "kopia-data-mover.io/restored-for"
_BIND_COMPLETED = "pv.kubernetes.io/bind-completed"


@dataclass(frozen=True, slots=True)
class _Target:
    namespace: str
    claim: str


async def rebind(exposure: Exposure, namespace: str, claim: str, *, fs_type: str | None = None) -> None:
    """Bind the restored PV to the target PVC, with the reclaim policy that it had.

    A device that was restored for a target of files changes its mode (`mode_change`) if `fs_type` says of
    which file system its bytes are; empty: of the driver's usual one.

    Raises:
        RebindError: it could not be done; the PV is kept, with policy Retain, and named in the message.
    """
    target = _Target(namespace, claim)
    volume = await _mark_restored(exposure, target)
    name = volume["metadata"]["name"]
    try:
        changed = await _changed(exposure, target, volume, fs_type)
        await _refuse_misfit(exposure, target, changed or volume)
        await _free(exposure, name)
        if changed is not None:
            await change_mode(exposure, changed)
            name = changed["metadata"]["name"]
        await drop_replaced(exposure, await restored_volumes(exposure.kube, exposure.uid))
        await _bind(exposure, target, name)
    except (KubeError, WaitTimeoutError, TargetBoundError, TargetMisfitError) as error:
        if isinstance(error, KubeError) and error.temporary:
            raise
        raise RebindError(
            f"data is restored but cannot be given to PVC {namespace}/{claim}: {error}; PV {name} keeps it"
        ) from error
    await _give_policy_back(exposure, name)


async def _mark_restored(exposure: Exposure, target: _Target) -> Json:
    """Make sure, on every pass, that the PV outlives the restore PVC and can be found again without it."""
    volume = await _restored_volume(exposure)
    if _is_safe(volume, exposure.uid, target):
        return volume
    name, meta = volume["metadata"]["name"], volume["metadata"]
    noted = (meta.get("annotations") or {}).get(POLICY_ANNOTATION, "")
    policy = noted or volume["spec"].get("persistentVolumeReclaimPolicy", "Delete")
    mark = {
        "metadata": {
            "labels": {RESTORED_LABEL: label_value(exposure.uid)},
            "annotations": {
                POLICY_ANNOTATION: policy,
                RESTORE_ANNOTATION: f"{exposure.namespace}/{exposure.name}",
            },
        },
        "spec": {"persistentVolumeReclaimPolicy": "Retain"},
    }
    await exposure.kube.patch(PV, "", name, mark)
    volume = await exposure.kube.get(PV, "", name)
    if not _is_safe(volume, exposure.uid, target):
        raise NotRetainedError(f"PV {name} is not set to Retain yet")
    return volume


def _is_safe(volume: Json, uid: str, target: _Target) -> bool:
    """Whether no deletion of our claim takes the data along: it is marked and retained, or given already."""
    marked = (volume["metadata"].get("labels") or {}).get(RESTORED_LABEL) == label_value(uid)
    retained = volume["spec"].get("persistentVolumeReclaimPolicy") == "Retain"
    return marked and (retained or _claimed_by(volume) == (target.namespace, target.claim))


def _claimed_by(volume: Json) -> tuple[str, str]:
    reference = volume["spec"].get("claimRef") or {}
    return reference.get("namespace", ""), reference.get("name", "")


async def restored_volumes(kube: Kube, uid: str) -> list[Json]:
    """Return the PVs whose data a restore has made whole, while they bear its mark."""
    return await list_all(kube, PV, "", Selection(labels=f"{RESTORED_LABEL}={label_value(uid)}"))


async def _restored_volume(exposure: Exposure) -> Json:
    marked = await restored_volumes(exposure.kube, exposure.uid)
    if marked:
        # The one of the target's mode, once there is one.
        return max(marked, key=lambda one: one["metadata"]["name"] == changed_name(exposure.uid))
    claim = await find(exposure.kube, PVC, exposure.namespace, exposure.name)
    ours = claim if claim is not None and is_owned(claim, exposure.uid) else {}
    name = ours.get("spec", {}).get("volumeName", "")
    volume = await find(exposure.kube, PV, "", name) if name else None
    if volume is None:
        raise RebindError(f"restore PVC {exposure.namespace}/{exposure.name} has no PV: its data is lost")
    if not is_provisioned_for(volume, ours):
        raise foreign(volume, ours)
    return volume


async def _free(exposure: Exposure, volume: str) -> None:
    """Remove pod and restore PVC, so that the PV is nobody's and attached nowhere."""
    kube, namespace, name = exposure.kube, exposure.namespace, exposure.name
    seconds = exposure.operation_seconds
    claim = await find(kube, PVC, namespace, name)
    if claim is None or not is_owned(claim, exposure.uid):
        return
    exposure.tell("restore pod and PVC are being removed")
    pod = await remove_pod(kube, namespace, name, exposure.uid)
    if pod:
        await wait_gone(kube, POD, namespace, name, uid=pod, timeout_seconds=seconds)
    await wait_detached(kube, volume, timeout_seconds=seconds)
    uid = claim["metadata"]["uid"]
    await kube.delete(PVC, namespace, name, uid=uid)
    await wait_gone(kube, PVC, namespace, name, uid=uid, timeout_seconds=seconds)


async def _bind(exposure: Exposure, target: _Target, name: str) -> None:
    claim = await exposure.kube.get(PVC, target.namespace, target.claim)
    bound = claim["spec"].get("volumeName", "")
    if bound not in ("", name):
        raise TargetBoundError(f"target is bound to PV {bound}")
    dropped = {"annotations": {_BIND_COMPLETED: None, BOUND_BY_CONTROLLER: None}}
    if not bound:
        patch = {"metadata": dropped, "spec": {"volumeName": name}}
        await exposure.kube.patch(PVC, target.namespace, target.claim, patch)
    await _claim_volume(exposure, claim, name)
    exposure.tell(f"PV {name} is to be bound to PVC {target.namespace}/{target.claim}")
    await wait_for(
        exposure.kube,
        PV,
        "",
        name,
        until=lambda body: _is_bound(body, target),
        timeout_seconds=exposure.operation_seconds,
        what=f"PV {name} is bound to PVC {target.namespace}/{target.claim}",
    )
    await wait_for(
        exposure.kube,
        PVC,
        target.namespace,
        target.claim,
        until=lambda body: _has_volume(body, name),
        timeout_seconds=exposure.operation_seconds,
        what=f"PVC {target.namespace}/{target.claim} is bound to PV {name}",
    )


async def _changed(exposure: Exposure, target: _Target, volume: Json, fs_type: str | None) -> Json | None:
    """Return the PV object to make in place of a restored device; `None` if it is as the target wants it."""
    claim = await exposure.kube.get(PVC, target.namespace, target.claim)
    if fs_type is None or not needs_change(volume, claim):
        return None
    return changed_volume(volume, claim, fs_type, exposure.uid)


async def _refuse_misfit(exposure: Exposure, target: _Target, volume: Json) -> None:
    """Compare target and volume as the binder will, before anything is changed: it may be made anew."""
    claim = await exposure.kube.get(PVC, target.namespace, target.claim)
    why = misfit(claim, volume)
    if why:
        raise TargetMisfitError(why)


def misfit(claim: Json, volume: Json) -> str:
    """Why the binder would not let a claim have a volume; empty if it would.

    Source: Kubernetes `pkg/controller/volume/persistentvolume`, checkVolumeSatisfyClaim.
    """
    wanted, there = claim["spec"], volume["spec"]
    mode, made_mode = volume_mode_of(claim), volume_mode_of(volume)
    size = str(((wanted.get("resources") or {}).get("requests") or {}).get("storage", ""))
    capacity = str((there.get("capacity") or {}).get("storage", ""))
    storage_class, made_class = wanted.get("storageClassName"), there.get("storageClassName", "")
    modes, made_modes = set(wanted.get("accessModes") or []), set(there.get("accessModes") or [])
    if mode is not made_mode:
        return f"target asks for volumeMode {mode}, the restored volume has {made_mode}"
    if quantity_bytes(size) > quantity_bytes(capacity):
        return f"target asks for {size}, the restored volume has {capacity}"
    if storage_class is not None and storage_class != made_class:
        return f"target asks for storage class {storage_class!r}, the restored volume has {made_class!r}"
    if not modes <= made_modes and modes != READ_ONLY:
        return f"target asks for {', '.join(sorted(modes))}, the restored volume has {', '.join(made_modes)}"
    return ""


async def _claim_volume(exposure: Exposure, claim: Json, name: str) -> None:
    """Point the PV at the target, without a UID (the binder fills it in), labelled as the target selects."""
    meta = claim["metadata"]
    volume = await exposure.kube.get(PV, "", name)
    if _claimed_by(volume) == (meta["namespace"], meta["name"]):
        return
    wanted = (claim["spec"].get("selector") or {}).get("matchLabels") or {}
    labels = {
        key: value for key, value in wanted.items() if key not in (volume["metadata"].get("labels") or {})
    }
    patch = {
        "metadata": {"annotations": {BOUND_BY_CONTROLLER: None}, "labels": labels},
        "spec": {
            "claimRef": {
                "kind": "PersistentVolumeClaim",
                "apiVersion": "v1",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": None,
                "resourceVersion": None,
            }
        }
        | _read_only_mode(claim),
    }
    await exposure.kube.patch(PV, "", name, patch)


def _read_only_mode(claim: Json) -> Json:
    """A volume for a claim that is only read was written through another mode: it takes the claim's now."""
    modes = claim["spec"].get("accessModes") or []
    return {"accessModes": modes} if set(modes) == READ_ONLY else {}


def _is_bound(body: Json | None, target: _Target) -> bool:
    if body is None:
        raise TargetBoundError("the PV was deleted")
    if _claimed_by(body) != (target.namespace, target.claim):
        raise TargetBoundError(f"the PV was bound to {'/'.join(_claimed_by(body))}")
    # The phase may be that of the binding before; the binder fills in the UID when it has made this one.
    return bool((body.get("status") or {}).get("phase") == "Bound" and body["spec"]["claimRef"].get("uid"))


def _has_volume(claim: Json | None, name: str) -> bool:
    """The claim's own phase is what pods and the server go by: it says Bound when the binder agrees."""
    if claim is None:
        raise TargetBoundError("the target was deleted")
    bound = claim["spec"].get("volumeName", "")
    if bound not in ("", name):
        raise TargetBoundError(f"target is bound to PV {bound}")
    return bool(bound and (claim.get("status") or {}).get("phase") == "Bound")


async def _give_policy_back(exposure: Exposure, name: str) -> None:
    """Restore the reclaim policy; one that may not be restored stays Retain, which loses nothing."""
    volume = await find(exposure.kube, PV, "", name)
    if volume is None:
        return
    policy = (volume["metadata"].get("annotations") or {}).get(POLICY_ANNOTATION, "")
    try:
        if policy:
            await set_reclaim_policy(exposure.kube, name, policy)
    except KubeError as error:
        if error.temporary:
            raise
        exposure.tell(f"reclaim policy of PV {name} stays Retain: {error}")


async def unmark_given_volume(exposure: Exposure) -> None:
    """Take the mark off a restored PV that is the target's now; one that is nobody's keeps it."""
    for volume in await restored_volumes(exposure.kube, exposure.uid):
        if is_given(volume, exposure.namespace):
            name = volume["metadata"]["name"]
            await _give_policy_back(exposure, name)
            notes = {POLICY_ANNOTATION: None, RESTORE_ANNOTATION: None}
            unmark = {"metadata": {"labels": {RESTORED_LABEL: None}, "annotations": notes}}
            with contextlib.suppress(NotFoundError):
                await exposure.kube.patch(PV, "", name, unmark)


def is_given(volume: Json, namespace: str) -> bool:
    """Whether a restored PV is bound to a claim of an application, and not of Velero's namespace any more."""
    bound = (volume.get("status") or {}).get("phase") == "Bound"
    return bound and _claimed_by(volume)[0] not in ("", namespace)
