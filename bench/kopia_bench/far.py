"""A bucket that is far: versitygw behind toxiproxy, one after the other for both programs.

Latency is each way: a request of one packet takes twice as long. Bandwidth is that of each connection. Both programs
see the same proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.objectstore.bad_network import BadNetwork, Fault, bad_network
from tests.objectstore.servers import BUCKET, S3Server, s3_server
from tests.programs import BAD_NETWORK, S3_SERVER, program

_WRITES = ("Put", "List", "Copy", "Create", "Complete", "Upload")
"""What S3 charges as PUT, COPY, POST and LIST; reads cost a twelfth, deletions nothing."""


@dataclass(frozen=True)
class Link:
    """What is between the programs and the bucket."""

    latency_milliseconds: int
    """Each way."""
    megabytes_per_second: int | None = None
    """Of each connection, each way."""

    def faults(self) -> list[Fault]:
        """As the proxy is told."""
        kinds = [("latency", {"latency": self.latency_milliseconds})]
        if self.megabytes_per_second:
            kinds.append(("bandwidth", {"rate": self.megabytes_per_second * 1000}))
        return [Fault(kind, its, 1.0, stream) for stream in ("upstream", "downstream") for kind, its in kinds]


@dataclass(frozen=True)
class Requests:
    """Requests by what they are charged as, and what came in answers, headers too."""

    writes: int
    reads: int
    received_bytes: int

    def __sub__(self, earlier: Requests) -> Requests:
        return Requests(
            self.writes - earlier.writes,
            self.reads - earlier.reads,
            self.received_bytes - earlier.received_bytes,
        )


@dataclass(frozen=True)
class FarBucket:
    """A bucket seen through a proxy at `port`."""

    server: S3Server
    network: BadNetwork
    port: int

    def kopia_arguments(self, prefix: str) -> list[str]:
        """What `kopia repository create` takes."""
        direct, far = f"127.0.0.1:{self.server.port}", f"127.0.0.1:{self.port}"
        return [far if part == direct else part for part in self.server.kopia_arguments(prefix)]

    def url(self, prefix: str) -> str:
        """What `mover --repo` takes."""
        return self.server.url(prefix, endpoint=f"http://127.0.0.1:{self.port}")

    def requests(self) -> Requests:
        """All that the server has logged and the proxy has counted."""
        log = self.server.access_log
        text = log.read_text(errors="replace") if log and log.exists() else ""
        actions = re.findall(r" s3_(\w+) ", text)
        writes = sum(action.startswith(_WRITES) for action in actions)
        deletions = sum(action.startswith("Delete") for action in actions)
        return Requests(writes, len(actions) - writes - deletions, self.network.received_bytes())

    def bytes_of(self, prefix: str) -> int:
        """What the objects below `prefix` take."""
        found = (self.server.data / BUCKET / prefix).rglob("*")
        return sum(path.stat().st_size for path in found if path.is_file())


@contextmanager
def far_bucket(directory: Path, link: Link) -> Iterator[FarBucket]:
    """The bucket while the block runs; its objects lie under `directory`."""
    directory.mkdir(parents=True)
    with (
        s3_server(program(S3_SERVER), directory, logs_requests=True) as server,
        bad_network(program(BAD_NETWORK), directory) as network,
        network.before(server.port, *link.faults()) as port,
    ):
        yield FarBucket(server, network, port)
