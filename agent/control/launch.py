"""Starts a mover: waits for its repository, builds the request, and writes it onto the hosting pod.

The annotation is the start signal: the kubelet shows it to the mover as a file within a second or two
(downward API). Where the agent can, it puts the file there itself, at once; what was sent is told by the
annotation alone, so that comes first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.control.backup_repository import RepositoryKey, cache_limit, ready_repository
from agent.control.mover_inputs import read_inputs, repository_access, with_mounted_authority
from agent.moves.custom_resources import format_time
from agent.moves.mover_request import build_request
from agent.moves.phase_texts import texts_for
from exposer.exposure import claim_names
from exposer.hosting_pod import CANCEL_ANNOTATION, REQUEST_ANNOTATION
from exposer.hosting_pod_manifest import AUTHORITY_DIRECTORY, CACHE_DIRECTORY, CANCEL_FILE, REQUEST_FILE
from exposer.ownership import refuse_foreign_volumes
from exposer.signal_file import write_signal
from kube.api import POD, NotFoundError
from mover.protocol import encode_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.control.world import World
    from agent.moves.custom_resources import Move


class HostingPodGoneError(Exception):
    """The hosting pod was deleted while its mover was to be started."""

    temporary = False


class HostingPodSpoiltError(Exception):
    """The hosting pod is not the one that was made: the mover would work somewhere else."""

    temporary = False


async def start_mover(move: Move, world: World, tell: Callable[[str], None]) -> None:
    """Send the request; safe to repeat."""
    key = RepositoryKey(move.source_namespace, move.backup_storage_location)
    seconds = world.config.resource_timeout_seconds
    ready = await ready_repository(world.kube, move.namespace, key, timeout_seconds=seconds, tell=tell)
    inputs = await read_inputs(world.kube, move.namespace, move.backup_storage_location)
    pod = world.hosting_pod(move)
    if pod is None:
        raise HostingPodGoneError("hosting pod was deleted")
    if not pod.access.path:
        raise HostingPodSpoiltError(
            f"hosting pod has no container {move.uid} with the volume at /{move.uid}: an admission webhook "
            "changed it; exclude pods labelled kopia-data-mover.io/mover from it"
        )
    # A claim that binds late was bound after it was exposed: this is the last look before bytes are moved.
    await refuse_foreign_volumes(world.kube, move.namespace, claim_names(move.name), move.uid)
    access = repository_access(
        inputs,
        move,
        cached=CACHE_DIRECTORY in pod.mount_paths,
        cache_limit_mib=cache_limit(ready) or await world.cache_limit_mib(),
    )
    if inputs.large_authority:
        access = with_mounted_authority(access, mounted=AUTHORITY_DIRECTORY in pod.mount_paths)
    request = encode_request(build_request(move, pod.access, access))
    uid = await _annotate(move, world, REQUEST_ANNOTATION, request)
    world.events.data_path(move, "Started", f"Data path for {move.name} started")
    await _signal(world, uid, REQUEST_FILE, request)  # last: a move may be over before this returns


async def cancel_mover(move: Move, world: World) -> None:
    """Tell the mover to stop; the time of telling is the annotation's value."""
    told_at = format_time(world.now())
    uid = await _annotate(move, world, CANCEL_ANNOTATION, told_at)
    subject = texts_for(move.kind.name).data_path_subject
    world.events.data_path(move, "Canceling", f"Canceling for {subject} {move.name}")
    await _signal(world, uid, CANCEL_FILE, told_at)


async def _annotate(move: Move, world: World, key: str, value: str) -> str:
    """Annotate the hosting pod and return its UID."""
    patch = {"metadata": {"annotations": {key: value}}}
    try:
        body = await world.kube.patch(POD, move.namespace, move.name, patch)
    except NotFoundError as error:
        raise HostingPodGoneError("hosting pod was deleted") from error
    world.velero_pods.put(body)
    return str(body["metadata"]["uid"])


async def _signal(world: World, pod_uid: str, file: str, value: str) -> None:
    await asyncio.to_thread(write_signal, world.config.host_pods, pod_uid, file, value)
