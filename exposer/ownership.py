"""An object is ours only if we made it, or if it was made for us.

The second half is about volumes. Kubernetes binds a claim to a PV that is available in its class before it
has one provisioned, and passes over `dataSource` where it does; a selector would keep such PVs away and the
provisioner too. So what a claim of ours was bound to is looked at before anything reads or writes it, and one
that was there before is given back as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exposer.errors import ForeignVolumeError, NotRetainedError
from kube.api import PV, PVC, NotFoundError, Selection, find, list_all
from kube.labels import label_value
from kube.waiting import wait_gone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kube.api import Kube

Json = dict[str, Any]

EXPOSED_LABEL = "kopia-data-mover.io/exposed-for"
# On a PV that is not ours while it is given back: the UID of the claim that it was bound to.
RETURNED_LABEL = "kopia-data-mover.io/returned-by"
POLICY_ANNOTATION = "kopia-data-mover.io/reclaim-policy"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
_CLAIM_GONE_SECONDS = 60.0


def is_owned(body: Json, uid: str) -> bool:
    """Whether an object was made for the move with this UID: a namesake of somebody else is never touched."""
    meta = body["metadata"]
    owners = {owner["uid"] for owner in meta.get("ownerReferences") or []}
    return uid in owners or (meta.get("labels") or {}).get(EXPOSED_LABEL) == uid


def is_provisioned_for(volume: Json, claim: Json) -> bool:
    """Whether a PV was made for a claim: it was born with that claim's UID, and no binder matched the two.

    Source: Kubernetes `pkg/controller/volume/persistentvolume` and the scheduler's volume binder: both
    annotate the PV that they matched.
    """
    matched = BOUND_BY_CONTROLLER in (volume["metadata"].get("annotations") or {})
    return not matched and _claim_uid(volume) == claim["metadata"]["uid"]


def _claim_uid(volume: Json) -> str:
    return str((volume["spec"].get("claimRef") or {}).get("uid") or "")


async def refuse_foreign_volumes(kube: Kube, namespace: str, claims: Iterable[str], uid: str) -> None:
    """Look at what claims of a move are bound to; one that is not there, or not bound yet, is passed over.

    Raises:
        ForeignVolumeError: a PV was not made for its claim.
    """
    for name in claims:
        claim = await find(kube, PVC, namespace, name)
        if claim is not None and is_owned(claim, uid):
            volume = await find_volume(kube, claim)
            if volume is not None and not is_provisioned_for(volume, claim):
                raise foreign(volume, claim)


def foreign(volume: Json, claim: Json) -> ForeignVolumeError:
    """Say whose volume stands in the way of ours, and what to do."""
    name, meta = volume["metadata"]["name"], claim["metadata"]
    return ForeignVolumeError(
        f"PVC {meta['namespace']}/{meta['name']} was bound to PV {name}, which was available in its storage "
        f"class and was not made for it. PV {name} is given back as it was: reserve it by spec.claimRef for "
        "whom it is meant for, and run this again"
    )


async def find_volume(kube: Kube, claim: Json) -> Json | None:
    """Return the PV that a claim names, if it is there."""
    name = claim["spec"].get("volumeName", "")
    return await find(kube, PV, "", name) if name else None


async def give_back(kube: Kube, claim: Json, volume: Json) -> None:
    """Take a claim of ours off a PV that is not ours, and leave the PV as available as it was.

    Its policy may be Delete, so it is retained, and that is read back, until the claim is gone.
    """
    meta, name = claim["metadata"], volume["metadata"]["name"]
    if _claim_uid(volume) in ("", meta["uid"]):
        await _retain(kube, volume, meta["uid"])
    await kube.delete(PVC, meta["namespace"], meta["name"], uid=meta["uid"])
    await wait_gone(
        kube, PVC, meta["namespace"], meta["name"], uid=meta["uid"], timeout_seconds=_CLAIM_GONE_SECONDS
    )
    released = await find(kube, PV, "", name)
    if released is not None:
        await _make_available(kube, released)


async def _retain(kube: Kube, volume: Json, claim_uid: str) -> None:
    name, meta = volume["metadata"]["name"], volume["metadata"]
    noted = (meta.get("annotations") or {}).get(POLICY_ANNOTATION, "")
    policy = noted or volume["spec"].get("persistentVolumeReclaimPolicy", "Delete")
    marks = {"labels": {RETURNED_LABEL: label_value(claim_uid)}, "annotations": {POLICY_ANNOTATION: policy}}
    await kube.patch(PV, "", name, {"metadata": marks, "spec": {"persistentVolumeReclaimPolicy": "Retain"}})
    if (await kube.get(PV, "", name))["spec"]["persistentVolumeReclaimPolicy"] != "Retain":
        raise NotRetainedError(f"PV {name} is not set to Retain yet")


async def _make_available(kube: Kube, volume: Json) -> None:
    """Clear the claim that is gone, if nobody has bound the PV anew, and with it what we put there."""
    meta = volume["metadata"]
    mark = (meta.get("labels") or {}).get(RETURNED_LABEL, "")
    if not mark:
        return
    policy = (meta.get("annotations") or {}).get(POLICY_ANNOTATION, "")
    patch: Json = {
        "metadata": {
            "resourceVersion": meta["resourceVersion"],
            "labels": {RETURNED_LABEL: None},
            "annotations": {POLICY_ANNOTATION: None},
        },
        "spec": {"persistentVolumeReclaimPolicy": policy} if policy else {},
    }
    if mark == label_value(_claim_uid(volume)):
        patch["metadata"]["annotations"][BOUND_BY_CONTROLLER] = None
        patch["spec"]["claimRef"] = None
    try:
        await kube.patch(PV, "", meta["name"], patch)
    except NotFoundError:
        return


async def finish_giving_back(kube: Kube, namespace: str) -> None:
    """Make available what an agent that died was giving back, once the claim of ours is gone."""
    for volume in await list_all(kube, PV, "", Selection(labels=RETURNED_LABEL)):
        reference = volume["spec"].get("claimRef") or {}
        if reference.get("namespace", namespace) != namespace:
            continue
        claim = await find(kube, PVC, namespace, reference.get("name", "")) if reference else None
        if claim is None or claim["metadata"]["uid"] != reference.get("uid"):
            await _make_available(kube, volume)
