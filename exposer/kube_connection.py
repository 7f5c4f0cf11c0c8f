"""Where the API server is and who we are: in-cluster files or a kubeconfig, as values.

Only what clusters hand to their pods and administrators to a test is understood: tokens, token files and
client certificates. Exec plug-ins and auth providers are not.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeConnectionError(Exception):
    """No usable connection is configured; says what is missing."""


@dataclass(frozen=True)
class KubeConnection:
    """How to reach the API server. `token_path` is read again and again: bound tokens rotate."""

    server: str
    tls: ssl.SSLContext = field(repr=False)
    token: str = field(default="", repr=False)
    token_path: Path | None = None


def connect(kubeconfig: str = "", context: str = "") -> KubeConnection:
    """Choose: the kubeconfig named, else `$KUBECONFIG`, else the pod's service account.

    Raises:
        KubeConnectionError: none is there, or what is there cannot be read.
    """
    path = kubeconfig or ("" if _SERVICE_ACCOUNT.exists() else os.environ.get("KUBECONFIG", ""))
    if path:
        return from_kubeconfig(Path(path), context)
    return in_cluster()


def in_cluster() -> KubeConnection:
    """Read what the kubelet mounts into every pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (_SERVICE_ACCOUNT / "token").exists():
        raise KubeConnectionError("not in a cluster and no --kubeconfig or KUBECONFIG given")
    bracketed = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(_SERVICE_ACCOUNT / "ca.crt"))
    return KubeConnection(f"https://{bracketed}:{port}", tls, token_path=_SERVICE_ACCOUNT / "token")


def from_kubeconfig(path: Path, context: str = "") -> KubeConnection:
    """Read one context of a kubeconfig file (YAML or JSON)."""
    try:
        return _from_document(_parse(path), context)
    except (OSError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise KubeConnectionError(f"cannot use kubeconfig {path}: {error!r}") from error


def _parse(path: Path) -> Json:
    text = path.read_text()
    if text.lstrip().startswith("{"):
        document: Json = json.loads(text)
        return document
    import yaml  # noqa: PLC0415 - only people's kubeconfigs are YAML

    loaded: Json = yaml.safe_load(text)
    return loaded


def _from_document(document: Json, context: str) -> KubeConnection:
    chosen = _named(document["contexts"], context or document["current-context"])["context"]
    cluster = _named(document["clusters"], chosen["cluster"])["cluster"]
    user = _named(document["users"], chosen["user"])["user"]
    tls = ssl.create_default_context(cadata=_pem(cluster, "certificate-authority") or None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    if certificate and key:
        _load_client_certificate(tls, certificate + key)
    token_path = Path(user["tokenFile"]) if user.get("tokenFile") else None
    return KubeConnection(cluster["server"], tls, user.get("token", ""), token_path)


def _named(entries: list[Json], name: str) -> Json:
    return next(entry for entry in entries if entry["name"] == name)


def _pem(entry: Json, key: str) -> str:
    if entry.get(f"{key}-data"):
        return base64.b64decode(entry[f"{key}-data"]).decode()
    return Path(entry[key]).read_text() if entry.get(key) else ""


def _load_client_certificate(tls: ssl.SSLContext, pem: str) -> None:
    """`ssl` reads key pairs from files alone: a private one, gone at once."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        tls.load_cert_chain(file.name)
