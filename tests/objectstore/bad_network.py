"""toxiproxy: a TCP proxy whose links can be made slow, thin, or broken."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.objectstore.servers import free_port, running


@dataclass(frozen=True)
class Fault:
    """A toxic: its kind, its attributes, and the part of the connections that have it."""

    kind: str
    attributes: dict[str, int]
    toxicity: float
    stream: str = "downstream"


@dataclass(frozen=True)
class BadNetwork:
    """A running toxiproxy."""

    port: int

    def _call(self, method: str, path: str, document: dict[str, Any] | None = None) -> None:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, method=method)
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - loopback
            pass

    def received_bytes(self) -> int:
        """What clients were sent through all its proxies so far, headers too."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        lines = [line for line in text.splitlines() if line.startswith("toxiproxy_proxy_sent_bytes_total")]
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if 'direction="downstream"' in line)

    @contextmanager
    def before(self, upstream_port: int, *faults: Fault) -> Iterator[int]:
        """The port of a proxy before `upstream_port` that has `faults`."""
        port = free_port()
        name = f"p{port}"
        listen, upstream = f"127.0.0.1:{port}", f"127.0.0.1:{upstream_port}"
        self._call("POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream})
        for fault in faults:
            toxic = {"type": fault.kind, "stream": fault.stream, "toxicity": fault.toxicity}
            self._call("POST", f"/proxies/{name}/toxics", toxic | {"attributes": fault.attributes})
        try:
            yield port
        finally:
            self._call("DELETE", f"/proxies/{name}")


@contextmanager
def bad_network(binary: Path, directory: Path) -> Iterator[BadNetwork]:
    """toxiproxy while the block runs."""
    port = free_port()
    command = [str(binary), "-host", "127.0.0.1", "-port", str(port), "-proxy-metrics"]
    with running(command, port, {}, directory / "toxiproxy.log"):
        yield BadNetwork(port)
