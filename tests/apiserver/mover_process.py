"""The kubelet's part in running a real mover: request files, Secrets, volume and termination log, as a child process.

Paths of the pod (`/<uid>`, mounted Secrets) are replaced by directories of the test, as mounting would.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from typing import TYPE_CHECKING

from exposer.hosting_pod_manifest import SECRETS_DIRECTORY
from kube.api import SECRET, Json, Kube

if TYPE_CHECKING:
    from pathlib import Path


class MoverProcess:
    """A `Mover` for `tests.fakes.kubelet.Kubelet`. `volumes` says what is behind a claim's or host path's name."""

    def __init__(self, kube: Kube, scratch: Path, volumes: dict[str, Path]) -> None:
        self.kube, self.scratch, self.volumes = kube, scratch, volumes
        self.lines: list[str] = []
        self.requests: list[Json] = []

    async def __call__(self, request: str, pod: Json, canceled: asyncio.Event) -> tuple[int, str]:
        home = self.scratch / pod["metadata"]["name"]
        home.mkdir(parents=True, exist_ok=True)
        await self._mount_secrets(pod, home)
        self.requests.append(json.loads(request))
        (home / "request").write_text(self._inside(request, pod, home))
        watching = asyncio.create_task(self._forward_cancel(canceled, home))
        role = pod["spec"]["containers"][0]["command"][-1]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-Wignore",
            "-m",
            "agent.velero_command",
            "mover-pod",
            role,
            env=os.environ
            | {
                "KOPIA_DATA_MOVER_REQUEST_DIRECTORIES": str(home),
                "KOPIA_DATA_MOVER_TERMINATION_LOG": str(home / "termination-log"),
            },
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        watching.cancel()
        self.lines += output.decode().splitlines()
        return process.returncode or 0, (home / "termination-log").read_text()

    @staticmethod
    async def _forward_cancel(canceled: asyncio.Event, home: Path) -> None:
        await canceled.wait()
        (home / "cancel").write_text("now")

    def _inside(self, request: str, pod: Json, home: Path) -> str:
        source = pod["spec"]["volumes"][0]
        name = (source.get("persistentVolumeClaim") or {}).get("claimName") or source["hostPath"]["path"]
        container = pod["spec"]["containers"][0]
        path = container["volumeMounts"][0]["mountPath"]
        text = request.replace(json.dumps(path), json.dumps(str(self.volumes[name])))
        return text.replace(SECRETS_DIRECTORY, str(home / "secrets"))

    async def _mount_secrets(self, pod: Json, home: Path) -> None:
        for volume in pod["spec"]["volumes"]:
            if "secret" not in volume or "items" not in volume["secret"]:
                continue
            secret = await self.kube.get(SECRET, pod["metadata"]["namespace"], volume["secret"]["secretName"])
            present = [item for item in volume["secret"]["items"] if item["key"] in secret["data"]]
            assert present == volume["secret"]["items"] or volume["secret"].get("optional")
            for item in present:
                path = home / "secrets" / volume["name"] / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(secret["data"][item["key"]]))
