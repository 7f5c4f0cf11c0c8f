"""fake-gcs-server: a Google Cloud Storage server on loopback, with the bucket `test`.

It knows Google's JSON API, which the real program speaks. Of the XML API, which our library speaks, it
knows reads and deletes; puts and pages of listings are put into words of the JSON API by a gateway here.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

from tests.objectstore.servers import BUCKET, free_port, running

PAGE_LENGTH = 1000
PASSED_ON = ("range", "if-match", "if-none-match")
ANSWERED = ("content-range", "content-type", "etag", "last-modified", "x-goog-generation")
Answer = tuple[int, dict[str, str], bytes]


class Lock(NamedTuple):
    """The retention of an object."""

    mode: str
    until: str


@dataclass(frozen=True)
class GcsServer:
    """A running fake-gcs-server, and the gateway before it."""

    port: int
    xml_port: int
    locks: dict[str, Lock]

    def url(self, prefix: str) -> str:
        """What `mover --repo` takes."""
        return f"gcs://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{self.xml_port}&anonymous=true"

    def kopia_environment(self) -> dict[str, str]:
        """How the real program finds the server: a variable of Google's client."""
        return {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{self.port}"}

    def kopia_arguments(self, prefix: str) -> list[str]:
        """What `kopia repository connect` or `create` takes."""
        return ["gcs", "--bucket", BUCKET, "--prefix", prefix]

    def put(self, key: str, content: bytes) -> None:
        """An object that no repository would make."""
        query = urlencode({"uploadType": "media", "name": key})
        url = f"http://127.0.0.1:{self.port}/upload/storage/v1/b/{BUCKET}/o?{query}"
        headers = {"content-type": "application/octet-stream"}
        request = urllib.request.Request(url, data=content, method="POST", headers=headers)
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - loopback
            pass

    def make_bucket(self, name: str) -> None:
        """Makes a bucket."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/storage/v1/b?project=test",
            data=json.dumps({"name": name}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - loopback
            pass


class XmlGateway(ThreadingHTTPServer):
    """Answers in words of the XML API."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream_port: int) -> None:
        super().__init__(("127.0.0.1", 0), XmlRequest)
        self.upstream_port = upstream_port
        self.locks: dict[str, Lock] = {}
        """Of objects by their names: fake-gcs-server knows none."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no matter."""


class XmlRequest(BaseHTTPRequestHandler):
    """One connection, with one of its own to the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: XmlGateway

    def setup(self) -> None:
        """Connects to the server."""
        super().setup()
        self.upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=60)

    def finish(self) -> None:
        """Ends the connection to the server."""
        self.upstream.close()
        super().finish()

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """The server's answer."""
        self.upstream.request(method, path, body or None, headers or {})
        answer = self.upstream.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def place(self) -> tuple[str, str]:
        """Bucket and object of the request, as they stand in the URL."""
        bucket, _, key = urlsplit(self.path).path.lstrip("/").partition("/")
        return bucket, key

    def do_PUT(self) -> None:
        """A put of a whole object."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        bucket, key = self.place()
        if urlsplit(self.path).query == "retention":
            found = re.findall(rb"<(?:Mode|RetainUntilDate)>([^<]+)<", body)
            self.server.locks[unquote(key)] = Lock(*(one.decode() for one in found))
            self.reply(http.HTTPStatus.OK, {}, b"")
            return
        if mode := self.headers.get("x-goog-object-lock-mode"):
            until = self.headers["x-goog-object-lock-retain-until-date"]
            self.server.locks[unquote(key)] = Lock(mode, until)
        generation = self.headers.get("x-goog-if-generation-match")
        place = f"/upload/storage/v1/b/{bucket}/o?name={key}"
        kind = {"content-type": self.headers.get("content-type", ""), "content-length": str(len(body))}
        if generation is None:
            status, _, answer = self.ask("POST", f"{place}&uploadType=media", body, kind)
        else:
            # The server looks at conditions only in uploads of this type.
            begin = f"{place}&uploadType=resumable&ifGenerationMatch={generation}"
            status, headers, _ = self.ask("POST", begin, b"{}", {"content-type": "application/json"})
            if status == http.HTTPStatus.OK:
                at = urlsplit(headers["location"])
                status, _, answer = self.ask("PUT", f"{at.path}?{at.query}", body, kind)
        if status != http.HTTPStatus.OK:
            self.refuse(status, bucket)
            return
        made = json.loads(answer)
        self.reply(status, {"etag": f'"{made["etag"]}"', "x-goog-generation": made["generation"]}, b"")

    def do_GET(self) -> None:
        """An object, a part of it, or a page of a listing."""
        bucket, key = self.place()
        if not key:
            self.list_page(bucket)
            return
        wanted = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        status, headers, body = self.ask(self.command, urlsplit(self.path).path, headers=wanted)
        if status >= http.HTTPStatus.BAD_REQUEST:
            self.refuse(status, bucket)
            return
        kept = {name: value for name, value in headers.items() if name in ANSWERED}
        length = headers.get("content-length") if self.command == "HEAD" else None
        self.reply(status, kept, body, length=length)

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def do_DELETE(self) -> None:
        """A delete."""
        bucket, key = self.place()
        status, _, _ = self.ask("DELETE", f"/storage/v1/b/{bucket}/o/{quote(key, safe='%')}")
        if status >= http.HTTPStatus.BAD_REQUEST:
            self.refuse(status, bucket)
        else:
            self.reply(http.HTTPStatus.NO_CONTENT, {}, b"")

    def list_page(self, bucket: str) -> None:
        """One page."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        asked = {"prefix": query.get("prefix", ""), "maxResults": str(PAGE_LENGTH)}
        if "delimiter" in query:
            asked["delimiter"] = query["delimiter"]
        if "continuation-token" in query:
            asked["pageToken"] = query["continuation-token"]
        status, _, body = self.ask("GET", f"/storage/v1/b/{bucket}/o?{urlencode(asked)}")
        if status != http.HTTPStatus.OK:
            self.refuse(status, bucket)
            return
        page = json.loads(body)
        items = "".join(
            f"<Contents><Key>{escape(one['name'])}</Key><Size>{one['size']}</Size>"
            f"<LastModified>{one['updated']}</LastModified><ETag>{escape(one['etag'])}</ETag></Contents>"
            for one in page.get("items", [])
        )
        items += "".join(
            f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>"
            for one in page.get("prefixes", [])
        )
        if "nextPageToken" in page:
            items += f"<NextContinuationToken>{escape(page['nextPageToken'])}</NextContinuationToken>"
        text = f"<ListBucketResult>{items}</ListBucketResult>"
        self.reply(status, {"content-type": "application/xml"}, text.encode())

    def refuse(self, status: int, bucket: str) -> None:
        """A refusal with Google's codes."""
        code = {412: "PreconditionFailed", 416: "InvalidRange"}.get(status, "InternalError")
        if status == http.HTTPStatus.NOT_FOUND:
            found, _, _ = self.ask("GET", f"/storage/v1/b/{bucket}")
            code = "NoSuchKey" if found == http.HTTPStatus.OK else "NoSuchBucket"
        self.reply(status, {}, f"<Error><Code>{code}</Code></Error>".encode())

    def reply(self, status: int, headers: dict[str, str], body: bytes, *, length: str | None = None) -> None:
        """Sends an answer."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Nothing."""


@contextmanager
def gcs_server(binary: Path, directory: Path) -> Iterator[GcsServer]:
    """fake-gcs-server, its blobs in memory, and the gateway, while the block runs."""
    port = free_port()
    command = [str(binary), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"]
    command += ["-port", str(port), "-public-host", f"127.0.0.1:{port}", "-log-level", "warn"]
    command += ["-external-url", f"http://127.0.0.1:{port}"]
    with running(command, port, {}, directory / "server.log"), XmlGateway(port) as gateway:
        thread = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            server = GcsServer(port, gateway.server_port, gateway.locks)
            server.make_bucket(BUCKET)
            yield server
        finally:
            gateway.shutdown()
            thread.join()
