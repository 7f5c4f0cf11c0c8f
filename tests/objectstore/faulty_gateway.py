"""An HTTP gateway before a real S3 server that answers chosen requests wrongly, or not at all.

It passes everything else on as it came: signatures hold, because the `Host` header is kept. Faults
below HTTP (latency, bandwidth, resets by chance) are toxiproxy's: `bad_network`.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FOREVER = 1 << 30
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}
UPSTREAM_SECONDS_MAX = 60


@dataclass(frozen=True)
class Refuse:
    """An answer in the server's place; an empty code is an answer without a body."""

    status: int
    code: str

    def apply(self, request: Request) -> None:
        """Reads the request, so that the client gets to read the answer."""
        request.body()
        message = f"<Message>made by a test</Message><Token>{SECRET}</Token>"
        body = f"<Error><Code>{self.code}</Code>{message}</Error>".encode() if self.code else b""
        request.send_response(self.status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


@dataclass(frozen=True)
class ResetRequest:
    """The connection is reset while the request is being sent."""

    def apply(self, request: Request) -> None:
        """Takes a little of the body."""
        request.rfile.read(min(1000, request.length()))
        request.reset()


@dataclass(frozen=True)
class CutAnswer:
    """The answer ends in its middle: by a reset, by an orderly end, or by silence."""

    how: str

    def apply(self, request: Request) -> None:
        """Passes the request on; of the answer's body half."""
        status, headers, body = request.forward()
        request.answer(status, headers, body[: len(body) // 2], length=len(body))
        match self.how:
            case "reset":
                request.reset()
            case "end":
                request.close_connection = True
            case _:
                request.server.ended.wait(UPSTREAM_SECONDS_MAX)


@dataclass(frozen=True)
class Silence:
    """No answer."""

    def apply(self, request: Request) -> None:
        """Waits for the end of the test."""
        request.body()
        request.server.ended.wait(UPSTREAM_SECONDS_MAX)


@dataclass(frozen=True)
class DropAnswer:
    """The request is done, but its answer is lost."""

    def apply(self, request: Request) -> None:
        """Passes the request on, then resets the connection."""
        request.forward()
        request.reset()


Wrong = Refuse | ResetRequest | CutAnswer | Silence | DropAnswer
SECRET = "a-token-that-no-message-may-repeat"


@dataclass(frozen=True)
class Fault:
    """What goes wrong, on which requests, how often."""

    wrong: Wrong
    when: Callable[[str, str], bool]
    count: int = FOREVER


class Gateway(ThreadingHTTPServer):
    """The server; `fault` can be set at any time."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream_port: int) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.upstream_port = upstream_port
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self.fault_count = 0
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """Every request: its method, its path and its headers by their names in lower case."""

    @contextmanager
    def with_fault(self, fault: Fault) -> Iterator[None]:
        """`fault` while the block runs."""
        self.ended.clear()
        self._fault, self.fault_count = fault, 0
        try:
            yield
        finally:
            self._fault = None
            self.ended.set()

    def next_wrong(self, method: str, path: str) -> Wrong | None:
        """What is to go wrong with this request."""
        with self._lock:
            fault = self._fault
            if fault is None or self.fault_count >= fault.count or not fault.when(method, path):
                return None
            self.fault_count += 1
            return fault.wrong

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what the tests are about."""


class Request(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Gateway

    def length(self) -> int:
        """Bytes of the request's body."""
        return int(self.headers.get("Content-Length") or 0)

    def body(self) -> bytes:
        """The request's body."""
        return self.rfile.read(self.length())

    def forward(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """The server's answer to this request."""
        upstream = http.client.HTTPConnection(
            "127.0.0.1", self.server.upstream_port, timeout=UPSTREAM_SECONDS_MAX
        )
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"}:
                    upstream.putheader(name, value)
            upstream.endheaders(self.body())
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, length: int) -> None:
        """Sends an answer whose body is announced with `length` bytes."""
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        announced = next((value for name, value in headers if name.lower() == "content-length"), "0")
        self.send_header("Content-Length", announced if self.command == "HEAD" else str(length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def reset(self) -> None:
        """Ends the connection with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def handle_any(self) -> None:
        """Passes a request on, unless it is to go wrong."""
        asked = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, asked))
        wrong = self.server.next_wrong(self.command, self.path)
        if wrong is not None:
            wrong.apply(self)
            return
        status, headers, body = self.forward()
        self.answer(status, headers, body, length=len(body))

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = handle_any  # noqa: N815 - the names are http.server's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Nothing."""


@contextmanager
def faulty_gateway(upstream_port: int) -> Iterator[Gateway]:
    """A gateway before `upstream_port` while the block runs."""
    with Gateway(upstream_port) as gateway:
        thread = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield gateway
        finally:
            gateway.ended.set()
            gateway.shutdown()
            thread.join()
