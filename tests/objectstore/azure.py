"""Azurite: an Azure Blob Storage server on loopback, with the container `test`.

The real program only knows hosts `account.domain`: it reaches Azurite as its HTTP proxy, whose
name in a request is such a host.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from tests.objectstore.servers import BUCKET, free_port, running

ACCOUNT = "testaccount"
KEY = base64.b64encode(b"the key of an account in tests").decode()
DOMAIN = "azure.test"
API_VERSION = "2021-08-06"


@dataclass(frozen=True)
class AzureServer:
    """A running Azurite."""

    port: int
    credentials: Path

    def url(self, prefix: str) -> str:
        """What `mover --repo` takes."""
        query = f"account={ACCOUNT}&endpoint=http://127.0.0.1:{self.port}/{ACCOUNT}"
        return f"azure://{BUCKET}/{prefix}?{query}&credentials-file={quote(str(self.credentials))}"

    def kopia_environment(self) -> dict[str, str]:
        """How the real program finds the server."""
        return {"HTTP_PROXY": f"http://127.0.0.1:{self.port}", "NO_PROXY": ""}

    def kopia_arguments(self, prefix: str) -> list[str]:
        """What `kopia repository connect` or `create` takes. No flag leaves TLS out, but a token can."""
        config = {
            "container": BUCKET,
            "prefix": prefix,
            "storageAccount": ACCOUNT,
            "storageKey": KEY,
            "storageDomain": DOMAIN,
            "doNotUseTLS": True,
        }
        token = json.dumps({"version": "1", "storage": {"type": "azureBlob", "config": config}})
        return ["from-config", "--token", base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")]

    def put(self, key: str, content: bytes) -> None:
        """An object that no repository would make."""
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        kind = "application/octet-stream"
        headers = f"x-ms-blob-type:BlockBlob\nx-ms-date:{now}\nx-ms-version:{API_VERSION}\n"
        length = str(len(content)) if content else ""
        text = f"PUT\n\n\n{length}\n\n{kind}\n" + "\n" * 6 + headers + f"/{ACCOUNT}/{ACCOUNT}/{BUCKET}/{key}"
        digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{ACCOUNT}/{BUCKET}/{key}",
            data=content,
            method="PUT",
            headers={
                "content-type": kind,
                "x-ms-blob-type": "BlockBlob",
                "x-ms-date": now,
                "x-ms-version": API_VERSION,
                "authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
            },
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - loopback
            pass

    def make_container(self, name: str) -> None:
        """One request signed with the account key."""
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = f"x-ms-date:{now}\nx-ms-version:{API_VERSION}\n"
        resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        text = "PUT" + "\n" * 12 + headers + resource
        digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{ACCOUNT}/{name}?restype=container",
            method="PUT",
            headers={
                "x-ms-date": now,
                "x-ms-version": API_VERSION,
                "authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
            },
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - loopback
            pass


@contextmanager
def azure_server(binary: Path, directory: Path) -> Iterator[AzureServer]:
    """Azurite over `directory` while the block runs."""
    port = free_port()
    credentials = directory / "credentials"
    credentials.write_text(f"AZURE_STORAGE_ACCOUNT_ACCESS_KEY={KEY}\n")
    command = [str(binary), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent"]
    command += ["--disableTelemetry", "--skipApiVersionCheck", "--location", str(directory / "data")]
    environment = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    with running(command, port, environment, directory / "server.log"):
        server = AzureServer(port, credentials)
        server.make_container(BUCKET)
        yield server
