"""A real etcd and kube-apiserver on loopback, in a few seconds: level 1 of the cluster (tests/cluster).

No kubelet, no controllers: what they do is played by `tests.fakes`, through `ActorKube`, which writes `status` and
bindings where a real API server wants them. Authentication is by static tokens: `ADMIN` may all, `AGENT` is the
agent's service account and may what a test grants it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes.aio.client import Configuration

from kube.api import POD, Json, NotFoundError, Resource
from kube.client import KubeClient, _path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLUSTER = Path(os.environ.get("CLUSTER_DIR") or Path.home() / ".cache" / "kopia-data-mover" / "cluster")
ADMIN, AGENT = "admin-token", "agent-token"
AGENT_USER = "system:serviceaccount:velero:node-agent"
_START_SECONDS = 60
_STATUS_SUBRESOURCE = {
    "pods",
    "persistentvolumeclaims",
    "persistentvolumes",
    "volumesnapshots",
    "volumesnapshotcontents",
    "nodes",
}


def missing_programs() -> list[str]:
    return [name for name in ("etcd", "kube-apiserver") if not (CLUSTER / "bin" / name).exists()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ControlPlane:
    """etcd and API server in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.etcd_port, self.etcd_peer_port, self.port = _free_port(), _free_port(), _free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "tokens.csv").write_text(
            f'{ADMIN},admin,1,"system:masters"\n{AGENT},{AGENT_USER},2,"system:serviceaccounts"\n'
        )
        subprocess.run(
            ["openssl", "genrsa", "-out", directory / "sa.key", "2048"], check=True, capture_output=True
        )

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._spawn_etcd()
        self.start_api_server()

    def _spawn_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self.etcd_port, self.etcd_peer_port))
        self._spawn(
            "etcd",
            f"--data-dir={self.directory}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def start_api_server(self) -> None:
        key = self.directory / "sa.key"
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.directory}/certs",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.directory}/tokens.csv",
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged",
            "--profiling=false",
        )
        self._wait_ready()

    @property
    def api_server_pid(self) -> int:
        return self._processes["kube-apiserver"].pid

    def kill_api_server(self) -> None:
        self._stop("kube-apiserver")

    def stop(self) -> None:
        for name in list(self._processes):
            self._stop(name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _spawn(self, program: str, *arguments: str) -> None:
        with (self.directory / f"{program}.log").open("ab") as log:
            command = [str(CLUSTER / "bin" / program), *arguments]
            self._processes[program] = subprocess.Popen(command, stdout=log, stderr=log)

    def _stop(self, program: str) -> None:
        process = self._processes.pop(program)
        process.kill()
        process.wait()

    def _wait_ready(self) -> None:
        end = time.monotonic() + _START_SECONDS
        request = urllib.request.Request(  # noqa: S310 - https, above
            f"{self.server}/readyz", headers={"Authorization": f"Bearer {ADMIN}"}
        )
        while time.monotonic() < end:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                context = ssl._create_unverified_context()  # noqa: S323 - its certificate is its own
                urllib.request.urlopen(request, timeout=2, context=context).close()  # noqa: S310 - same
                return
            time.sleep(0.1)
        log = (self.directory / "kube-apiserver.log").read_text()[-2000:]
        raise RuntimeError(f"kube-apiserver was not ready in {_START_SECONDS} s: {log}")

    def connection(self, token: str = ADMIN, server: str = "") -> Callable[[], Awaitable[Configuration]]:
        """What a client is told; the server's certificate is its own: these tests are not about TLS."""
        found = Configuration(host=server or self.server)
        found.api_key["BearerToken"] = f"Bearer {token}"
        found.verify_ssl = False

        async def load() -> Configuration:
            return found

        return load


class ActorKube(KubeClient):
    """The connection of played controllers: `status` and `nodeName` go to their subresources."""

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        rest = dict(patch)
        status = rest.pop("status", None) if resource.plural in _STATUS_SUBRESOURCE else None
        node = (rest.get("spec") or {}).get("nodeName") if resource == POD else None
        if node:
            return await self._bind(namespace, name, node)
        body = await super().patch(resource, namespace, name, rest) if rest else {}
        if status is not None:
            path = _path(resource, namespace, name) + "/status"
            with contextlib.suppress(NotFoundError):
                body = await self._call("PATCH", path, {}, {"status": status})
        return body

    async def _bind(self, namespace: str, name: str, node: str) -> Json:
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        return await self._call("POST", _path(POD, namespace, name) + "/binding", {}, body)

    async def put(self, resource: Resource, body: Json) -> Json:
        """Create an object with its status, as if a whole cluster had made it."""
        meta = body["metadata"]
        made = await self.create(
            resource, meta.get("namespace", ""), {k: v for k, v in body.items() if k != "status"}
        )
        if body.get("status"):
            return await self.patch(
                resource, meta.get("namespace", ""), meta["name"], {"status": body["status"]}
            )
        return made


class UnreliableProxy:
    """A TCP proxy before the API server that is slow and cuts connections, as `faults` says."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.delay_seconds = 0.0
        self.cut_every = 0
        self.refuse = False
        self.port = 0
        self._count = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.refuse:
                await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, up_writer))
                group.create_task(self._pump(up_reader, writer))
        except* OSError:
            pass
        finally:
            up_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self._count += 1
            await asyncio.sleep(self.delay_seconds)
            if self.cut_every and self._count % self.cut_every == 0:
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
