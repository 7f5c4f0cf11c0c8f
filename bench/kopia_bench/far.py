"""A bucket that is far: versitygw behind toxiproxy, one after the other for both programs.

Latency is each way: a request of one packet takes twice as long. Both programs see the same proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.objectstore.bad_network import Fault, bad_network
from tests.objectstore.servers import BUCKET, S3Server, s3_server
from tests.programs import BAD_NETWORK, S3_SERVER, program

_WRITES = ("Put", "List", "Copy", "Create", "Complete", "Upload")
"""What S3 charges as PUT, COPY, POST and LIST; reads cost a twelfth, deletions nothing."""


@dataclass(frozen=True)
class Requests:
    """Requests by what they are charged as."""

    writes: int
    reads: int

    def __sub__(self, earlier: Requests) -> Requests:
        return Requests(self.writes - earlier.writes, self.reads - earlier.reads)


@dataclass(frozen=True)
class FarBucket:
    """A bucket seen through a proxy at `port`."""

    server: S3Server
    port: int

    def kopia_arguments(self, prefix: str) -> list[str]:
        """What `kopia repository create` takes."""
        direct, far = f"127.0.0.1:{self.server.port}", f"127.0.0.1:{self.port}"
        return [far if part == direct else part for part in self.server.kopia_arguments(prefix)]

    def url(self, prefix: str) -> str:
        """What `mover --repo` takes."""
        return self.server.url(prefix, endpoint=f"http://127.0.0.1:{self.port}")

    def requests(self) -> Requests:
        """All that the server has logged."""
        log = self.server.access_log
        text = log.read_text(errors="replace") if log and log.exists() else ""
        actions = re.findall(r" s3_(\w+) ", text)
        writes = sum(action.startswith(_WRITES) for action in actions)
        deletions = sum(action.startswith("Delete") for action in actions)
        return Requests(writes, len(actions) - writes - deletions)

    def bytes_of(self, prefix: str) -> int:
        """What the objects below `prefix` take."""
        found = (self.server.data / BUCKET / prefix).rglob("*")
        return sum(path.stat().st_size for path in found if path.is_file())


@contextmanager
def far_bucket(directory: Path, latency_milliseconds: int) -> Iterator[FarBucket]:
    """The bucket while the block runs; its objects lie under `directory`."""
    directory.mkdir(parents=True)
    with (
        s3_server(program(S3_SERVER), directory, logs_requests=True) as server,
        bad_network(program(BAD_NETWORK), directory) as network,
    ):
        there, back = (
            Fault("latency", {"latency": latency_milliseconds}, 1.0, stream)
            for stream in ("upstream", "downstream")
        )
        with network.before(server.port, there, back) as port:
            yield FarBucket(server, port)
