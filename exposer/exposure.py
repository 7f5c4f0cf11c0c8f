"""What every exposer is told: for whom, with which mover, how long to wait, whom to tell why."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exposer.authority import authority_config_map, authority_name
from exposer.errors import NameTakenError
from exposer.hosting_pod_manifest import HostingPodPlan, HostingVolume, SecretMount, hosting_pod
from exposer.manifests import cache_pvc
from exposer.ownership import is_owned, refuse_foreign_volumes
from exposer.settings import ExposeSettings
from exposer.template import DAEMON_SET_DEFAULT, read_template
from kube.api import (
    CONFIG_MAP,
    POD,
    PVC,
    STORAGE_CLASS,
    Kube,
    OwnerReference,
    Resource,
    ensure_created,
    find,
)
from kube.waiting import WaitTimeoutError, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]


_BOUND_SECONDS = 10.0


def _quiet(_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """One volume to be made reachable. All objects made for it take `name` and live in `namespace`.

    `authority` are CA certificates (PEM in base64) that the pod is to find in a ConfigMap of its own.
    `prepare_seconds` bounds the wait for the driver's snapshot and for the scheduler's choice of a node,
    `operation_seconds` every other wait. `cache_gib` is 0 where no cache volume is wanted. `daemon_set`
    is the one that hosting pods are modelled on. `pod_made` hears
    of the hosting pod before exposing is over: whoever watches pods must not take one it has not seen yet for
    deleted.
    """

    kube: Kube
    name: str
    namespace: str
    uid: str
    owner: OwnerReference
    command: tuple[str, ...]
    labels: dict[str, str] = field(default_factory=dict)
    secrets: tuple[SecretMount, ...] = ()
    authority: str = ""
    settings: ExposeSettings = field(default_factory=ExposeSettings)
    prepare_seconds: float = 1800.0
    operation_seconds: float = 600.0
    cache_gib: int = 0
    daemon_set: str = DAEMON_SET_DEFAULT
    tell: Callable[[str], None] = _quiet
    pod_made: Callable[[Json], object] = _quiet

    def plan(self, volume: HostingVolume, **placement: Any) -> HostingPodPlan:
        """Return the hosting pod for this exposure, placed as `placement` says."""
        return HostingPodPlan(
            name=self.name,
            namespace=self.namespace,
            uid=self.uid,
            owner=self.owner,
            command=self.command,
            volume=volume,
            labels=self.labels,
            secrets=self.secrets,
            authority_map=authority_name(self.name) if self.authority else "",
            cache_claim=cache_name(self.name) if self.cache_gib else "",
            **placement,
        )

    async def create_pod(self, plan: HostingPodPlan) -> Json:
        """Create the hosting pod, or find it made already.

        Raises:
            ForeignVolumeError: a claim of ours is bound to somebody's PV. One that binds late is looked at
            again before the mover is told to begin (`agent/control/launch.py`).
        """
        await refuse_foreign_volumes(self.kube, self.namespace, claim_names(self.name), self.uid)
        template = await read_template(self.kube, self.namespace, self.daemon_set)
        manifest = hosting_pod(plan, template, self.settings)
        body = await self.make(POD, self.namespace, manifest)
        self.pod_made(body)
        if self.authority:
            certificates = authority_config_map(body, self.authority)
            await self.make(CONFIG_MAP, self.namespace, certificates, owner_uid=body["metadata"]["uid"])
        return body

    async def make(self, resource: Resource, namespace: str, manifest: Json, *, owner_uid: str = "") -> Json:
        """Create an object, or find it made already for this very move (or for the owner named).

        Raises:
            NameTakenError: what is there under the name is not ours, and is left alone.
        """
        body = await ensure_created(self.kube, resource, namespace, manifest)
        if not is_owned(body, owner_uid or self.uid):
            name = manifest["metadata"]["name"]
            raise NameTakenError(
                f"{resource.kind} {namespace + '/' if namespace else ''}{name} exists and was not made for "
                "this move; waiting for it to be deleted"
            )
        return body

    async def wait_bound(self, storage_class: str, selected_node: str = "") -> None:
        """Wait for our PVC if it binds without a pod; one that is slow is left to the pod, which shows why.

        A kubelet that sees the pod before the PVC's phase ("PVC is not bound") looks again after ten seconds
        and more.
        """
        if not selected_node:
            body = await find(self.kube, STORAGE_CLASS, "", storage_class) if storage_class else None
            if body is None or body.get("volumeBindingMode") == "WaitForFirstConsumer":
                return
        with contextlib.suppress(WaitTimeoutError):
            await wait_for(
                self.kube,
                PVC,
                self.namespace,
                self.name,
                until=lambda body: body is None or (body.get("status") or {}).get("phase") == "Bound",
                timeout_seconds=min(_BOUND_SECONDS, self.prepare_seconds),
                what=f"PVC {self.namespace}/{self.name} is bound",
            )

    async def create_cache(self, selected_node: str) -> None:
        """Create the PVC of the mover's cache, if one is wanted."""
        if not self.cache_gib or self.settings.cache is None:
            return
        body = cache_pvc(
            cache_name(self.name),
            self.namespace,
            owner=self.owner,
            storage_class=self.settings.cache.storage_class,
            size_gib=self.cache_gib,
            selected_node=selected_node,
        )
        await self.make(PVC, self.namespace, body)


def claim_names(name: str) -> tuple[str, str]:
    """Name the claims that an exposure may have."""
    return name, cache_name(name)


def cache_name(name: str) -> str:
    """Name the cache PVC of an exposure."""
    return f"{name}-cache"
