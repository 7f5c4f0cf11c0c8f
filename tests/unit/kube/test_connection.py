"""Kubeconfigs of people: found where kubectl finds them, and never used as nobody in silence."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import web
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import incluster_config

from kube.api import POD, ForbiddenError
from kube.client import KubeClient
from kube.connection import KubeConnectionError, configured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def _outside_of_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "none"))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
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


async def connect(kubeconfig: str = "", context: str = "") -> Configuration:
    return await configured(kubeconfig, context)()


def token(found: Configuration) -> str:
    return str(found.api_key["BearerToken"])


async def test_relative_paths_start_at_the_file_that_names_them(tmp_path: Path) -> None:
    path = write(tmp_path / "deep" / "config", config(user={"tokenFile": "secret/token"}))
    (tmp_path / "deep" / "secret").mkdir()
    (tmp_path / "deep" / "secret" / "token").write_text("from-file")
    assert token(await connect(str(path))) == "Bearer from-file"
    write(path, config(**{"certificate-authority": "missing.pem"}))
    with pytest.raises(KubeConnectionError, match=r"deep/missing\.pem"):
        await connect(str(path))


def plugin(tmp_path: Path, script: str) -> dict[str, Any]:
    program = tmp_path / "plugin"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}}


def credential(text: str) -> str:
    status = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": text},
    }
    return f"cat <<'E'\n{json.dumps(status)}\nE"


async def test_exec_plug_in_signs_in(tmp_path: Path) -> None:
    path = write(tmp_path / "config", config(user=plugin(tmp_path, credential("of-the-plug-in"))))
    assert token(await connect(str(path))) == "Bearer of-the-plug-in"


@pytest.mark.parametrize(
    ("user", "way"),
    [
        ({"exec": {"apiVersion": "x", "command": "/nowhere/aws"}}, "exec plug-in /nowhere/aws gave no"),
        ({"auth-provider": {"name": "azure", "config": {}}}, "auth provider azure gave no"),
        ({"token": "t", "as": "admin"}, "impersonation"),
    ],
)
async def test_sign_in_that_fails_is_said_and_nobody_is_anonymous(
    tmp_path: Path, user: dict[str, Any], way: str
) -> None:
    path = write(tmp_path / "config", config(user=user))
    with pytest.raises(KubeConnectionError, match=way):
        await connect(str(path))


async def test_user_name_and_password_sign_in(tmp_path: Path) -> None:
    path = write(tmp_path / "config", config(user={"username": "u", "password": "p"}))
    assert token(await connect(str(path))) == "Basic " + base64.b64encode(b"u:p").decode()


async def test_home_is_looked_at_and_a_list_is_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "home" / ".kube" / "config", config("home"))
    assert (await connect()).host == "https://home.example:6443"
    first, second = write(tmp_path / "a", config("first")), tmp_path / "b"
    second.write_text(json.dumps(config("second")))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, (tmp_path / "missing", first, second))))
    assert token(await connect()) == "Bearer token-of-first"
    assert token(await connect(context="second")) == "Bearer token-of-second"
    with pytest.raises(KubeConnectionError, match="no entry 'third'"):
        await connect(context="third")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(KubeConnectionError, match="no file of KUBECONFIG exists"):
        await connect()


async def test_proxy_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "config", config(**{"proxy-url": "http://near:3128"}))
    assert (await connect(str(path))).proxy == "http://near:3128"


@pytest.fixture
async def strict_server() -> AsyncIterator[tuple[str, list[str]]]:
    """An API server that knows one token at a time, and what it was asked with."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization", ""))
        if asked[-1] != "Bearer second":
            return web.json_response({"message": "Unauthorized", "reason": "Unauthorized"}, status=401)
        return web.json_response({"metadata": {"name": "x"}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


async def test_token_that_expired_is_read_anew_once_and_a_wrong_one_is_said(
    strict_server: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, asked = strict_server
    monkeypatch.setattr("kube.client._RELOAD_SECONDS", 0.0)
    path = write(tmp_path / "config", config(user={"token": "first"}, server=server))
    async with KubeClient(configured(str(path))) as kube:
        with pytest.raises(ForbiddenError):
            await kube.get(POD, "velero", "x")
        write(path, config(user={"token": "second"}, server=server))
        assert (await kube.get(POD, "velero", "x"))["metadata"]["name"] == "x"
    assert asked == ["Bearer first", "Bearer first", "Bearer first", "Bearer second"]
