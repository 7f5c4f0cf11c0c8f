"""The cluster once per session, a fresh application per test, nothing left over after each, and the report.

`make test` does not come here (`norecursedirs` in pyproject.toml): `make e2e` does. A cluster that runs already is
used and left running.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance import report
from tests.acceptance.cluster import SCRIPTS, STATE, Cluster
from tests.acceptance.flows import App, unique

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Velero's own defaults are made for large clusters: its server looks at moves every 10 s, at one volume at a time, and
# for expired backups once an hour.
_SERVER_FLAGS = (
    "--item-operation-sync-frequency=1s",
    "--item-block-worker-count=4",
    "--garbage-collection-frequency=20s",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.cluster)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(420))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("the cluster needs root")
    runs = (STATE / "run" / "kubelet.pid").exists()
    done = subprocess.run([str(SCRIPTS / "up.sh")], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, (
        f"tests/cluster/up.sh: {done.stdout}{done.stderr} (make cluster-up builds what it needs)"
    )
    running = Cluster()
    _tune_server(running)
    running.use_agent("ours")
    yield running
    running.close()
    if not runs:
        running.script("down.sh")


def _tune_server(cluster: Cluster) -> None:
    deployment = json.loads(cluster.kubectl("get", "deployment", "velero", "-n", "velero", "-o", "json"))
    given = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    added = [flag for flag in _SERVER_FLAGS if flag not in given]
    if added:
        patch = [
            {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": flag} for flag in added
        ]
        cluster.kubectl(
            "patch", "deployment", "velero", "-n", "velero", "--type=json", "-p", json.dumps(patch)
        )
    cluster.kubectl("rollout", "status", "deployment/velero", "-n", "velero", "--timeout=120s")


@pytest.fixture(autouse=True)
def nothing_left_over(cluster: Cluster) -> Iterator[None]:
    """Counts pods, PVCs, PVs, snapshots, contents and finalizers before and after."""
    before = cluster.leftovers()
    yield
    try:
        cluster.wait("nothing is left over", lambda: cluster.leftovers() == before, 90)
    except AssertionError:
        pytest.fail(f"left over: {cluster.leftovers()}, before: {before}")


@pytest.fixture
def new_app(cluster: Cluster, nothing_left_over: None) -> Iterator[Callable[[], App]]:
    """Makes applications, and removes them with their namespaces."""
    made: list[App] = []

    def make() -> App:
        made.append(App(cluster, unique("app")))
        return made[-1]

    yield make
    for app in made:
        cluster.delete_namespace(app.namespace)


@pytest.fixture
def app(new_app: Callable[[], App]) -> App:
    return new_app()


@pytest.fixture
def target(new_app: Callable[[], App]) -> App:
    """A namespace to restore into; nothing makes it but the restore."""
    return new_app()


@pytest.fixture
def ours(cluster: Cluster) -> None:
    cluster.use_agent("ours")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    outcome = yield
    report.note(item, outcome.get_result())


def pytest_sessionfinish() -> None:
    report.write(os.environ.get("CLUSTER_REPORT", ""))
