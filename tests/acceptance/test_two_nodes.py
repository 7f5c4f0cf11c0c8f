"""A second node with a kubelet of its own: moves go where their pods are, one agent wins each, a node that is lost is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kube.api import POD
from tests.acceptance.flows import back_up, restore
from tests.acceptance.settings import cordoned
from tests.acceptance.uploads import stopwatch, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = [pytest.mark.usefixtures("ours"), pytest.mark.alone, pytest.mark.trial]
SECOND = "bench-node-2"


@pytest.fixture(scope="module")
def second_node(cluster: Cluster) -> Iterator[None]:
    try:
        cluster.script("second_node.sh", "up")
        cluster.kubectl("rollout", "status", "daemonset/node-agent", "-n", "velero", "--timeout=180s")
        yield
    finally:
        cluster.script("second_node.sh", "down")
        gone = "a node-agent runs on one node"
        cluster.wait(gone, lambda: len(cluster.select(POD, labels="name=node-agent")) == 1, 120)


@pytest.mark.item("9.3.11")
@pytest.mark.usefixtures("second_node")
def test_moves_run_on_the_node_of_their_pod_and_one_agent_wins_each(cluster: Cluster, source: App) -> None:
    with cordoned(cluster):
        moves = [upload(cluster, source.namespace, "files") for _ in range(3)]
        for move in moves:
            assert move.wait("Completed", seconds=180)["status"]["node"] == SECOND
    with cordoned(cluster, SECOND):
        assert upload(cluster, source.namespace, "files").wait("Completed")["status"]["node"] == "bench-node"


@pytest.mark.item("9.3.7")
@pytest.mark.usefixtures("second_node")
def test_pod_volume_is_restored_on_the_other_node(cluster: Cluster, source: App, target: App) -> None:
    digest = source.digest("/files")
    backup = back_up(cluster, source.namespace, "--default-volumes-to-fs-backup")
    with cordoned(cluster):
        restore(cluster, backup, source.namespace, target.namespace)
        body = cluster.wait_pod(target.namespace, "app")
    assert body["spec"]["nodeName"] == SECOND
    assert target.digest("/files") == digest


@pytest.mark.item("9.3.8")
@pytest.mark.usefixtures("second_node")
def test_node_lost_while_in_progress(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    with cordoned(cluster):
        move = upload(cluster, source.namespace, "files")
        with move.held():
            move.wait("InProgress")
            assert move.status()["node"] == SECOND
            with stopwatch() as taken:
                cluster.script("second_node.sh", "lose")
                status = move.wait("Failed", seconds=60)["status"]
    assert SECOND in status["message"]
    record_property("Failed after", f"{taken[0]} s")
    record_property("message", status["message"])
    upload(cluster, source.namespace, "files").wait("Completed")
