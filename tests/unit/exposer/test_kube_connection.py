"""Kubeconfigs of people: found where kubectl finds them, and never used as nobody in silence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exposer import kube_connection
from exposer.kube_connection import KubeConnectionError, connect

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _outside_of_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kube_connection, "_SERVICE_ACCOUNT", tmp_path / "none")
    proxies = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", *proxies):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir("/")


def config(name: str = "one", user: dict[str, Any] | None = None, **cluster: str) -> dict[str, Any]:
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example:6443"} | cluster}],
        "users": [{"name": name, "user": {"token": f"token-of-{name}"} if user is None else user}],
    }


def write(path: Path, document: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return path


def test_relative_paths_start_at_the_file_that_names_them(tmp_path: Path) -> None:
    path = write(tmp_path / "deep" / "config", config(user={"tokenFile": "secret/token"}))
    assert connect(str(path)).token_path == tmp_path / "deep" / "secret" / "token"
    write(path, config(**{"certificate-authority": "missing.pem"}))
    with pytest.raises(KubeConnectionError, match=r"deep/missing\.pem"):
        connect(str(path))


@pytest.mark.parametrize(
    ("user", "way"),
    [
        ({"exec": {"command": "aws", "args": ["eks"]}}, "exec plug-in aws"),
        ({"auth-provider": {"name": "oidc"}}, "auth provider oidc"),
        ({"username": "u", "password": "p"}, "user name and password"),
        ({"token": "t", "as": "admin"}, "impersonation"),
    ],
)
def test_sign_in_that_is_not_understood_is_refused_by_name(tmp_path: Path, user: dict, way: str) -> None:
    path = write(tmp_path / "config", config(user=user))
    with pytest.raises(KubeConnectionError, match=f"user one of the kubeconfig signs in by {way}"):
        connect(str(path))


def test_home_is_looked_at_and_a_list_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "home" / ".kube" / "config", config("home"))
    assert connect().server == "https://home.example:6443"
    first, second = write(tmp_path / "a", config("first")), tmp_path / "b"
    second.write_text(json.dumps(config("second")))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{first}:{second}")
    assert connect().token == "token-of-first"
    assert connect(context="second").token == "token-of-second"
    with pytest.raises(KubeConnectionError, match="no entry 'third'"):
        connect(context="third")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(KubeConnectionError, match="no file of KUBECONFIG exists"):
        connect()


def test_proxies_are_those_of_the_file_or_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "config", config(**{"proxy-url": "http://near:3128"}))
    assert connect(str(path)).proxy == "http://near:3128"
    monkeypatch.setenv("HTTPS_PROXY", "http://far:3128")
    write(path, config())
    assert connect(str(path)).proxy == "http://far:3128"
    monkeypatch.setenv("NO_PROXY", ".example")
    assert connect(str(path)).proxy == ""
