"""More object stores for tests: one behind a bad network, one that becomes full, one that speaks TLS with a private CA."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests import programs
from tests.acceptance.cluster import BACKUP_REPOSITORY, LOCATION, NETNS, STATE, VELERO, run_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.cluster import Cluster

ADDRESS = "10.244.0.1"
_CONTROL = f"http://{ADDRESS}:7090"
_KEYS = {"ROOT_ACCESS_KEY": "ak", "ROOT_SECRET_KEY": "sksksksk"}


@contextmanager
def daemon(name: str, *command: str, ready: str) -> Iterator[None]:
    """A program in the cluster's network, once it answers at the URL `ready`."""
    with (STATE / "log" / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{NETNS}", *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | _KEYS,
        )  # fmt: skip
        try:
            run_command("curl", "-sk", "--retry", "100", "--retry-delay", "1", "--retry-connrefused", ready)
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def s3_server(name: str, root: Path, port: int, *flags: str) -> Iterator[str]:
    """Another S3 server with one bucket of its name; gives its URL."""
    (root / name).mkdir(parents=True, exist_ok=True)
    url = f"{'https' if flags else 'http'}://{ADDRESS}:{port}"
    server = str(programs.program(programs.S3_SERVER))
    command = [server, "--quiet", "--port", f"{ADDRESS}:{port}", *flags, "posix", str(root)]
    with daemon(f"s3-{name}", *command, ready=url):
        yield url


@contextmanager
def small_disk(name: str, size: str) -> Iterator[Path]:
    """A file system in memory that is full after `size`."""
    place = STATE / "var" / name
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@dataclass
class BadNetwork:
    """toxiproxy before the cluster's S3 server."""

    url: str

    def _call(self, method: str, path: str, body: dict[str, object] | None = None) -> None:
        data = [] if body is None else ["--data", json.dumps(body)]
        run_command("curl", "-sSf", "-X", method, *data, f"{_CONTROL}{path}")

    def slow(self, latency_milliseconds: int, kibibytes_per_second: int) -> None:
        """Answers come late and thin from now on, and what is sent goes thin."""
        self._call("POST", "/proxies/s3/toxics",
                   {"type": "latency", "attributes": {"latency": latency_milliseconds}})  # fmt: skip
        for stream in ("upstream", "downstream"):
            self._call("POST", "/proxies/s3/toxics", {
                "name": f"thin-{stream}", "type": "bandwidth", "stream": stream,
                "attributes": {"rate": kibibytes_per_second},
            })  # fmt: skip

    def connected(self, yes: bool) -> None:
        """Connections are cut and refused while it is not."""
        self._call("POST", "/proxies/s3", {"enabled": yes})


@contextmanager
def bad_network(port: int) -> Iterator[BadNetwork]:
    """A proxy at `port` to the cluster's S3 server, at first without faults."""
    config = STATE / "run" / "toxiproxy.json"
    listen, upstream = f"{ADDRESS}:{port}", f"{ADDRESS}:7070"
    config.write_text(json.dumps([{"name": "s3", "listen": listen, "upstream": upstream, "enabled": True}]))
    host, _, control = _CONTROL.removeprefix("http://").partition(":")
    command = [str(programs.program(programs.BAD_NETWORK)), "-host", host, "-port", control]
    with daemon("toxiproxy", *command, "-config", str(config), ready=f"{_CONTROL}/version"):
        yield BadNetwork(f"http://{listen}")


@contextmanager
def location(
    cluster: Cluster, name: str, *, url: str = "", bucket: str = "", ca: bytes = b"", available: bool = True
) -> Iterator[str]:
    """A BackupStorageLocation for a while; gives its name."""
    default = cluster.get(LOCATION, "default")["spec"]
    config = default["config"] | ({"s3Url": url} if url else {})
    storage = {"bucket": bucket or name} | ({"caCert": base64.b64encode(ca).decode()} if ca else {})
    spec = {"provider": "aws", "config": config, "objectStorage": storage, "validationFrequency": "1s"}
    meta = {"name": name, "namespace": VELERO}
    cluster.apply(
        {"apiVersion": "velero.io/v1", "kind": "BackupStorageLocation", "metadata": meta, "spec": spec}
    )
    wanted = "Available" if available else "Unavailable"
    try:
        cluster.wait(f"location {name} is {wanted}", lambda: cluster.phase(LOCATION, name) == wanted, 90)
        yield name
    finally:
        cluster.delete(LOCATION, name)
        for repository in cluster.select(BACKUP_REPOSITORY, labels=f"velero.io/storage-location={name}"):
            cluster.delete(BACKUP_REPOSITORY, repository["metadata"]["name"])
