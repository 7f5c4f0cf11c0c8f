"""Gives a restored volume to the PVC it was restored for (contract 2.2).

The server checks the outcome when it finalizes the restore. Safe to repeat from any point: the PV is found
through the restore PVC or, once that is gone, through the mark that the first step left on it. Once data is
on the PV nothing here deletes it; what fails names it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exposer.errors import ExposeTimeoutError, RebindError, TargetBoundError
from exposer.kube import PV, PVC, KubeError, NotFoundError, Selection, find, list_all
from exposer.labels import label_value
from exposer.removal import KEPT_ANNOTATION, is_owned, remove_pod, set_reclaim_policy
from exposer.waiting import wait_for, wait_gone

if TYPE_CHECKING:
    from exposer.exposure import Exposure

Json = dict[str, Any]

RESTORED_LABEL = "kopia-data-mover.io/restored-by"
POLICY_ANNOTATION = "kopia-data-mover.io/reclaim-policy"
_BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
_BIND_COMPLETED = "pv.kubernetes.io/bind-completed"


@dataclass(frozen=True, slots=True)
class _Target:
    namespace: str
    claim: str


async def rebind(exposure: Exposure, namespace: str, claim: str) -> None:
    """Bind the restored PV to the target PVC, with the reclaim policy that it had.

    Raises:
        RebindError: it could not be done; the PV is kept, with policy Retain, and named in the message.
    """
    target = _Target(namespace, claim)
    volume = await _mark_restored(exposure)
    name = volume["metadata"]["name"]
    try:
        await _free(exposure)
        await _bind(exposure, target, name)
    except (KubeError, ExposeTimeoutError, TargetBoundError) as error:
        if isinstance(error, KubeError) and error.temporary:
            raise
        await _keep(exposure, name)
        raise RebindError(
            f"data is restored but cannot be given to PVC {namespace}/{claim}: {error}; PV {name} keeps it"
        ) from error
    await _give_policy_back(exposure, name)


async def _keep(exposure: Exposure, name: str) -> None:
    """Let clean-up spare the PV, also where its claim is still there; one that is gone keeps nothing."""
    with contextlib.suppress(NotFoundError):
        await exposure.kube.patch(PV, "", name, {"metadata": {"annotations": {KEPT_ANNOTATION: "true"}}})


async def _mark_restored(exposure: Exposure) -> Json:
    """Make sure that the PV outlives the restore PVC, and can be found again without it."""
    volume = await _restored_volume(exposure)
    labels = volume["metadata"].get("labels") or {}
    if labels.get(RESTORED_LABEL) == label_value(exposure.uid):
        return volume
    policy = volume["spec"].get("persistentVolumeReclaimPolicy", "Delete")
    mark = {
        "metadata": {
            "labels": {RESTORED_LABEL: label_value(exposure.uid)},
            "annotations": {POLICY_ANNOTATION: policy},
        },
        "spec": {"persistentVolumeReclaimPolicy": "Retain"},
    }
    return await exposure.kube.patch(PV, "", volume["metadata"]["name"], mark)


async def _restored_volume(exposure: Exposure) -> Json:
    marked = await list_all(
        exposure.kube, PV, "", Selection(labels=f"{RESTORED_LABEL}={label_value(exposure.uid)}")
    )
    if marked:
        return marked[0]
    claim = await find(exposure.kube, PVC, exposure.namespace, exposure.name)
    ours = claim if claim is not None and is_owned(claim, exposure.uid) else {}
    name = ours.get("spec", {}).get("volumeName", "")
    volume = await find(exposure.kube, PV, "", name) if name else None
    if volume is None:
        raise RebindError(f"restore PVC {exposure.namespace}/{exposure.name} has no PV: its data is lost")
    return volume


async def _free(exposure: Exposure) -> None:
    """Remove pod and restore PVC, so that the PV is nobody's."""
    kube, namespace, name = exposure.kube, exposure.namespace, exposure.name
    seconds = exposure.operation_seconds
    exposure.tell("restore pod and PVC are being removed")
    await remove_pod(kube, namespace, name, exposure.uid)
    claim = await find(kube, PVC, namespace, name)
    if claim is not None and is_owned(claim, exposure.uid):
        await kube.delete(PVC, namespace, name)
        await wait_gone(kube, PVC, namespace, name, timeout_seconds=seconds)


async def _bind(exposure: Exposure, target: _Target, name: str) -> None:
    claim = await exposure.kube.get(PVC, target.namespace, target.claim)
    bound = claim["spec"].get("volumeName", "")
    if bound not in ("", name):
        raise TargetBoundError(f"target is bound to PV {bound}")
    dropped = {"annotations": {_BIND_COMPLETED: None, _BOUND_BY_CONTROLLER: None}}
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


async def _claim_volume(exposure: Exposure, claim: Json, name: str) -> None:
    """Point the PV at the target, without a UID (the binder fills it in), labelled as the target selects."""
    meta = claim["metadata"]
    volume = await exposure.kube.get(PV, "", name)
    reference = volume["spec"].get("claimRef") or {}
    if (reference.get("namespace"), reference.get("name")) == (meta["namespace"], meta["name"]):
        return
    wanted = (claim["spec"].get("selector") or {}).get("matchLabels") or {}
    labels = {
        key: value for key, value in wanted.items() if key not in (volume["metadata"].get("labels") or {})
    }
    patch = {
        "metadata": {"annotations": {_BOUND_BY_CONTROLLER: None}, "labels": labels},
        "spec": {
            "claimRef": {
                "kind": "PersistentVolumeClaim",
                "apiVersion": "v1",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": None,
                "resourceVersion": None,
            }
        },
    }
    await exposure.kube.patch(PV, "", name, patch)


def _is_bound(body: Json | None, target: _Target) -> bool:
    if body is None:
        raise TargetBoundError("the PV was deleted")
    reference = body["spec"].get("claimRef") or {}
    if (reference.get("namespace"), reference.get("name")) != (target.namespace, target.claim):
        raise TargetBoundError(f"the PV was bound to {reference.get('namespace')}/{reference.get('name')}")
    # The phase may be that of the binding before; the binder fills in the UID when it has made this one.
    return bool((body.get("status") or {}).get("phase") == "Bound" and reference.get("uid"))


async def _give_policy_back(exposure: Exposure, name: str) -> None:
    """Restore the reclaim policy; a failure leaves Retain, which loses nothing."""
    volume = await find(exposure.kube, PV, "", name)
    if volume is None:
        return
    policy = (volume["metadata"].get("annotations") or {}).get(POLICY_ANNOTATION, "")
    try:
        if policy:
            await set_reclaim_policy(exposure.kube, name, policy)
        unmark = {"metadata": {"labels": {RESTORED_LABEL: None}, "annotations": {POLICY_ANNOTATION: None}}}
        await exposure.kube.patch(PV, "", name, unmark)
    except (KubeError, NotFoundError) as error:
        exposure.tell(f"reclaim policy of PV {name} stays Retain: {error}")
