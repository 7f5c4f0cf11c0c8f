"""The Helm chart, by the real helm: the same objects as the kustomize bases, and values that its schema refuses."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.apiserver.manifests import DEPLOY, kubeconfig, of_kind, rendered, tried
from tests.parts import lacking
from tests.programs import HELM, ProgramMissingError, program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kube.api import Json
    from tests.apiserver.conftest import Stage

    Helm = Callable[..., subprocess.CompletedProcess[str]]

CHART = DEPLOY / "helm"
KUBERNETES = "1.30.0"  # a helm that is built from its module knows no version of its own to compare with


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    try:
        binary = program(HELM)
    except ProgramMissingError as error:
        lacking(str(error))
    home = tmp_path_factory.mktemp("helm")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"HOME": str(home)}
        command = [str(binary), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def templated(helm: Helm, **values: Any) -> list[Json]:
    sets = [f"--set-json={key.replace('__', '.')}={json.dumps(value)}" for key, value in values.items()]
    version = f"--kube-version={KUBERNETES}"
    done = helm("template", "node-agent", str(CHART), "--namespace=velero", version, *sets)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def by_identity(objects: list[Json]) -> dict[tuple[str, str], Json]:
    return {(item["kind"], item["metadata"]["name"]): item for item in objects}


@pytest.mark.parametrize(
    ("bases", "values"),
    [
        (["base"], {}),
        (["csi-only"], {"fsBackup__enabled": False}),
        (["fs-backup-privileged"], {"fsBackup__privileged": True}),
        (["secret-copies"], {"secretCopies__enabled": True}),
        (
            ["base", "monitoring"],
            {"podMonitor__enabled": True, "prometheusRule__enabled": True, "dashboard__enabled": True},
        ),
    ],
)
def test_chart_makes_the_objects_of_the_kustomize_bases(helm: Helm, bases: list[str], values: Json) -> None:
    made, wanted = (
        by_identity(templated(helm, **values)),
        by_identity([item for base in bases for item in rendered(base)]),
    )
    wanted = {identity: item for identity, item in wanted.items() if identity[0] != "Namespace"}
    assert made.keys() == wanted.keys()
    for identity, item in wanted.items():
        if identity[1] in ("node-agent-config", "node-agent-dashboard"):
            [text], [other] = item["data"].values(), made[identity]["data"].values()
            assert json.loads(text) == json.loads(other)
        else:
            assert made[identity] == item


def test_every_value_shows(helm: Helm) -> None:
    objects = templated(
        helm,
        image={"repository": "r.example/agent", "tag": "2", "pullSecrets": [{"name": "pull"}]},
        fsBackup__kubeletPodsPath="/data/kubelet/pods",
        fsBackup__readOnly=True,
        extraArgs=["--log-format=json"],
        nodeAgentConfig={"loadConcurrency": {"globalConfig": 2}},
        credentialsSecret="cloud",
        serviceAccount={"name": "mine", "annotations": {"eks.amazonaws.com/role-arn": "arn:x"}},
        podLabels={"azure.workload.identity/use": "true"},
        podAnnotations={"iam.amazonaws.com/role": "r"},
        tolerations=[{"operator": "Exists"}],
        priorityClassName="high",
        networkPolicy={"monitoringNamespace": "watch", "apiServerPorts": [16443]},
    )
    [daemon_set] = of_kind(objects, "DaemonSet")
    pod = daemon_set["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == "r.example/agent:2"
    assert container["args"][2:] == ["--node-agent-configmap=node-agent-config", "--log-format=json"]
    assert pod["volumes"][0]["hostPath"]["path"] == "/data/kubelet/pods"
    assert container["volumeMounts"][0]["readOnly"] is True
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("mine", "high")
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert daemon_set["spec"]["template"]["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    [config] = of_kind(objects, "ConfigMap")
    assert json.loads(config["data"]["node-agent-config.json"]) == {"loadConcurrency": {"globalConfig": 2}}
    [account] = of_kind(objects, "ServiceAccount")
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:x"}
    for binding in of_kind(objects, "RoleBinding") + of_kind(objects, "ClusterRoleBinding"):
        assert binding["subjects"][0]["name"] == "mine"
    policy = by_identity(objects)["NetworkPolicy", "node-agent"]["spec"]
    assert policy["egress"][0]["ports"] == [{"protocol": "TCP", "port": 16443}]


def test_monitoring_objects_carry_the_labels_that_prometheus_selects_by(helm: Helm) -> None:
    labels = {"enabled": True, "labels": {"release": "kps"}}
    objects = templated(helm, podMonitor=labels, prometheusRule=labels)
    for kind in ("PodMonitor", "PrometheusRule"):
        [one] = of_kind(objects, kind)
        assert one["metadata"]["labels"] == {"component": "velero", "release": "kps"}


def test_b4_right_to_copy_can_be_kept_to_some_namespaces(helm: Helm) -> None:
    objects = templated(helm, secretCopies={"enabled": True, "namespaces": ["app", "db"]})
    name = "velero-node-agent-secret-copies"
    places = [
        item["metadata"]["namespace"] for item in of_kind(objects, "Role") if item["metadata"]["name"] == name
    ]
    assert places == ["app", "db"]
    assert name not in [item["metadata"]["name"] for item in of_kind(objects, "ClusterRole")]


@pytest.mark.parametrize(
    "wrong",
    [
        "imgae.tag=x",
        "image.pullPolicy=Sometimes",
        "fsBackup.enabled=perhaps",
        "fsBackup.kubeletPodsPath=relative",
        "fsBackup.readOnly=perhaps",
        "secretCopies.namespaces[0]=App",
        "extraArgs[0]=server",
        "networkPolicy.apiServerPorts[0]=70000",
        "podMonitor.label.release=x",
    ],
)
def test_schema_refuses_what_is_misspelt(helm: Helm, wrong: str) -> None:
    done = helm("template", "x", str(CHART), f"--kube-version={KUBERNETES}", "--set", wrong)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_lint_has_nothing_to_say(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


def test_chart_s_objects_are_accepted_by_the_api_server(stage: Stage, helm: Helm, tmp_path: Path) -> None:
    objects = templated(helm, fsBackup__privileged=True, podAnnotations={"a": "b"}, priorityClassName="high")
    config = kubeconfig(stage.plane, tmp_path)
    done = tried(config, objects, "apply", "--server-side", "--force-conflicts")
    assert done.returncode == 0, done.stderr
