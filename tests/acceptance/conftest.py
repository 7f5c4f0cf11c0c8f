"""The cluster once per session, a fresh application per test, nothing left over after each, and the report.

`make test` does not come here (`norecursedirs` in pyproject.toml): `make e2e` does (`run.py`), side by side first (pytest-xdist:
each worker has this session for itself), then the tests marked `alone`. A cluster that runs already is used and left running.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.acceptance import report as reporting
from tests.acceptance.applications import claim, pod
from tests.acceptance.cluster import SCRIPTS, STATE, Cluster
from tests.acceptance.flows import App, unique
from tests.acceptance.leftovers import NOBODY, leftovers
from tests.acceptance.settings import write_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Velero's own defaults are made for large clusters: its server looks at moves every 10 s, at one volume at a time, and
# for expired backups once an hour; and its only finalizer of restores waits ten minutes for a volume that a failed
# test has deleted, while all other restores wait for it.
_SERVER_FLAGS = (
    "--item-operation-sync-frequency=1s",
    "--item-block-worker-count=6",
    "--concurrent-backups=4",
    "--garbage-collection-frequency=20s",
    "--resource-timeout=3m",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.cluster)
        number = item.get_closest_marker("item")
        item.user_properties.append((reporting.ITEM, number.args[0] if number else ""))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("the cluster needs root")
    runs = (STATE / "run" / "kubelet.pid").exists()
    with _one_at_a_time():
        done = subprocess.run(
            [str(SCRIPTS / "up.sh")], capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, (
            f"tests/cluster/up.sh: {done.stdout}{done.stderr} (make cluster-up builds what it needs)"
        )
        running = Cluster()
        _tune_server(running)
        running.use_agent("ours")
        write_config(running, _concurrency())
    yield running
    running.close()
    if not runs and "PYTEST_XDIST_WORKER" not in os.environ:
        running.script("down.sh")


def _concurrency() -> dict[str, object]:
    """The node-agent's default, one move at a time, or what tests side by side need."""
    slots = os.environ.get("CLUSTER_SLOTS")
    return {"loadConcurrency": {"globalConfig": int(slots)}} if slots else {}


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Workers that begin together set the cluster up one after the other."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
def applications(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[set[str]]:
    """The namespaces of the test's applications; nothing of theirs may be left over, and, alone, of nobody's."""
    namespaces: set[str] = set()
    alone = request.node.get_closest_marker("alone") is not None
    before = leftovers(cluster)

    def new() -> set[str]:
        return {
            what
            for what, owner in leftovers(cluster).items()
            if what not in before and (alone or owner == NOBODY or owner in namespaces)
        }

    yield namespaces
    left = new()

    def all_gone() -> bool:
        nonlocal left
        left = left & new() if left else left
        return not left

    try:
        cluster.wait(lambda: f"nothing is left over, but {sorted(left)}", all_gone, 45)
    except AssertionError as error:
        pytest.fail(str(error))


@pytest.fixture
def new_app(cluster: Cluster, applications: set[str]) -> Iterator[Callable[[], App]]:
    """Makes applications, and removes them with their namespaces."""

    def make() -> App:
        app = App(cluster, unique("app"))
        applications.add(app.namespace)
        return app

    yield make
    for namespace in applications:
        cluster.delete_namespace(namespace)


@pytest.fixture
def app(new_app: Callable[[], App]) -> App:
    return new_app()


@pytest.fixture
def target(new_app: Callable[[], App]) -> App:
    """A namespace to restore into; nothing makes it but the restore."""
    return new_app()


@pytest.fixture(scope="session")
def source(cluster: Cluster) -> Iterator[App]:
    """One application with a small volume for all tests that only look at moves of it."""
    cluster.use_agent("ours")
    app = App(cluster, unique("source"))
    app.start(claim(app.namespace, "files"), pod(app.namespace, "app", claims=("files",)))
    app.write_tree("/files", count=10)
    yield app
    cluster.delete_namespace(app.namespace)


@pytest.fixture
def ours(cluster: Cluster) -> None:
    cluster.use_agent("ours")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Comes here in the process that the workers report to, or in the only one."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        reporting.note(report)


def pytest_sessionfinish() -> None:
    reporting.write_lines(os.environ.get("CLUSTER_REPORT_LINES", ""))
