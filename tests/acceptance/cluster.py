"""The running cluster of tests/cluster, as tests use it: the API, the programs, waiting, what is left over.

Reads go through `kubectl proxy` on a socket, since a kubectl process for each look costs a tenth of a second of
this machine. Everything is as the cluster's admin.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from kube.api import POD, PVC, Resource

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
T = TypeVar("T")

SCRIPTS = Path(__file__).parents[1] / "cluster"
STATE = Path(
    os.environ.get("CLUSTER_DIR")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kopia-data-mover" / "cluster"
)
NETNS = os.environ.get("CLUSTER_NETNS", "kdmcluster")
VELERO = "velero"
NAMESPACE = Resource("v1", "namespaces", "Namespace", namespaced=False)
JOB = Resource("batch/v1", "jobs", "Job")
DATA_UPLOAD = Resource("velero.io/v2alpha1", "datauploads", "DataUpload")
DATA_DOWNLOAD = Resource("velero.io/v2alpha1", "datadownloads", "DataDownload")
POD_VOLUME_BACKUP = Resource("velero.io/v1", "podvolumebackups", "PodVolumeBackup")
POD_VOLUME_RESTORE = Resource("velero.io/v1", "podvolumerestores", "PodVolumeRestore")
BACKUP = Resource("velero.io/v1", "backups", "Backup")
RESTORE = Resource("velero.io/v1", "restores", "Restore")
BACKUP_REPOSITORY = Resource("velero.io/v1", "backuprepositories", "BackupRepository")
LOCATION = Resource("velero.io/v1", "backupstoragelocations", "BackupStorageLocation")
MOVES = (DATA_UPLOAD, DATA_DOWNLOAD, POD_VOLUME_BACKUP, POD_VOLUME_RESTORE)
FINAL = ("Completed", "Failed", "Canceled")
_POLL_SECONDS = 0.15
_SLOWNESS_MAX = 4.0


class CommandError(AssertionError):
    """A program of the cluster ended with an error."""


def slowness() -> float:
    """How much longer things take than on a quiet machine: processes that want a core, for each core."""
    return min(max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0))), _SLOWNESS_MAX)


def run_command(*arguments: str, given: str | None = None, seconds: float = 300) -> str:
    """Runs a program inside the cluster's network and gives its output."""
    command = ["nsenter", f"--net=/run/netns/{NETNS}", *arguments]
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=seconds, errors="replace"
    )
    if done.returncode:
        raise CommandError(f"{' '.join(arguments[:6])} …: {done.stderr.strip()[-2000:]}")
    return done.stdout


@dataclass
class Cluster:
    """One running cluster. `agent` is whose node-agent runs now."""

    agent: str = ""
    api: httpx.Client = field(init=False)
    _proxy: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        socket = STATE / "run" / f"tests-api-{os.getpid()}.sock"
        socket.unlink(missing_ok=True)
        command = self._program("kubectl", "proxy", f"--unix-socket={socket}")
        self._proxy = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{NETNS}", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.api = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket), retries=3), base_url="http://localhost", timeout=30
        )
        self.wait("the API answers", socket.exists)

    def close(self) -> None:
        self.api.close()
        self._proxy.terminate()
        self._proxy.wait()

    # programs

    @staticmethod
    def _program(name: str, *arguments: str) -> list[str]:
        return [
            str(STATE / "bin" / name),
            "--kubeconfig",
            str(STATE / "etc" / "admin.kubeconfig"),
            *arguments,
        ]

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        return run_command(*self._program("kubectl", *arguments), given=given)

    def velero(self, *arguments: str) -> str:
        return run_command(*self._program("velero", *arguments))

    def script(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(SCRIPTS / name), *arguments], capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{name}: {done.stdout[-1500:]}{done.stderr[-1500:]}"

    def use_agent(self, whose: str) -> None:
        """Switches the DaemonSet's image to `ours` or `upstream`, unless it runs already."""
        if self.agent != whose:
            self.script("agent.sh", whose)
            self.agent = whose

    def exec(self, namespace: str, pod: str, *command: str) -> str:
        return self.kubectl("exec", "-n", namespace, pod, "--", *command)

    # objects

    def _path(self, resource: Resource, namespace: str, name: str = "") -> str:
        group = "api" if "/" not in resource.group_version else "apis"
        place = f"namespaces/{namespace}/" if resource.namespaced and namespace else ""
        return f"/{group}/{resource.group_version}/{place}{resource.plural}" + (f"/{name}" if name else "")

    def _answer(self, method: str, path: str, **given: Any) -> Json | None:
        for attempt in range(20):
            try:
                answer = self.api.request(method, path, **given)
                break
            except httpx.TransportError:
                if attempt == 19:
                    raise
                time.sleep(0.5)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        assert answer.is_success, f"{method} {path}: {answer.text[:1000]}"
        body: Json = answer.json()
        return body

    def find(self, resource: Resource, name: str, namespace: str = VELERO) -> Json | None:
        return self._answer("GET", self._path(resource, namespace, name))

    def get(self, resource: Resource, name: str, namespace: str = VELERO) -> Json:
        body = self.find(resource, name, namespace)
        assert body is not None, f"{resource.kind} {namespace}/{name} does not exist"
        return body

    def select(self, resource: Resource, namespace: str = VELERO, labels: str = "") -> list[Json]:
        body = self._answer("GET", self._path(resource, namespace), params={"labelSelector": labels})
        return [] if body is None else list(body["items"])

    def patch(self, resource: Resource, name: str, patch: Json, namespace: str = VELERO) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        body = self._answer(
            "PATCH", self._path(resource, namespace, name), content=json.dumps(patch), headers=headers
        )
        assert body is not None, f"{resource.kind} {namespace}/{name} does not exist"

    def delete(
        self, resource: Resource, name: str, namespace: str = VELERO, grace_seconds: int | None = None
    ) -> None:
        params = {} if grace_seconds is None else {"gracePeriodSeconds": str(grace_seconds)}
        self._answer("DELETE", self._path(resource, namespace, name), params=params)

    def evict(self, name: str, namespace: str = VELERO) -> None:
        """Asks for a pod's eviction, as `kubectl drain` does."""
        meta = {"name": name, "namespace": namespace}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
        self._answer("POST", self._path(POD, namespace, name) + "/eviction", json=body)

    def apply(self, *documents: Json) -> None:
        self.kubectl(
            "apply",
            "-f",
            "-",
            given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)}),
        )

    # waiting

    def wait(self, what: str | Callable[[], str], probe: Callable[[], T], seconds: float = 90) -> T:
        """Gives the probe's first true value. `seconds` are those of a quiet machine."""
        begun = time.monotonic()
        while True:
            value = probe()
            if value:
                return value
            waited = time.monotonic() - begun
            assert waited < seconds * slowness(), (
                f"not within {waited:.0f} s (quiet machine: {seconds:g}): {what if isinstance(what, str) else what()}"
            )
            time.sleep(_POLL_SECONDS)

    def phase(self, resource: Resource, name: str) -> str:
        return str(((self.find(resource, name) or {}).get("status") or {}).get("phase", ""))

    def wait_phase(self, resource: Resource, name: str, *phases: str, seconds: float = 120) -> Json:
        """Waits for one of `phases`; another final phase is an error that shows the object's status."""

        def probe() -> Json | None:
            body = self.find(resource, name)
            phase = ((body or {}).get("status") or {}).get("phase", "")
            final = phase in FINAL or phase in ("PartiallyFailed", "FailedValidation")
            assert phase in phases or not final, (
                f"{resource.kind} {name} is {phase}: {json.dumps((body or {}).get('status'))}"
            )
            return body if phase in phases else None

        try:
            return self.wait(f"{resource.kind} {name} is {' or '.join(phases)}", probe, seconds)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; now: {json.dumps((self.find(resource, name) or {}).get('status'))}"
            ) from None

    def wait_pod(self, namespace: str, name: str, seconds: float = 120) -> Json:
        """Waits until a pod is ready."""

        def probe() -> Json | None:
            body = self.find(POD, name, namespace)
            conditions = ((body or {}).get("status") or {}).get("conditions") or []
            return body if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) else None

        return self.wait(f"pod {namespace}/{name} is ready", probe, seconds)

    def delete_namespace(self, name: str) -> None:
        """Asks for everything to go; what counts is looked for by `leftovers`.

        A namespace takes ten seconds longer than what is in it.
        """
        for path in (self._path(POD, name), self._path(PVC, name)):
            self._answer("DELETE", path, params={"gracePeriodSeconds": "0"})
        self.delete(NAMESPACE, name)

    def agent_pod(self) -> Json:
        """The node-agent's pod that runs now."""

        def probe() -> Json | None:
            pods = [
                p
                for p in self.select(POD, labels="name=node-agent")
                if "deletionTimestamp" not in p["metadata"]
            ]
            ready = [p for p in pods if p.get("status", {}).get("phase") == "Running"]
            return ready[0] if ready else None

        return self.wait("a node-agent runs", probe)
