"""A played S3 whose keys are nothing but text, as AWS has them: `/x/a` and `x/a` are two objects.

versitygw keeps objects as files and cannot tell the two apart. It knows no signatures and no buckets: whoever asks is
answered. Conditional puts can be taken from it (`conditions`): refused by name, or passed over without a word.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.objectstore.servers import ACCESS_KEY, BUCKET, SECRET_KEY

PAGE_LENGTH = 1000
Answer = tuple[int, bytes, dict[str, str]]


class FlatS3(ThreadingHTTPServer):
    """The server and its objects."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.lock = threading.Lock()
        self.conditions = "kept"
        """`kept`, `refused` (501) or `ignored`."""
        self.same_token = False
        """Each page of a listing names the same next one."""

    @property
    def endpoint(self) -> str:
        """Origin."""
        return f"http://127.0.0.1:{self.server_port}"

    def kopia_arguments(self, prefix: str) -> list[str]:
        """What `kopia repository connect` or `create` takes."""
        keys = ["--access-key", ACCESS_KEY, "--secret-access-key", SECRET_KEY, "--region", "us-east-1"]
        place = ["--bucket", BUCKET, "--prefix", prefix, "--endpoint", f"127.0.0.1:{self.server_port}"]
        return ["s3", *place, *keys, "--disable-tls"]

    def put(self, key: str, body: bytes, *, is_new: bool) -> Answer:
        """Stores an object."""
        if is_new and self.conditions == "refused":
            return 501, _error("NotImplemented"), {}
        with self.lock:
            if is_new and self.conditions == "kept" and key in self.objects:
                return 412, _error("PreconditionFailed"), {}
            self.objects[key] = (body, time.time())
        return 200, b"", {"ETag": '"e"'}

    def listing(self, prefix: str, token: str, length: int) -> Answer:
        """A page of keys after `token`."""
        with self.lock:
            keys = sorted(key for key in self.objects if key.startswith(prefix) and key > token)
            found = [(key, *self.objects[key]) for key in keys[:length]]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>e</ETag>"
            f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(at))}</LastModified></Contents>"
            for key, body, at in found
        )
        following = "!" if self.same_token else keys[length - 1] if len(keys) > length else ""
        more = f"<NextContinuationToken>{escape(following)}</NextContinuationToken>" if following else ""
        truncated = f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>"
        return 200, f"<ListBucketResult>{truncated}{entries}{more}</ListBucketResult>".encode(), {}


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>played</Message></Error>".encode()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlatS3

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path.removeprefix(f"/{BUCKET}").removeprefix("/"))

    def _send(self, answer: Answer) -> None:
        status, body, headers = answer
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("x-amz-content-sha256", "").startswith("STREAMING"):
            body = _unchunked(body)
        self._send(self.server.put(self._key(), body, is_new="If-None-Match" in self.headers))

    def do_DELETE(self) -> None:
        with self.server.lock:
            self.server.objects.pop(self._key(), None)
        self._send((204, b"", {}))

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if self._key():
            self._send(self._object())
        elif "location" in urlsplit(self.path).query:
            self._send((200, b"<LocationConstraint>us-east-1</LocationConstraint>", {}))
        elif "list-type" in query:
            length = int(query.get("max-keys") or PAGE_LENGTH)
            self._send(
                self.server.listing(query.get("prefix", ""), query.get("continuation-token", ""), length)
            )
        else:
            self._send((404, _error("NoSuchConfiguration"), {}))

    do_HEAD = do_GET  # noqa: N815 - the names are http.server's

    def _object(self) -> Answer:
        with self.server.lock:
            found = self.server.objects.get(self._key())
        if found is None:
            return 404, b"" if self.command == "HEAD" else _error("NoSuchKey"), {}
        body, at = found
        headers = {"ETag": '"e"', "Last-Modified": formatdate(at, usegmt=True)}
        asked = self.headers.get("Range")
        if asked is None:
            return 200, body, headers | {"Content-Length": str(len(body))}
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if int(first) >= len(body):
            return 416, _error("InvalidRange"), {}
        part = body[int(first) : int(last) + 1 if last else None]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
        return 206, part, headers | {"Content-Range": span}

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Nothing."""


def _unchunked(body: bytes) -> bytes:
    """What a body signed in chunks holds."""
    parts, rest = [], body
    while rest:
        head, _, rest = rest.partition(b"\r\n")
        length = int(head.partition(b";")[0], 16)
        parts.append(rest[:length])
        rest = rest[length + 2 :] if length else b""
    return b"".join(parts)


@contextmanager
def flat_s3() -> Iterator[FlatS3]:
    """A server while the block runs."""
    with FlatS3() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
