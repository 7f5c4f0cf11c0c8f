"""The stage of README's walk-through: `up DIR` leaves a real etcd and API server running, `down DIR` ends them.

Velero's CRDs, a volume with a snapshot, a target PVC and a repository that the real kopia made are there. Played are the
kubelet, the CSI driver and Velero's server; hosting pods run the real mover as a child process. The agent is for the
reader to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent.control.mover_inputs import BACKUP_STORAGE_LOCATION
from kube.api import NODE, PVC
from tests.apiserver.conftest import Stage, furnish
from tests.apiserver.control_plane import ActorKube, ControlPlane, missing_programs
from tests.apiserver.manifests import kubeconfig
from tests.apiserver.mover_process import MoverProcess
from tests.apiserver.repository import Kopia, grow_tree
from tests.fakes import scene
from tests.programs import KOPIA, program

ROOT = Path(__file__).parent.parent.parent
_READY_SECONDS_MAX = 120
VELERO = "1.18"


def up(directory: Path) -> int:
    """Start the stage in the background and return when it is ready."""
    if missing_programs():
        subprocess.run([ROOT / "tests" / "cluster" / "build" / "build.sh", "k8s"], check=True)
    program(KOPIA)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with (directory / "stage.log").open("wb") as log:
        command = [sys.executable, "-Wignore", "-m", "tests.apiserver.demo", "serve", str(directory)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + _READY_SECONDS_MAX
    while not (directory / "kubeconfig").exists():
        if process.poll() is not None or time.monotonic() > end:
            print(f"the stage did not start: {directory}/stage.log", file=sys.stderr)
            return 1
        time.sleep(0.1)
    print(f"ready: KUBECONFIG={directory}/kubeconfig")
    return 0


def down(directory: Path) -> int:
    """End the stage; what was restored stays."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((directory / "pid").read_text()), signal.SIGTERM)
    end = time.monotonic() + _READY_SECONDS_MAX
    while (directory / "pid").exists() and time.monotonic() < end:
        time.sleep(0.1)
    return 0


async def serve(directory: Path) -> None:
    """Play until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    (directory / "pid").write_text(str(os.getpid()))
    plane = ControlPlane(directory / "plane")
    try:
        await asyncio.to_thread(plane.start)
        await furnish(plane, VELERO)
        async with ActorKube(plane.connection()) as actors:
            stage = Stage(plane, actors, directory / "host-pods")
            await set_up(stage, directory)
            stage.play()
            kubeconfig(plane, directory).rename(directory / "kubeconfig")
            await stopped.wait()
            await stage.close()
    finally:
        plane.stop()
        (directory / "pid").unlink()


async def set_up(stage: Stage, directory: Path) -> None:
    """Put everything there that a backup of `app/data` and its restore need."""
    location, source, restored = (directory / name for name in ("location", "source", "restored"))
    location.mkdir()
    restored.mkdir()
    grow_tree(source)
    await asyncio.to_thread(Kopia, program(KOPIA), location)
    config = {"spec": {"config": {"fspath": str(location)}}}
    await stage.kube.patch(BACKUP_STORAGE_LOCATION, "velero", "default", config)
    node = {"metadata": {"name": "node-1", "labels": {"kubernetes.io/os": "linux"}}}
    await stage.kube.create(NODE, "", node)
    await stage.source_volume()
    selector = {"matchLabels": {"velero.io/dynamic-pv-restore": "x"}}
    await stage.kube.put(PVC, scene.claim("restored", selector=selector))
    volumes = {"by-hand": source, "by-hand-restore": restored}
    stage.kubelet.mover = MoverProcess(stage.kube, directory / "pods", volumes)


def main() -> int:
    verb, directory = sys.argv[1], Path(sys.argv[2]).absolute()
    if verb == "serve":
        asyncio.run(serve(directory))
        return 0
    return {"up": up, "down": down}[verb](directory)


if __name__ == "__main__":
    sys.exit(main())
