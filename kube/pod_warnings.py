"""What the cluster warns of about a hosting pod and its claim: the newest Event, in words for people.

A pod that cannot mount its volume, or a claim that the driver cannot fill, says so nowhere else.
"""

from __future__ import annotations

import logging
from typing import Any

from kube.api import EVENT, Kube, KubeError, Selection

Json = dict[str, Any]

log = logging.getLogger(__name__)

_KINDS = ("Pod", "PersistentVolumeClaim")
_IN_THE_POD_ALREADY = "FailedScheduling"  # a condition of the pod says the same
_LENGTH_MAX = 600


async def newest_warning(kube: Kube, namespace: str, name: str) -> str:
    """Return `reason: message` of the newest warning about pod or claim of a name; empty: there is none."""
    selection = Selection(fields=f"involvedObject.name={name},type=Warning")
    try:
        page = await kube.list(EVENT, namespace, selection)
    except KubeError as error:
        log.debug("warnings cannot be read", extra={"pod": name, "error": str(error)})
        return ""
    told = [event for event in page.items if _is_news(event)]
    if not told:
        return ""
    newest = max(told, key=_time)
    return f"{newest.get('reason', '')}: {newest.get('message', '')}"[:_LENGTH_MAX]


def _is_news(event: Json) -> bool:
    return event["involvedObject"].get("kind") in _KINDS and event.get("reason") != _IN_THE_POD_ALREADY


def _time(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])
