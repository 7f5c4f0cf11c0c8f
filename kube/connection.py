"""Where the API server is and who we are, by the field's own client: `kubernetes.aio.config`.

The library reads in-cluster files and kubeconfigs, runs credential plug-ins (EKS, GKE, AKS) and knows OIDC.
Ours is what it leaves open: which of several sources counts, as kubectl chooses; and that a sign-in which
failed is said instead of going on as an anonymous user whose every request is "forbidden".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from kubernetes.aio import config as library
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import incluster_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Json = dict[str, Any]


class KubeConnectionError(Exception):
    """No usable connection is configured; says what is missing."""


def configured(kubeconfig: str = "", context: str = "") -> Callable[[], Awaitable[Configuration]]:
    """Return what reads the configuration, each time anew: files rotate and plug-ins give tokens that expire.

    Chosen is the kubeconfig named, else the pod's service account, `$KUBECONFIG`, `~/.kube/config`. Reading
    raises `KubeConnectionError` where none is there or what is there cannot be used.
    """

    async def load() -> Configuration:
        if kubeconfig:
            return await from_kubeconfigs([Path(kubeconfig)], context)
        paths = _kubeconfigs_of_people()
        return await from_kubeconfigs(paths, context) if paths else in_cluster()

    return load


def _kubeconfigs_of_people() -> list[Path]:
    """Where kubectl would look; nothing in a pod, whose service account goes before."""
    if Path(incluster_config.SERVICE_TOKEN_FILENAME).exists():
        return []
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    paths = [path for path in listed or [Path.home() / ".kube" / "config"] if path.exists()]
    if not paths and listed:
        raise KubeConnectionError(f"no file of KUBECONFIG exists: {', '.join(map(str, listed))}")
    return paths


def in_cluster() -> Configuration:
    """Read what the kubelet mounts into every pod; the token is read again each minute.

    Raises:
        KubeConnectionError: not in a pod.
    """
    found = Configuration()
    try:
        library.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
    except library.ConfigException as error:
        raise KubeConnectionError(
            f"not in a cluster ({error}) and no --kubeconfig or KUBECONFIG given"
        ) from error
    return found


async def from_kubeconfigs(paths: list[Path], context: str = "") -> Configuration:
    """Read one context of kubeconfig files (YAML or JSON), merged: who comes first wins.

    Raises:
        KubeConnectionError: a file cannot be read, or the user cannot sign in.
    """
    names = os.pathsep.join(map(str, paths))
    found = Configuration()
    try:
        documents = [yaml.safe_load(path.read_text()) or {} for path in paths]
        chosen = context or next((d["current-context"] for d in documents if d.get("current-context")), "")
        user, cluster = _entries(documents, chosen)
        _refuse_impersonation(user, names)
        await library.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=names, context=chosen, client_configuration=found, persist_config=False
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise KubeConnectionError(f"cannot use kubeconfig {names}: {error}") from error
    except library.ConfigException as error:
        raise KubeConnectionError(f"cannot use kubeconfig {names}: {error}") from error
    _refuse_anonymous(found, user, names)
    if cluster.get("insecure-skip-tls-verify"):
        found.verify_ssl = False
    return found


def _entries(documents: list[Json], context: str) -> tuple[Json, Json]:
    """The user and the cluster of a context."""

    def named(kind: str, name: str) -> Json:
        for document in documents:
            for entry in document.get(kind) or []:
                if entry["name"] == name:
                    value: Json = entry[kind[:-1]] or {}
                    return value
        raise ValueError(f"no entry {name!r} in {kind}")

    place = named("contexts", context)
    return (named("users", place["user"]) if place.get("user") else {}), named("clusters", place["cluster"])


def _refuse_impersonation(user: Json, names: str) -> None:
    if user.get("as"):
        raise KubeConnectionError(f"kubeconfig {names}: impersonation (`as`) is not understood here")


def _refuse_anonymous(found: Configuration, user: Json, names: str) -> None:
    """The library logs a sign-in that failed and goes on without one."""
    signed = found.api_key or found.cert_file
    ways = {
        "exec": f"exec plug-in {(user.get('exec') or {}).get('command', '')}",
        "auth-provider": f"auth provider {(user.get('auth-provider') or {}).get('name', '')}",
        "token": "token",
        "tokenFile": "token file",
        "client-certificate": "client certificate",
        "client-certificate-data": "client certificate",
        "username": "user name and password",
    }
    asked = [way for key, way in ways.items() if user.get(key)]
    if asked and not signed:
        raise KubeConnectionError(
            f"kubeconfig {names}: sign-in by {asked[0]} gave no credentials (the log has its words); "
            "use a context with a token or a client certificate (kubectl create token)"
        )
