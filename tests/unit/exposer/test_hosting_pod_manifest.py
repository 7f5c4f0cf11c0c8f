from __future__ import annotations

from dataclasses import replace

import pytest

from exposer.cache_volume import cache_size_gib
from exposer.hosting_pod_manifest import HostingPodPlan, HostingVolume, SecretMount, hosting_pod
from exposer.settings import CacheSettings, ExposeSettings
from exposer.template import TemplateError, template_from_daemon_set
from kube.api import OwnerReference
from kube.labels import label_value
from tests.fakes.scene import daemon_set

OWNER = OwnerReference("velero.io/v1", "PodVolumeBackup", "move-1", "uid-1")
PLAN = HostingPodPlan(
    "move-1", "velero", "uid-1", OWNER, ("/velero", "mover-pod", "backup"), HostingVolume(claim="move-1")
)
TEMPLATE = template_from_daemon_set(daemon_set())


def built(plan: HostingPodPlan = PLAN, settings: ExposeSettings | None = None) -> dict:
    return hosting_pod(plan, TEMPLATE, settings or ExposeSettings())


def test_pod_inherits_image_environment_and_credentials_but_no_host_path() -> None:
    pod = built()
    container = pod["spec"]["containers"][0]
    assert container["image"] == "example.test/node-agent:1"
    assert container["env"][0]["name"] == "AWS_SHARED_CREDENTIALS_FILE"
    assert {"name": "cloud-credentials", "mountPath": "/credentials"} in container["volumeMounts"]
    assert not any("hostPath" in volume for volume in pod["spec"]["volumes"])
    assert [t["key"] for t in pod["spec"]["tolerations"]] == ["CriticalAddonsOnly"]
    assert pod["metadata"]["labels"]["azure.workload.identity/use"] == "true"


def test_mover_that_its_volume_binds_to_a_node_tolerates_what_the_agent_there_tolerates() -> None:
    cordon = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
    for plan in (replace(PLAN, node_name="node-7"), replace(PLAN, selected_node="node-7")):
        assert built(plan)["spec"]["tolerations"] == [*TEMPLATE.node_tolerations, cordon]
    assert [t["key"] for t in TEMPLATE.node_tolerations] == ["CriticalAddonsOnly", "dedicated"]


def test_autoscalers_are_told_to_leave_movers_alone_unless_the_operator_says_otherwise() -> None:
    leave_alone = {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }
    assert built()["metadata"]["annotations"].items() >= leave_alone.items()
    own = {"karpenter.sh/do-not-disrupt": "false", "x": "y"}
    assert built(settings=ExposeSettings(pod_annotations=own))["metadata"]["annotations"] == leave_alone | own


def test_nodes_are_named_by_their_names_and_not_by_a_label_that_may_differ() -> None:
    plan = replace(PLAN, topology=({"matchExpressions": [{"key": "zone"}]}, {}), avoid_nodes=("a", "b"))
    affinity = built(plan)["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    avoided = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in ("a", "b")]
    assert [term["matchFields"] for term in terms] == [avoided, avoided]
    assert "kubernetes.io/hostname" not in str(terms)


def test_pod_inherits_how_names_are_found_and_what_runs_it() -> None:
    body = daemon_set()
    inherited = {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["s3"]}], "runtimeClassName": "kata"}
    body["spec"]["template"]["spec"] |= inherited
    spec = hosting_pod(PLAN, template_from_daemon_set(body), ExposeSettings())["spec"]
    assert {key: spec[key] for key in inherited} == inherited


def test_names_of_container_volume_and_path_are_the_uid() -> None:
    pod = built()
    container = pod["spec"]["containers"][0]
    assert container["name"] == pod["spec"]["volumes"][0]["name"] == "uid-1"
    assert container["volumeMounts"][0] == {"name": "uid-1", "mountPath": "/uid-1"}


@pytest.mark.parametrize("name", ["tmp", "request", "scratch-of-operator"])
def test_operators_own_tmp_takes_nobody_s_name_or_place(name: str) -> None:
    """A DaemonSet with a read-only root often mounts its own `/tmp`; a second one would be refused."""
    body = daemon_set()
    spec = body["spec"]["template"]["spec"]
    spec["volumes"].append({"name": name, "emptyDir": {"medium": "Memory"}})
    spec["containers"][0]["volumeMounts"].append({"name": name, "mountPath": "/tmp"})
    pod = hosting_pod(PLAN, template_from_daemon_set(body), ExposeSettings())
    names = [volume["name"] for volume in pod["spec"]["volumes"]]
    paths = [mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]]
    assert len(names) == len(set(names))
    assert len(paths) == len(set(paths))
    assert {"name": "tmp", "mountPath": "/tmp"} in pod["spec"]["containers"][0]["volumeMounts"]


def test_mover_needs_no_api_token_and_few_rights() -> None:
    pod = built()
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert pod["spec"]["restartPolicy"] == "Never"


def test_request_and_cancel_come_through_the_downward_api() -> None:
    volume = next(v for v in built()["spec"]["volumes"] if v["name"] == "request")
    assert [item["path"] for item in volume["downwardAPI"]["items"]] == ["request", "cancel"]


def test_secrets_are_mounted_by_key() -> None:
    plan = HostingPodPlan(
        **{f: getattr(PLAN, f) for f in PLAN.__slots__}
        | {"secrets": (SecretMount("password", "velero-repo-credentials", "repository-password"),)}
    )
    pod = built(plan)
    volume = next(v for v in pod["spec"]["volumes"] if v["name"] == "password")
    assert volume["secret"]["items"] == [{"key": "repository-password", "path": "repository-password"}]


def test_key_that_comes_and_goes_does_not_keep_the_pod_from_starting() -> None:
    mount = SecretMount("password", "velero-repo-credentials", "repository-password", spare_key="next")
    source = mount.volume()["secret"]
    assert [item["key"] for item in source["items"]] == ["repository-password", "next"]
    assert source["optional"]
    assert mount.spare_path.endswith("/password/next")


def test_configured_labels_replace_the_inherited_ones() -> None:
    pod = built(
        settings=ExposeSettings(pod_labels={"a": "b"}, pod_annotations={"c": "d"}, priority_class="high")
    )
    assert pod["metadata"]["labels"] == {"a": "b", "kopia-data-mover.io/mover": "true"}
    assert pod["metadata"]["annotations"]["c"] == "d"
    assert "iam.amazonaws.com/role" not in pod["metadata"]["annotations"]
    assert pod["spec"]["priorityClassName"] == "high"


def test_template_needs_exactly_one_container() -> None:
    body = daemon_set()
    body["spec"]["template"]["spec"]["containers"] *= 2
    with pytest.raises(TemplateError, match="exactly one container, not 2"):
        template_from_daemon_set(body)


def test_long_names_are_shortened_as_the_server_does() -> None:
    assert label_value("a" * 63) == "a" * 63
    assert label_value("a" * 64) == "a" * 57 + "ffe054"
    assert len(label_value("x" * 253)) == 63


@pytest.mark.parametrize(
    ("data_mib", "threshold", "limit", "gib"),
    [(0, 0, 0, 6), (100, 200, 0, 0), (200, 200, 0, 6), (0, 200, 10000, 12)],
)
def test_cache_is_a_fifth_larger_than_its_limit_and_left_out_below_the_threshold(
    data_mib, threshold, limit, gib
) -> None:
    settings = CacheSettings("fast", threshold)
    assert cache_size_gib(settings, data_bytes=data_mib << 20, limit_mib=limit) == gib
    assert cache_size_gib(None, data_bytes=0, limit_mib=0) == 0
