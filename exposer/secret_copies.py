"""Copies the Secrets and ConfigMaps that a CSI driver looks for beside a PVC, into Velero's namespace.

A driver of encrypted volumes finds the keys of a volume in the namespace of its claim; the intermediate claim
of a move lies in Velero's. `backupPVC.<class>` and `restorePVC` of the node-agent ConfigMap name what is
copied (Velero 1.18.3; `pkg/exposer`, behaviour only). A copy has its source's name, so two moves that need
the same one take turns: the second waits until clean-up of the first has removed it. What somebody has put
under the name himself is never written to and never removed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from exposer.errors import CopyTakenError, VolumeNotFoundError
from kube.api import CONFIG_MAP, SECRET, AlreadyExistsError, ForbiddenError, Selection, find, list_all
from kube.waiting import WaitTimeoutError, wait_for

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from exposer.settings import CopiedNames
    from kube.api import Kube, Resource

Json = dict[str, Any]

log = logging.getLogger(__name__)

# Upstream's: its value is the UID of the DataUpload or DataDownload that a copy was made for.
COPY_LABEL = "velero.io/backup-pvc-secret"
_CONTENT = ("type", "data", "binaryData")


async def copy_secrets(exposure: Exposure, namespace: str, names: CopiedNames) -> None:
    """Have all that is named in `namespace` in Velero's too, when this returns. Safe to repeat.

    Raises:
        VolumeNotFoundError: something that is named does not exist.
        CopyTakenError: an object of the name, made by somebody else and with other content, is there.
        WaitTimeoutError: another move did not give its copy up within `prepare_seconds`.
    """
    if namespace == exposure.namespace:
        return
    # Always in one order: of two moves that need the same two, none may wait for the other with one in hand.
    for name in sorted(names.config_maps):
        await _copy(exposure, CONFIG_MAP, namespace, name)
    for name in sorted(names.secrets):
        await _copy(exposure, SECRET, namespace, name)


async def _copy(exposure: Exposure, resource: Resource, namespace: str, name: str) -> None:
    source = await find(exposure.kube, resource, namespace, name)
    if source is None:
        raise VolumeNotFoundError(
            f"{resource.kind} {namespace}/{name}, which the node-agent ConfigMap names, does not exist"
        )
    body = _copy_of(source, resource, exposure)
    while True:
        try:
            await exposure.kube.create(resource, exposure.namespace, body)
        except AlreadyExistsError:
            if await _is_served(exposure, resource, body):
                break
        else:
            break
    exposure.tell("")


def _copy_of(source: Json, resource: Resource, exposure: Exposure) -> Json:
    return {
        "apiVersion": resource.group_version,
        "kind": resource.kind,
        "metadata": {
            "name": source["metadata"]["name"],
            "namespace": exposure.namespace,
            "labels": {COPY_LABEL: exposure.uid},
        },
    } | {key: source[key] for key in _CONTENT if source.get(key)}


async def _is_served(exposure: Exposure, resource: Resource, wanted: Json) -> bool:
    """Whether what is there does; if not, it is not there any more when this returns."""
    name = wanted["metadata"]["name"]
    there = await find(exposure.kube, resource, exposure.namespace, name)
    if there is None:
        return False
    holder = _holder(there)
    is_equal = all((there.get(key) or {}) == (wanted.get(key) or {}) for key in _CONTENT)
    if is_equal and holder in ("", exposure.uid):
        return True
    where = f"{resource.kind} {exposure.namespace}/{name}"
    if not holder:
        raise CopyTakenError(
            f"{where} exists with other content than that of the volume's namespace and was not copied there "
            "for a move; rename one of them, or take the name out of the node-agent ConfigMap"
        )
    if holder == exposure.uid:  # of a pass before this, and the source has changed since
        await _remove(exposure.kube, resource, there)
    else:
        exposure.tell(f"{where} is in use by another move (of UID {holder})")
    await _wait_given_up(exposure, resource, there, where)
    return False


async def _wait_given_up(exposure: Exposure, resource: Resource, there: Json, where: str) -> None:
    uid = there["metadata"]["uid"]
    try:
        await wait_for(
            exposure.kube,
            resource,
            exposure.namespace,
            there["metadata"]["name"],
            until=lambda body: body is None or body["metadata"]["uid"] != uid,
            timeout_seconds=exposure.prepare_seconds,
            what=f"{where} is given up by another move",
        )
    except WaitTimeoutError as error:
        raise WaitTimeoutError(f"{error} (UID {_holder(there)})") from None


def _holder(body: Json) -> str:
    return str((body["metadata"].get("labels") or {}).get(COPY_LABEL, ""))


async def _remove(kube: Kube, resource: Resource, body: Json) -> None:
    """Delete the very copy that was looked at: a namesake made since is another move's."""
    meta = body["metadata"]
    await kube.delete(resource, meta["namespace"], meta["name"], uid=meta["uid"])


async def remove_copies(kube: Kube, namespace: str, uid: str) -> None:
    """Remove every copy that was made for the move with this UID. Safe to repeat."""
    try:
        copies = await find_copies(kube, namespace, uid)
    except ForbiddenError as error:
        # The rights come together: who may not list has not copied. The clean-up of every move must not
        # fail under rights from before there were copies.
        log.info("copies of Secrets were not looked for", extra={"error": str(error), "uid": uid})
        return
    for resource, body in copies:
        await _remove(kube, resource, body)


async def find_copies(kube: Kube, namespace: str, uid: str = "") -> list[tuple[Resource, Json]]:
    """Return the copies made for a move, or for all moves."""
    marked = Selection(labels=f"{COPY_LABEL}={uid}" if uid else COPY_LABEL)
    return [
        (resource, body)
        for resource in (SECRET, CONFIG_MAP)
        for body in await list_all(kube, resource, namespace, marked)
    ]


def copied_for(body: Json) -> str:
    """Return the UID of the move that a copy was made for."""
    return _holder(body)
