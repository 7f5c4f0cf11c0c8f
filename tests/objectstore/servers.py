"""Real servers on loopback, each with a directory of its own, ended with the test that started them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.objectstore.signed import signed_request

ACCESS_KEY = "AKTEST"
SECRET_KEY = "secretsecret"
BUCKET = "test"
START_SECONDS_MAX = 20.0


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Returns when somebody listens at `port`; fails when `process` ends before."""
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with exit code {process.returncode}")
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"{process.args!r} does not listen at {port}")


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str], log: Path) -> Iterator[None]:
    """A server while the block runs; its output goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=output)
        try:
            wait_for_port(process, port)
            yield
        finally:
            process.terminate()
            process.wait(timeout=10)


@dataclass(frozen=True)
class S3Server:
    """A running S3 server with the bucket `test`."""

    binary: Path
    port: int
    credentials: Path
    data: Path
    ca_file: Path | None = None
    access_log: Path | None = None

    @property
    def endpoint(self) -> str:
        """Origin."""
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.port}"

    def make_locked_bucket(self, bucket: str) -> None:
        """Makes a bucket with versions and object lock."""
        lock = {"x-amz-bucket-object-lock-enabled": "true"}
        signed_request("PUT", f"{self.endpoint}/{bucket}", ACCESS_KEY, SECRET_KEY, lock)

    def put(self, key: str, content: bytes) -> None:
        """An object that no repository would make."""
        signed_request("PUT", f"{self.endpoint}/{BUCKET}/{key}", ACCESS_KEY, SECRET_KEY, body=content)

    def retention(self, bucket: str, key: str) -> bytes:
        """What the server says of the lock of an object."""
        url = f"{self.endpoint}/{bucket}/{key}?retention"
        return signed_request("GET", url, ACCESS_KEY, SECRET_KEY)

    def url(self, prefix: str, *, endpoint: str | None = None, credentials: Path | None = None) -> str:
        """What `mover --repo` takes."""
        query = f"endpoint={endpoint or self.endpoint}&credentials-file={quote(str(credentials or self.credentials))}"
        if self.ca_file:
            query += f"&ca-file={quote(str(self.ca_file))}"
        return f"s3://{BUCKET}/{prefix}?{query}"

    def admin(self, *arguments: str) -> None:
        """Runs an administrator's command: `create-user`, `delete-user`."""
        admin = ["admin", "--access", ACCESS_KEY, "--secret", SECRET_KEY, "--endpoint-url", self.endpoint]
        subprocess.run([str(self.binary), *admin, *arguments], check=True, capture_output=True, timeout=30)

    def kopia_environment(self) -> dict[str, str]:
        """How the real program finds the server: all is in the arguments."""
        return {}

    def kopia_arguments(self, prefix: str) -> list[str]:
        """What `kopia repository connect` or `create` takes."""
        arguments = ["s3", "--bucket", BUCKET, "--prefix", prefix, "--endpoint", f"127.0.0.1:{self.port}"]
        arguments += ["--access-key", ACCESS_KEY, "--secret-access-key", SECRET_KEY]
        return (
            [*arguments, "--root-ca-pem-path", str(self.ca_file)]
            if self.ca_file
            else [*arguments, "--disable-tls"]
        )


@dataclass(frozen=True)
class Certificate:
    """A certificate of 127.0.0.1 and the authority that signed it, in files."""

    authority: Path
    certificate: Path
    key: Path


def make_certificate(directory: Path) -> Certificate:
    """Makes an authority and a certificate signed by it."""
    authority, certificate, key = (directory / name for name in ("ca.pem", "server.pem", "server.key"))
    ca_key, request, extensions = (directory / name for name in ("ca.key", "server.csr", "extensions"))
    extensions.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    steps = [
        [*new, "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", ca_key, "-out", authority],
        [*new, "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", request],
        [
            *("openssl", "x509", "-req", "-in", request, "-CA", authority, "-CAkey", ca_key),
            *("-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate),
        ],
    ]
    for step in steps:
        subprocess.run([str(part) for part in step], check=True, capture_output=True)
    return Certificate(authority, certificate, key)


def write_credentials(path: Path, access_key: str, secret_key: str) -> None:
    """Replaces a credentials file, as Kubernetes does with the files of a Secret."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(f"[default]\naws_access_key_id={access_key}\naws_secret_access_key={secret_key}\n")
    new.replace(path)


@contextmanager
def s3_server(
    binary: Path, directory: Path, certificate: Certificate | None = None, *, logs_requests: bool = False
) -> Iterator[S3Server]:
    """A server over `directory`; over TLS with a certificate; with a line for each request if wanted."""
    data = directory / "data"
    (data / BUCKET).mkdir(parents=True)
    accounts, versions = directory / "accounts", directory / "versions"
    accounts.mkdir()
    versions.mkdir()
    credentials = directory / "credentials"
    write_credentials(credentials, ACCESS_KEY, SECRET_KEY)
    port = free_port()
    tls = ["--cert", str(certificate.certificate), "--key", str(certificate.key)] if certificate else []
    command = [str(binary), "--port", f"127.0.0.1:{port}", "--keep-alive", "--quiet", *tls]
    command += ["--iam-dir", str(accounts), "--iam-cache-disable"]
    access_log = directory / "access.log" if logs_requests else None
    command += ["--access-log", str(access_log)] if access_log else []
    command += ["posix", "--versioning-dir", str(versions), str(data)]
    environment = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    with running(command, port, environment, directory / "server.log"):
        authority = certificate.authority if certificate else None
        yield S3Server(binary, port, credentials, data, authority, access_log)
