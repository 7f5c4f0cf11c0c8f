"""Where the API server is and who we are: in-cluster files or kubeconfigs, as values.

Understood are tokens, token files and client certificates. A user who signs in some other way (an exec
plug-in of EKS, GKE or AKS, an auth provider, a password) is refused by name: without that it would be
anonymous requests that fail with "forbidden". Files are found as by kubectl: relative to the kubeconfig that
names them, lists in `KUBECONFIG` merged (who comes first wins), `~/.kube/config` at last.
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
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

Json = dict[str, Any]

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeConnectionError(Exception):
    """No usable connection is configured; says what is missing."""


@dataclass(frozen=True)
class KubeConnection:
    """How to reach the API server. `token_path` is read again and again: bound tokens rotate.

    `proxy` is the URL of an HTTP proxy on the way, empty for none.
    """

    server: str
    tls: ssl.SSLContext = field(repr=False)
    token: str = field(default="", repr=False)
    token_path: Path | None = None
    proxy: str = ""


def connect(kubeconfig: str = "", context: str = "") -> KubeConnection:
    """Choose: the kubeconfig named, the pod's service account, `$KUBECONFIG`, `~/.kube/config`.

    Raises:
        KubeConnectionError: none is there, or what is there cannot be read.
    """
    if kubeconfig:
        return from_kubeconfig(Path(kubeconfig), context=context)
    if _SERVICE_ACCOUNT.exists():
        return in_cluster()
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    paths = [path for path in listed or [Path.home() / ".kube" / "config"] if path.exists()]
    if not paths and listed:
        raise KubeConnectionError(f"no file of KUBECONFIG exists: {', '.join(map(str, listed))}")
    return from_kubeconfig(*paths, context=context) if paths else in_cluster()


def in_cluster() -> KubeConnection:
    """Read what the kubelet mounts into every pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (_SERVICE_ACCOUNT / "token").exists():
        raise KubeConnectionError("not in a cluster and no --kubeconfig or KUBECONFIG given")
    bracketed = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(_SERVICE_ACCOUNT / "ca.crt"))
    return KubeConnection(f"https://{bracketed}:{port}", tls, token_path=_SERVICE_ACCOUNT / "token")


def from_kubeconfig(*paths: Path, context: str = "") -> KubeConnection:
    """Read one context of kubeconfig files (YAML or JSON), merged: who comes first wins.

    Raises:
        KubeConnectionError: a file cannot be read, or the user signs in in a way that is not understood.
    """
    names = os.pathsep.join(map(str, paths))
    try:
        return _from_document(_merged([(_parse(path), path.parent) for path in paths]), context)
    except OSError as error:
        raise KubeConnectionError(f"cannot use kubeconfig {names}: {error}") from error
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise KubeConnectionError(f"cannot use kubeconfig {names}: {error!r}") from error


def _merged(documents: list[tuple[Json, Path]]) -> Json:
    """Join files; each entry is told the directory that its relative paths start from."""
    merged: Json = {"current-context": ""}
    for document, directory in documents:
        merged["current-context"] = merged["current-context"] or document.get("current-context") or ""
        for kind in ("contexts", "clusters", "users"):
            entries = [entry | {"directory": directory} for entry in document.get(kind) or []]
            merged.setdefault(kind, []).extend(entries)
    return merged


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
    clusters = _named(document["clusters"], chosen["cluster"])
    users = _named(document["users"], chosen["user"])
    cluster, user = clusters["cluster"], users.get("user") or {}
    _refuse_unknown_sign_in(user, chosen["user"])
    authority = _pem(cluster, "certificate-authority", clusters["directory"])
    tls = ssl.create_default_context(cadata=authority or None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    certificate, key = (_pem(user, name, users["directory"]) for name in ("client-certificate", "client-key"))
    if certificate and key:
        _load_client_certificate(tls, certificate + key)
    token_path = users["directory"] / user["tokenFile"] if user.get("tokenFile") else None
    proxy = cluster.get("proxy-url") or _proxy_of_environment(cluster["server"])
    return KubeConnection(cluster["server"], tls, user.get("token", ""), token_path, proxy)


def _refuse_unknown_sign_in(user: Json, name: str) -> None:
    ways = {
        "exec": f"exec plug-in {(user.get('exec') or {}).get('command', '')}",
        "auth-provider": f"auth provider {(user.get('auth-provider') or {}).get('name', '')}",
        "username": "user name and password",
        "as": "impersonation",
    }
    for key, way in ways.items():
        if user.get(key):
            raise KubeConnectionError(
                f"user {name} of the kubeconfig signs in by {way}, which is not understood here; use a "
                "context with a token or a client certificate (kubectl create token)"
            )


def _proxy_of_environment(server: str) -> str:
    """Follow `HTTPS_PROXY` and `NO_PROXY`, as kubectl does."""
    parts = urlsplit(server)
    if proxy_bypass(parts.hostname or ""):
        return ""
    return getproxies().get(parts.scheme, "")


def _named(entries: list[Json], name: str) -> Json:
    found = next((entry for entry in entries if entry["name"] == name), None)
    if found is None:
        raise ValueError(f"no entry {name!r}")
    return found


def _pem(entry: Json, key: str, directory: Path) -> str:
    if entry.get(f"{key}-data"):
        return base64.b64decode(entry[f"{key}-data"]).decode()
    return (directory / entry[key]).read_text() if entry.get(key) else ""


def _load_client_certificate(tls: ssl.SSLContext, pem: str) -> None:
    """`ssl` reads key pairs from files alone: a private one, gone at once."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        tls.load_cert_chain(file.name)
