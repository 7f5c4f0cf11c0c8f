"""Conditions that tests set for a while: a cordoned node, another configuration, Secrets, images, daemons that stand still."""

from __future__ import annotations

import base64
import json
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kube.api import CONFIG_MAP, SECRET
from tests.acceptance.cluster import POD, STATE, VELERO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.cluster import Cluster


@contextmanager
def cordoned(cluster: Cluster, node: str = "bench-node") -> Iterator[None]:
    """No new pod is scheduled there; pods of DaemonSets are."""
    cluster.kubectl("cordon", node)
    try:
        yield
    finally:
        cluster.kubectl("uncordon", node)


def kill_agent(cluster: Cluster) -> None:
    """Kills the agent's pod and waits for the next one."""
    old = cluster.agent_pod()["metadata"]
    cluster.delete(POD, old["name"], grace_seconds=0)
    cluster.wait("another node-agent runs", lambda: cluster.agent_pod()["metadata"]["uid"] != old["uid"])


@contextmanager
def configured(cluster: Cluster, **settings: object) -> Iterator[None]:
    """The node-agent ConfigMap says this for a while; ours reads it while it runs."""
    write_config(cluster, settings)
    try:
        yield
    finally:
        write_config(cluster, {})


def write_config(cluster: Cluster, settings: dict[str, object]) -> None:
    wanted = {"config.json": json.dumps(settings)}
    if cluster.get(CONFIG_MAP, "node-agent-config")["data"] == wanted:
        return
    lines = len(_config_lines(cluster))
    cluster.patch(CONFIG_MAP, "node-agent-config", {"data": wanted})
    cluster.wait("the configuration is in force", lambda: len(_config_lines(cluster)) > lines, 30)


def _config_lines(cluster: Cluster) -> list[str]:
    log = cluster.kubectl("logs", "-n", VELERO, cluster.agent_pod()["metadata"]["name"])
    return [line for line in log.splitlines() if "ConfigMap is in force" in line]


@contextmanager
def secret_says(cluster: Cluster, name: str, key: str, value: str) -> Iterator[None]:
    """A Secret holds something else for a while."""
    before = cluster.get(SECRET, name)["data"][key]
    cluster.patch(SECRET, name, {"data": {key: base64.b64encode(value.encode()).decode()}})
    try:
        yield
    finally:
        cluster.patch(SECRET, name, {"data": {key: before}})


@contextmanager
def hosting_image(cluster: Cluster, image: str) -> Iterator[None]:
    """Hosting pods get another image, while the agent's own pod stays as it is."""

    def set_image(name: str, strategy: dict[str, object]) -> None:
        spec = {
            "updateStrategy": strategy,
            "template": {"spec": {"containers": [{"name": "node-agent", "image": name}]}},
        }
        cluster.kubectl("patch", "daemonset", "node-agent", "-n", VELERO, "-p", json.dumps({"spec": spec}))

    running = cluster.agent_pod()["spec"]["containers"][0]["image"]
    set_image(image, {"type": "OnDelete", "rollingUpdate": None})
    try:
        yield
    finally:
        set_image(running, {"type": "RollingUpdate"})


@contextmanager
def agent_flags(cluster: Cluster, *flags: str) -> Iterator[None]:
    """The node-agent runs with more flags for a while."""

    def set_flags(given: list[str]) -> None:
        patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": given}]
        cluster.kubectl(
            "patch", "daemonset", "node-agent", "-n", VELERO, "--type=json", "-p", json.dumps(patch)
        )
        cluster.kubectl("rollout", "status", "daemonset/node-agent", "-n", VELERO, "--timeout=120s")

    before = json.loads(cluster.kubectl("get", "daemonset", "node-agent", "-n", VELERO, "-o", "json"))
    running = before["spec"]["template"]["spec"]["containers"][0]["args"]
    set_flags([*running, *flags])
    try:
        yield
    finally:
        set_flags(running)


@contextmanager
def stopped(daemon: str) -> Iterator[None]:
    """A daemon of the cluster stands still."""
    process = int((STATE / "run" / f"{daemon}.pid").read_text())
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)
