"""`deploy/` as the tests see it: rendered by kubectl's kustomize, and tried on the API server without being kept."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.apiserver.control_plane import ADMIN, CLUSTER

if TYPE_CHECKING:
    from kube.api import Json
    from tests.apiserver.control_plane import ControlPlane

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
OVERLAYS = ("base", "csi-only", "fs-backup-privileged", "secret-copies")


def kubeconfig(plane: ControlPlane, directory: Path, token: str = ADMIN) -> Path:
    """A file as people have them."""
    path = directory / "kubeconfig.json"
    named = {"name": "x"}
    cluster = {"server": plane.server, "insecure-skip-tls-verify": True}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [named | {"context": {"cluster": "x", "user": "x"}}],
        "clusters": [named | {"cluster": cluster}],
        "users": [named | {"user": {"token": token}}],
    }
    path.write_text(json.dumps(document))
    return path


def kubectl(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run the cluster's kubectl; the caller looks at the exit code."""
    command = [str(CLUSTER / "bin" / "kubectl"), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def rendered(directory: str) -> list[Json]:
    """The objects that `kubectl apply -k deploy/DIRECTORY` makes."""
    done = kubectl("kustomize", str(DEPLOY / directory))
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    return [item for item in objects if item["kind"] == kind]


def tried(config: Path, objects: list[Json], *how: str) -> subprocess.CompletedProcess[str]:
    """Give objects to the API server, which checks and admits them and keeps nothing."""
    text = yaml.safe_dump_all(objects)
    return kubectl(f"--kubeconfig={config}", *how, "--dry-run=server", "-f", "-", text=text)
