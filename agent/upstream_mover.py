"""`/velero data-mover …`, `/velero pod-volume …`: a mover that an upstream agent started.

Contract section 3. Such a pod is told nothing but a name. It asks the API itself: waits for its resource to
be `InProgress`, finds the repository, reads credentials, moves, and reports by Events and termination message
in upstream's words. Pods that our own agent makes never come here (`mover.pod`).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.control.backup_repository import RepositoryKey, cache_limit, ready_repository
from agent.control.events import upstream_event
from agent.control.mover_inputs import MoverInputError, MoverInputs, read_inputs, repository_access
from agent.control.world import RESOURCES
from agent.moves.custom_resources import KIND_BY_NAME, Move, Phase, parse_go_duration, parse_move
from agent.moves.data_movers import BLOCK_MOVER
from agent.moves.mover_request import build_request
from agent.moves.phase_texts import texts_for
from exposer.access_point import AccessPoint, VolumeMode
from kube.api import EVENT, SECRET, Kube, KubeError
from kube.backoff import Backoff
from kube.client import KubeClient
from kube.connection import configured
from kube.waiting import wait_for
from mover import exit_codes
from mover.cancel import CanceledError, CancelToken, cancel_on_signals
from mover.pod import TERMINATION_LOG, carry_out, load_engine
from mover.protocol import Progress, encode_failure
from mover.reporting import PodReporter

if TYPE_CHECKING:
    from exposer.hosting_pod_manifest import SecretMount
    from mover.engine import Engine

Json = dict[str, Any]

_BACKOFF_SECONDS = (2.0, 60.0)
_FOREVER_SECONDS = 7 * 24 * 3600.0
_PROGRESS_SECONDS = 10.0  # each report is an Event
_KINDS = {
    ("data-mover", "backup"): ("DataUpload", "--data-upload"),
    ("data-mover", "restore"): ("DataDownload", "--data-download"),
    ("pod-volume", "backup"): ("PodVolumeBackup", "--pod-volume-backup"),
    ("pod-volume", "restore"): ("PodVolumeRestore", "--pod-volume-restore"),
}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read upstream's command lines; flags that are unknown pass."""
    parser = argparse.ArgumentParser(prog="velero", allow_abbrev=False)
    parser.add_argument("group", choices=["data-mover", "pod-volume"])
    parser.add_argument("role", choices=["backup", "restore"])
    parser.add_argument("--volume-path", required=True)
    parser.add_argument("--volume-mode", default="Filesystem", choices=[mode.value for mode in VolumeMode])
    parser.add_argument("--resource-timeout", default="10m", type=parse_go_duration)
    parser.add_argument("--cache-volume-path", default="")
    parser.add_argument("--change-id", default="")
    parser.add_argument("--volume-id", default="")
    for _, flag in _KINDS.values():
        parser.add_argument(flag, default="")
    parser.add_argument("-n", "--namespace", default=os.environ.get("VELERO_NAMESPACE", "velero"))
    parser.add_argument("--kubeconfig", default="")
    parser.add_argument("--kubecontext", default="")
    parsed, _ = parser.parse_known_args(arguments)
    parsed.kind, flag = _KINDS[parsed.group, parsed.role]
    parsed.name = getattr(parsed, flag.removeprefix("--").replace("-", "_"))
    if not parsed.name:
        parser.error(f"{flag} is required")
    return parsed


def main(arguments: list[str]) -> int:
    """Serve one resource and return 0 or 1, as upstream's mover does."""
    parsed = parse_arguments(arguments)
    cancel = CancelToken()
    cancel_on_signals(cancel)
    try:
        code, text = asyncio.run(_serve(parsed, cancel))
    except Exception as error:  # noqa: BLE001 - every end leaves a message
        code = 1
        text = encode_failure(f"Failed to create data path service for {parsed.kind} {parsed.name}: {error}")
    try:
        path = os.environ.get("KOPIA_DATA_MOVER_TERMINATION_LOG", TERMINATION_LOG)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"termination message cannot be written: {error}\n{text}\n")
        return 1
    return code


async def _serve(parsed: argparse.Namespace, cancel: CancelToken) -> tuple[int, str]:
    async with KubeClient(configured(parsed.kubeconfig, parsed.kubecontext)) as kube:
        return await UpstreamMover(kube, parsed, cancel).run()


class UpstreamMover:
    """One mover of one resource."""

    def __init__(self, kube: Kube, parsed: argparse.Namespace, cancel: CancelToken) -> None:
        self._kube, self._parsed, self._cancel = kube, parsed, cancel
        self._kind = KIND_BY_NAME[parsed.kind]
        self._loop = asyncio.get_running_loop()
        self._subject = texts_for(parsed.kind).data_path_subject

    async def run(self) -> tuple[int, str]:
        """Wait for the start, move, report."""
        # Loaded beside the wait for the start: it is the slow part of a mover's own.
        engine = asyncio.create_task(asyncio.to_thread(load_engine))
        move = await self._started()
        watching = asyncio.create_task(self._watch_cancel(move))
        try:
            self._check_mode(move)
            ready = await self._ready(move, watching)
            with tempfile.TemporaryDirectory() as scratch:
                return await self._move(move, Path(scratch), await engine, ready)
        except CanceledError as error:
            text = encode_failure(str(error), canceled=True)
            await self._tell_end(move, exit_codes.CANCELED, text)
            return 1, text
        except Exception as error:
            await self._tell_end(move, exit_codes.PERMANENT, str(error))
            raise
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    def _check_mode(self, move: Move) -> None:
        """Refuse before anything is opened: an agent that asks so has exposed the wrong thing."""
        mode = self._parsed.volume_mode
        if move.data_mover == BLOCK_MOVER and mode != VolumeMode.BLOCK.value:
            raise MoverInputError(f"data mover {BLOCK_MOVER} moves devices; the volume is of mode {mode}")

    async def _started(self) -> Move:
        """Wait for `InProgress`; without a limit, as the pod may wait long for its slot."""
        resource, namespace, name = RESOURCES[self._kind.name], self._parsed.namespace, self._parsed.name

        def in_progress(body: Json | None) -> bool:
            return body is not None and parse_move(self._kind, body).phase is Phase.IN_PROGRESS

        what = f"{self._kind.name} {namespace}/{name} is InProgress"
        body = await wait_for(
            self._kube,
            resource,
            namespace,
            name,
            until=in_progress,
            timeout_seconds=_FOREVER_SECONDS,
            what=what,
        )
        return parse_move(self._kind, body or {})

    async def _watch_cancel(self, move: Move) -> None:
        """Cancel when the resource says so. A watch that is refused is tried again; the backup goes on."""
        backoff = Backoff(*_BACKOFF_SECONDS)
        while True:
            try:
                await wait_for(
                    self._kube,
                    RESOURCES[self._kind.name],
                    move.namespace,
                    move.name,
                    until=lambda body: body is None or bool((body.get("spec") or {}).get("cancel")),
                    timeout_seconds=_FOREVER_SECONDS,
                    what=f"{self._kind.name} {move.name} is canceled",
                )
                break
            except KubeError as error:
                sys.stderr.write(f"a cancel would not be heard: {error}\n")
                seconds = backoff.next_seconds(error)
            await asyncio.sleep(seconds)
        await self._tell(move, "Data-Path-Canceling", f"Canceling for {self._subject} {move.name}")
        self._cancel.cancel()

    async def _ready(self, move: Move, watching: asyncio.Task[None]) -> Json:
        """Wait for the repository, and no longer once the move is canceled."""
        key = RepositoryKey(move.source_namespace, move.backup_storage_location)
        seconds = self._parsed.resource_timeout
        ready = asyncio.create_task(
            ready_repository(self._kube, move.namespace, key, timeout_seconds=seconds, tell=lambda _: None)
        )
        await asyncio.wait([ready, watching], return_when=asyncio.FIRST_COMPLETED)
        if self._cancel.is_set and not ready.done():
            ready.cancel()
            raise CanceledError("canceled while the backup repository was not ready")
        return await ready

    async def _move(self, move: Move, scratch: Path, engine: Engine, ready: Json) -> tuple[int, str]:
        inputs = await read_inputs(self._kube, move.namespace, move.backup_storage_location)
        access = await self._access(inputs, move, scratch, cache_limit(ready))
        parsed = self._parsed
        mode = VolumeMode(parsed.volume_mode)
        point = AccessPoint(parsed.volume_path, mode, parsed.change_id, parsed.volume_id)
        request = replace(build_request(move, point, access), progress_seconds=_PROGRESS_SECONDS)
        await self._tell(move, "Data-Path-Started", f"Data path for {move.name} started")
        reporter = _EventReporter(self, move)
        code, text = await asyncio.to_thread(
            carry_out, self._parsed.role, request, engine, reporter, self._cancel
        )
        await self._tell_end(move, code, text)
        return (0 if code == exit_codes.DONE else 1), self._termination(code, text, move)

    async def _access(self, inputs: MoverInputs, move: Move, scratch: Path, cache_limit_mib: int) -> Any:
        """Write the Secrets into private files: nobody has mounted them."""
        access = repository_access(inputs, move, cached=False, cache_limit_mib=cache_limit_mib)
        return replace(
            access,
            cache_path=self._parsed.cache_volume_path,
            password_path=await self._file(inputs.password, scratch),
            spare_password_path=await self._spare_password(inputs.password, scratch),
            credentials_path=await self._file(inputs.credentials, scratch),
            ca_certificate_path=await self._file(inputs.ca_certificate, scratch),
        )

    async def _spare_password(self, mount: SecretMount, scratch: Path) -> str:
        """Write the password that the one in force is being changed to, if it is."""
        secret = await self._kube.get(SECRET, self._parsed.namespace, mount.secret)
        if mount.spare_key not in (secret.get("data") or {}):
            return ""
        return await self._file(replace(mount, name="spare-password", key=mount.spare_key), scratch)

    async def _file(self, mount: SecretMount | None, scratch: Path) -> str:
        if mount is None:
            return ""
        secret = await self._kube.get(SECRET, self._parsed.namespace, mount.secret)
        path = scratch / mount.name
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(secret["data"][mount.key]))
        return str(path)

    def _termination(self, code: int, text: str, move: Move) -> str:
        """Say failures in upstream's frame; results and cancels are upstream's already."""
        if code in (exit_codes.DONE, exit_codes.CANCELED):
            return text
        frame = f"Failed to run data path service for {move.kind.name} {move.name}: "
        return encode_failure(f"{frame}Data path for {self._subject} {move.name} failed: {text}")

    async def _tell_end(self, move: Move, code: int, text: str) -> None:
        endings = {
            exit_codes.DONE: ("Data-Path-Completed", text),
            exit_codes.CANCELED: (
                "Data-Path-Canceled",
                f"Data path for {self._subject} {move.name} canceled",
            ),
        }
        failed = ("Data-Path-Failed", f"Data path for {self._subject} {move.name} failed, error {text}")
        await self._tell(move, *endings.get(code, failed))
        await self._tell(move, "Data-Path-Stopped", f"Data path for {move.name} stopped")

    async def _tell(self, move: Move, reason: str, message: str) -> None:
        """Write an Event; one that is refused changes nothing in what was moved."""
        try:
            event = upstream_event(move, os.environ.get("NODE_NAME", ""), reason, message)
            await self._kube.create(EVENT, move.namespace, event)
        except KubeError as error:
            sys.stderr.write(f"event {reason} was not written: {error}\n")

    def tell_progress(self, move: Move, progress: Progress) -> None:
        """Report progress, from the engine's thread."""
        counts = {"totalBytes": progress.total_bytes, "doneBytes": progress.done_bytes}
        message = str({key: value for key, value in counts.items() if value}).replace("'", '"')
        asyncio.run_coroutine_threadsafe(self._tell(move, "Data-Path-Progress", message), self._loop)


class _EventReporter(PodReporter):
    """Progress as Events; the termination message is written by `main`."""

    def __init__(self, mover: UpstreamMover, move: Move) -> None:
        super().__init__(TERMINATION_LOG)
        self._mover, self._move = mover, move

    def progress(self, progress: Progress) -> None:
        """Say how far the work is."""
        super().progress(progress)
        self._mover.tell_progress(self._move, progress)
