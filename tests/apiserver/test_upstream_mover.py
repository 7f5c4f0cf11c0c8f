"""A pod that an upstream agent started, with the image's `/velero data-mover …` and `/velero pod-volume …`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from agent.control.backup_repository import BACKUP_REPOSITORY
from agent.control.world import RESOURCES
from kube.api import EVENT, list_all
from tests.apiserver.manifests import kubeconfig
from tests.apiserver.test_engine import Kopia, assert_equal_trees, engine, moving
from tests.fakes.resources import T0, format_time

if TYPE_CHECKING:
    from pathlib import Path

    from tests.apiserver.conftest import Stage
    from tests.apiserver.mover_process import MoverProcess

__all__ = ["engine", "moving"]


async def run(stage: Stage, directory: Path, *arguments: str) -> tuple[int, str]:
    log = directory / "termination-log"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-Wignore",
        "-m",
        "agent.velero_command",
        *arguments,
        f"--kubeconfig={kubeconfig(stage.plane, directory)}",
        "--log-level=debug",
        "--some-flag-of-tomorrow=1",
        env=os.environ | {"KOPIA_DATA_MOVER_TERMINATION_LOG": str(log), "NODE_NAME": "node-1"},
    )
    return await process.wait(), log.read_text()


async def begin(stage: Stage, kind: str, name: str) -> None:
    status = {"phase": "InProgress", "startTimestamp": format_time(T0)}
    await stage.kube.patch(RESOURCES[kind], "velero", name, {"status": status})


@pytest.mark.timeout(120)
async def test_backup_and_restore_under_an_upstream_agent(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path], tmp_path: Path
) -> None:
    _, kopia, source = moving
    await stage.create("DataUpload", "du-1")
    volume = f"--volume-path={source}"
    moved = asyncio.create_task(
        run(
            stage,
            tmp_path,
            "data-mover",
            "backup",
            volume,
            "--volume-mode=Filesystem",
            "--data-upload=du-1",
            "--resource-timeout=1m",
        )
    )
    await asyncio.sleep(1)
    assert not moved.done(), "it waits for InProgress"
    await begin(stage, "DataUpload", "du-1")
    code, text = await moved
    assert code == 0, text
    result = json.loads(text)
    assert result["totalBytes"] == 3_000_005
    assert result["source"] == {"byPath": str(source), "volumeMode": "Filesystem"}
    assert result["snapshotID"] in kopia("snapshot", "list", "--all", "--json")
    assert len(await list_all(stage.kube, BACKUP_REPOSITORY)) == 1
    reasons = [event["reason"] for event in await list_all(stage.kube, EVENT, "velero")]
    assert {"Data-Path-Started", "Data-Path-Progress", "Data-Path-Completed", "Data-Path-Stopped"} <= set(
        reasons
    )

    target = tmp_path / "target"
    target.mkdir()
    await stage.create("DataDownload", "dd-1", spec={"snapshotID": result["snapshotID"]})
    await begin(stage, "DataDownload", "dd-1")
    volume = f"--volume-path={target}"
    code, text = await run(
        stage,
        tmp_path,
        "data-mover",
        "restore",
        volume,
        "--volume-mode=Filesystem",
        "--data-download=dd-1",
        "--resource-timeout=1m",
        "--cache-volume-path=",
    )
    assert (code, json.loads(text)["totalBytes"]) == (0, 3_000_005)
    assert_equal_trees(source, target)


async def test_failure_is_said_in_upstreams_frame(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path], tmp_path: Path
) -> None:
    _, kopia, source = moving
    (kopia.path / "kopia.repository.f").unlink()
    await stage.create("PodVolumeBackup", "pvb-1")
    await begin(stage, "PodVolumeBackup", "pvb-1")
    code, text = await run(
        stage,
        tmp_path,
        "pod-volume",
        "backup",
        f"--volume-path={source}",
        "--pod-volume-backup=pvb-1",
        "--resource-timeout=1m",
    )
    assert code == 1
    assert text.startswith(
        "Failed to run data path service for PodVolumeBackup pvb-1: Data path for PVB pvb-1 failed: "
    )


async def test_cancel_is_heard_while_the_repository_is_not_ready(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path], tmp_path: Path
) -> None:
    """Contract 3.2: said at once and in upstream's words, though nothing was begun."""
    stage.server.answer = {"phase": "NotReady", "message": "bucket is away"}
    await stage.create("PodVolumeRestore", "pvr-1")
    await begin(stage, "PodVolumeRestore", "pvr-1")
    arguments = ["pod-volume", "restore", f"--volume-path={tmp_path}", "--pod-volume-restore=pvr-1"]
    ended = asyncio.create_task(run(stage, tmp_path, *arguments, "--resource-timeout=10m"))

    async def waits() -> bool:
        return bool(await list_all(stage.kube, BACKUP_REPOSITORY))

    await stage.until(waits)
    await stage.kube.patch(RESOURCES["PodVolumeRestore"], "velero", "pvr-1", {"spec": {"cancel": True}})
    code, text = await asyncio.wait_for(ended, 60)
    assert code == 1
    assert text.endswith("data path is canceled")
    events = {event["reason"]: event for event in await list_all(stage.kube, EVENT, "velero")}
    assert set(events) == {"Data-Path-Canceling", "Data-Path-Canceled", "Data-Path-Stopped"}
    assert events["Data-Path-Canceling"]["message"] == "Canceling for PVR pvr-1"
    assert events["Data-Path-Canceled"]["message"] == "Data path for PVR pvr-1 canceled"
    one = events["Data-Path-Stopped"]
    assert (one["type"], one["source"]) == ("Normal", {"component": "pvr-1", "host": "node-1"})
    assert one["involvedObject"]["kind"] == "PodVolumeRestore"


@pytest.mark.parametrize(("role", "kind"), [("backup", "DataUpload"), ("restore", "DataDownload")])
async def test_b10_block_mover_of_an_upstream_agent_wants_a_device_before_anything_is_opened(
    stage: Stage, tmp_path: Path, role: str, kind: str
) -> None:
    """Its line has the flags of 1.19, the account in the spelling of upstream's exposer."""
    await stage.create(kind, "block-1", spec={"datamover": "velero-block"})
    await begin(stage, kind, "block-1")
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "mine").write_text("there before")
    flag = "--data-upload" if kind == "DataUpload" else "--data-download"
    tracking = [
        "--change-id=h1",
        "--volume-id=v1",
        "--snapshot-id=s1",
        "--csi-snapshot-metadata-service-sa=velero",
    ]
    line = [f"--volume-path={tmp_path / 'volume'}", f"{flag}=block-1", "--resource-timeout=1m", *tracking]
    code, text = await run(stage, tmp_path, "data-mover", role, *line)
    assert code == 1
    assert "velero-block moves devices" in text
    assert await list_all(stage.kube, BACKUP_REPOSITORY) == []
    assert [path.name for path in (tmp_path / "volume").iterdir()] == ["mine"]
    reasons = {event["reason"] for event in await list_all(stage.kube, EVENT, "velero")}
    assert reasons == {"Data-Path-Failed", "Data-Path-Stopped"}
