"""A move → the exposer that serves it: what to expose, with which mover, and how to take it back.

The place where custom resources and exposers meet.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.control.backup_repository import RepositoryKey, ensure_repository
from agent.control.mover_inputs import read_inputs
from agent.moves.custom_resources import (
    DATA_UPLOAD,
    DataDownloadSpec,
    DataUploadSpec,
    Move,
    Phase,
    PodVolumeBackupSpec,
)
from agent.moves.data_movers import BLOCK_MOVER
from exposer.cache_volume import cache_size_gib, usable_cache
from exposer.csi_snapshot import SnapshotSource, expose_csi_snapshot, hide_csi_snapshot
from exposer.diagnosis import diagnose
from exposer.exposure import Exposure
from exposer.generic_restore import expose_new_volume, hide_new_volume
from exposer.pod_volume import PodVolume, expose_pod_volume, hide_pod_volume
from exposer.rebind import rebind
from kube.api import OwnerReference
from kube.labels import label_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.control.world import World
    from agent.moves.custom_resources import MoveKind
    from exposer.hosting_pod_manifest import SecretMount
    from kube.api import Kube

Json = dict[str, Any]

log = logging.getLogger(__name__)


async def expose_move(move: Move, world: World, tell: Callable[[str], None]) -> None:
    """Make a move's volume reachable; the server makes the repository ready meanwhile."""
    inputs = await read_inputs(world.kube, move.namespace, move.backup_storage_location)
    key = RepositoryKey(move.source_namespace, move.backup_storage_location)
    await ensure_repository(world.kube, move.namespace, key)
    exposure = replace(
        _exposure(move, world, inputs.secrets, tell, await _cache_gib(move, world)),
        authority=inputs.large_authority,
    )
    spec = move.spec
    if isinstance(spec, DataUploadSpec):
        source = replace(_snapshot_source(spec), as_device=move.data_mover == BLOCK_MOVER)
        await expose_csi_snapshot(exposure, source)
    elif isinstance(spec, DataDownloadSpec):
        as_device = move.data_mover == BLOCK_MOVER
        target = (spec.target_namespace, spec.target_pvc)
        await expose_new_volume(exposure, *target, as_device=as_device)
    else:
        host_pods = world.config.host_pods
        wanted = PodVolume(
            spec.pod_namespace, spec.pod_name, spec.pod_uid, spec.volume, read_only=move.kind.is_backup
        )
        await expose_pod_volume(exposure, wanted, host_pods=host_pods)


async def rebind_move(move: Move, world: World, tell: Callable[[str], None]) -> None:
    """Give the restored volume to the target PVC."""
    if isinstance(move.spec, DataDownloadSpec):
        exposure = _exposure(move, world, (), tell)
        spec = move.spec
        fs_type = spec.target_fs_type if move.data_mover == BLOCK_MOVER else None
        await rebind(exposure, spec.target_namespace, spec.target_pvc, fs_type=fs_type)


async def hide_move(move: Move, world: World, tell: Callable[[str], None]) -> None:
    """Take everything back that was made for a move."""
    exposure = _exposure(move, world, (), tell)
    if move.phase is Phase.FAILED and move.started_at == move.completed_at:  # it never began
        for line in await diagnose(world.kube, move.namespace, move.name):
            log.info("[Diagnose %s expose] %s", move.kind.short, line, extra={"uid": move.uid})
    if isinstance(move.spec, DataUploadSpec):
        await hide_csi_snapshot(exposure, _snapshot_source(move.spec))
    elif isinstance(move.spec, DataDownloadSpec):
        await hide_new_volume(exposure)
    else:
        await hide_pod_volume(exposure)


async def hide_unreadable(kind: MoveKind, meta: Json, kube: Kube) -> None:
    """Take back what was made for a resource that says nothing readable any more: all of it has its name."""
    exposure = Exposure(
        kube=kube,
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        owner=OwnerReference(kind.api_version, kind.name, meta["name"], meta["uid"]),
        command=(),
    )
    if kind is DATA_UPLOAD:
        await hide_csi_snapshot(exposure, SnapshotSource("", "", "", ""))
    else:
        await hide_new_volume(exposure)


def _exposure(
    move: Move,
    world: World,
    secrets: tuple[SecretMount, ...],
    tell: Callable[[str], None],
    cache_gib: int = 0,
) -> Exposure:
    role = "backup" if move.kind.is_backup else "restore"
    return Exposure(
        kube=world.kube,
        name=move.name,
        namespace=move.namespace,
        uid=move.uid,
        owner=OwnerReference(move.kind.api_version, move.kind.name, move.name, move.uid),
        command=(*world.config.mover_command, role),
        labels={move.kind.pod_label: label_value(move.name)},
        secrets=secrets,
        settings=world.node_config.expose,
        prepare_seconds=world.config.prepare_timeout_seconds,
        operation_seconds=operation_seconds(move, world),
        cache_gib=cache_gib,
        daemon_set=world.config.daemon_set,
        tell=tell,
        pod_made=world.velero_pods.put,
    )


def operation_seconds(move: Move, world: World) -> float:
    """How long a deletion or a binding may take: pod volumes have no such field, the agent's flag counts."""
    if isinstance(move.spec, DataUploadSpec | DataDownloadSpec):
        return move.spec.operation_timeout_seconds
    return world.config.resource_timeout_seconds


async def _cache_gib(move: Move, world: World) -> int:
    if isinstance(move.spec, DataUploadSpec | PodVolumeBackupSpec):
        return 0
    wanted = world.node_config.expose.cache
    cache = await usable_cache(world.kube, wanted)
    if wanted is not None and cache is None:
        log.warning(
            "cachePVC is ignored: its storage class does not exist or does not delete volumes",
            extra={"storageClass": wanted.storage_class},
        )
    limit_mib = await world.cache_limit_mib() if cache is not None else 0
    return cache_size_gib(cache, data_bytes=move.spec.snapshot_size_bytes, limit_mib=limit_mib)


def _snapshot_source(spec: DataUploadSpec) -> SnapshotSource:
    return SnapshotSource(spec.source_namespace, spec.source_pvc, spec.volume_snapshot, spec.storage_class)
