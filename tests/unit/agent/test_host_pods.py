from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.control.host_pods import check_host_pods
from kube.api import POD, KubeError
from tests.fakes.kube import FakeKube

if TYPE_CHECKING:
    from pathlib import Path


def put_pod(kube: FakeKube, name: str, uid: str, **annotations: str) -> None:
    meta = {"name": name, "namespace": "app", "uid": uid, "annotations": annotations}
    kube.put(POD, {"metadata": meta, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}})


@pytest.mark.parametrize(("directory", "warned"), [("elsewhere", True), ("uid-1", False)])
async def test_directory_that_is_not_the_kubelets_is_warned_of_by_its_pods(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, directory: str, *, warned: bool
) -> None:
    kube = FakeKube()
    put_pod(kube, "web", "uid-1")
    put_pod(kube, "etcd", "uid-2", **{"kubernetes.io/config.mirror": "hash"})
    for name in (directory, "hash"):
        (tmp_path / name).mkdir()
    await check_host_pods(kube, "n", tmp_path)
    found = [vars(record).get("pods") for record in caplog.records if "host-pods" in record.message]
    assert found == ([["web"]] if warned else [])


async def test_agent_without_host_paths_or_an_api_looks_at_nothing(tmp_path: Path) -> None:
    kube = FakeKube()
    kube.fail = lambda *_: KubeError("away")
    await check_host_pods(kube, "n", tmp_path / "none")
    await check_host_pods(kube, "n", tmp_path)
