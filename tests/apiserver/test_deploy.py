"""`deploy/` on a real API server: every object is accepted, and pods pass the pod security that is claimed for them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import yaml

from exposer.hosting_pod_manifest import HostingPodPlan, HostingVolume, hosting_pod
from exposer.settings import ExposeSettings
from exposer.template import template_from_daemon_set
from kube.api import AlreadyExistsError, OwnerReference
from tests.apiserver.conftest import NAMESPACE
from tests.apiserver.manifests import DEPLOY, OVERLAYS, kubeconfig, of_kind, rendered, tried

if TYPE_CHECKING:
    from pathlib import Path

    from kube.api import Json
    from tests.apiserver.conftest import Stage


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_are_accepted_by_the_api_server(stage: Stage, tmp_path: Path, overlay: str) -> None:
    config = kubeconfig(stage.plane, tmp_path)
    done = tried(config, rendered(overlay), "apply", "--server-side", "--force-conflicts")
    assert done.returncode == 0, done.stderr
    assert "unknown field" not in done.stderr


def test_the_one_file_is_the_base_as_it_is_rendered() -> None:
    """`kubectl apply -f deploy/daemonset.yaml` installs what `kubectl apply -k deploy/base` does."""
    whole = list(yaml.safe_load_all((DEPLOY / "daemonset.yaml").read_text()))
    assert whole == rendered("base"), "render it anew: kubectl kustomize deploy/base"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_names_that_velero_reads_are_kept(overlay: str) -> None:
    """Contract 4.2, 4.6: the server finds agents by these; agents of either make read the template."""
    [daemon_set] = of_kind(rendered(overlay), "DaemonSet")
    template = daemon_set["spec"]["template"]
    [container] = template["spec"]["containers"]
    assert (daemon_set["metadata"]["name"], container["name"]) == ("node-agent", "node-agent")
    assert (container["command"], container["args"][:2]) == (["/velero"], ["node-agent", "server"])
    labels = {"name": "node-agent", "role": "node-agent"}
    assert template["metadata"]["labels"].items() >= labels.items()
    host_paths = [volume["name"] for volume in template["spec"]["volumes"] if "hostPath" in volume]
    assert host_paths == ([] if overlay == "csi-only" else ["host-pods"])


def test_rights_name_no_wildcard_and_only_the_deployed_account() -> None:
    objects = rendered("base")
    for role in of_kind(objects, "ClusterRole") + of_kind(objects, "Role"):
        for rule in role["rules"]:
            assert not {"*"} & {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
    account = {"kind": "ServiceAccount", "name": "node-agent", "namespace": "velero"}
    for binding in of_kind(objects, "ClusterRoleBinding") + of_kind(objects, "RoleBinding"):
        assert binding["subjects"] == [account]


def test_each_right_has_its_reason() -> None:
    lines = (DEPLOY / "base" / "rbac.yaml").read_text().splitlines()
    rules = [
        place for place, line in enumerate(lines) if line.startswith(("  - {apiGroups:", "  - apiGroups:"))
    ]
    assert len(rules) > 15
    assert all(lines[place - 1].lstrip().startswith("# ") for place in rules)


@pytest.fixture
async def guarded(stage: Stage) -> list[str]:
    """Namespaces that enforce a level of pod security."""
    levels = ["restricted", "baseline"]
    for level in levels:
        labels = {"pod-security.kubernetes.io/enforce": level}
        with contextlib.suppress(AlreadyExistsError):
            await stage.kube.create(NAMESPACE, "", {"metadata": {"name": level, "labels": labels}})
    return levels


def agent_pod(overlay: str, namespace: str) -> Json:
    [daemon_set] = of_kind(rendered(overlay), "DaemonSet")
    template = daemon_set["spec"]["template"]
    metadata = {"name": "agent", "namespace": namespace, "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def mover_pod(namespace: str) -> Json:
    """The pod that the agent makes for a CSI volume from the deployed template."""
    [daemon_set] = of_kind(rendered("csi-only"), "DaemonSet")
    owner = OwnerReference("velero.io/v2alpha1", "DataUpload", "du", "uid")
    volume = HostingVolume(claim="du")
    plan = HostingPodPlan("du", namespace, "uid", owner, ("/velero", "mover-pod", "backup"), volume)
    return hosting_pod(plan, template_from_daemon_set(daemon_set), ExposeSettings())


@pytest.mark.usefixtures("guarded")
def test_csi_only_passes_its_pod_security(stage: Stage, tmp_path: Path) -> None:
    config = kubeconfig(stage.plane, tmp_path)
    for pod in (agent_pod("csi-only", "restricted"), mover_pod("baseline")):
        done = tried(config, [pod], "create")
        assert done.returncode == 0, done.stderr
    refused = tried(config, [agent_pod("base", "baseline")], "create")
    assert "hostPath volumes" in refused.stderr, (
        "host paths need the privileged level, and that is enforced here"
    )


def test_csi_only_enforces_on_its_namespace_what_its_movers_pass() -> None:
    [namespace] = of_kind(rendered("csi-only"), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"


def test_every_manifest_is_yaml() -> None:
    for path in DEPLOY.rglob("*.yaml"):
        if "templates" not in path.parts:
            assert list(yaml.safe_load_all(path.read_text())), path
