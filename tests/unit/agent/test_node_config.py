from __future__ import annotations

import json

import pytest

from agent.control.node_agent_config import (
    NodeConfig,
    NodeConfigError,
    cache_limit_mib,
    parse_config_map,
    slots_for_node,
)
from exposer.settings import BackupPvcSettings, CacheSettings, CopiedNames

FULL = {
    "loadConcurrency": {
        "globalConfig": 2,
        "prepareQueueLength": 10,
        "perNodeConfig": [
            {"nodeSelector": {"matchLabels": {"fast": "yes"}}, "number": 5},
            {
                "nodeSelector": {
                    "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]
                },
                "number": 3,
            },
            {"nodeSelector": {"matchExpressions": [{"key": "old", "operator": "Exists"}]}, "number": 0},
        ],
    },
    "loadAffinity": [
        {"nodeSelector": {"matchLabels": {"pool": "backup"}}},
        {"nodeSelector": {"matchLabels": {"pool": "ssd"}}, "storageClass": "fast"},
    ],
    "backupPVC": {
        "slow": {
            "storageClass": "shallow",
            "readOnly": True,
            "spcNoRelabeling": True,
            "annotations": {"a": "b"},
        }
    },
    "restorePVC": {"ignoreDelayBinding": True},
    "podResources": {
        "cpuRequest": "100m",
        "memoryLimit": "256Mi",
        "cpuLimit": "0",
        "ephemeralStorageLimit": "1Gi",
    },
    "priorityClassName": "high",
    "privilegedFsBackup": True,
    "cachePVC": {"storageClass": "fast", "residentThresholdInMB": 100},
    "podAnnotations": {"c": "d"},
    "podLabels": {"e": "f"},
    "keyOfTomorrow": 1,
}


def parse(document: object):
    return parse_config_map({"any-name.json": json.dumps(document)})


def test_every_key_of_upstream_is_read() -> None:
    config = parse(FULL)
    assert (config.concurrency_default, config.prepare_queue_length) == (2, 10)
    expose = config.expose
    assert expose.backup_pvc["slow"] == BackupPvcSettings("shallow", True, True, {"a": "b"})
    assert expose.ignore_delay_binding
    assert expose.privileged_fs_backup
    assert expose.resources == {
        "requests": {"cpu": "100m"},
        "limits": {"memory": "256Mi", "ephemeral-storage": "1Gi"},
    }
    assert (expose.priority_class, expose.cache) == ("high", CacheSettings("fast", 100))
    assert (expose.pod_annotations, expose.pod_labels) == ({"c": "d"}, {"e": "f"})
    assert config.warnings == ("unknown key keyOfTomorrow is ignored",)


def affine(expression: dict) -> dict:
    return {"loadAffinity": [{"nodeSelector": {"matchExpressions": [expression]}}]}


def test_empty_object_is_all_defaults() -> None:
    config = parse({})
    assert (config.concurrency_default, config.prepare_queue_length) == (1, 0)
    assert config.expose.resources == NodeConfig().expose.resources == {}


@pytest.mark.parametrize(
    ("said", "resources"),
    [
        ({"cpuRequest": "1"}, {"requests": {"cpu": "1"}}),
        ({"memoryRequest": "0"}, {}),
        ({"memoryRequest": "1Gi"}, {"requests": {"memory": "1Gi"}}),
        ({"memoryLimit": "1Gi"}, {"limits": {"memory": "1Gi"}}),
    ],
)
def test_engine_s_memory_is_requested_unless_memory_is_spoken_of(said: dict, resources: dict) -> None:
    assert parse({"podResources": said}).expose.resources == resources


@pytest.mark.parametrize(
    ("labels", "slots"),
    [({}, 2), ({"fast": "yes"}, 5), ({"fast": "yes", "zone": "a"}, 3), ({"zone": "c"}, 2), ({"old": ""}, 2)],
)
def test_smallest_matching_number_above_zero_wins(labels: dict, slots: int) -> None:
    assert slots_for_node(parse(FULL), labels) == slots


def test_affinity_is_by_class_with_the_general_entry_for_the_rest() -> None:
    expose = parse(FULL).expose
    assert expose.affinity_for("fast").match_labels == {"pool": "ssd"}
    assert expose.affinity_for("other").match_labels == {"pool": "backup"}


def test_one_bad_quantity_leaves_all_resources_out_with_a_warning() -> None:
    config = parse({"podResources": {"cpuRequest": "100m", "memoryLimit": "much"}})
    assert config.expose.resources == {}
    assert "memoryLimit 'much' is not a quantity" in config.warnings[0]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "not a JSON object"),
        ({"loadConcurrency": 3}, "loadConcurrency must be an object"),
        ({"loadConcurrency": {"globalConfig": "2"}}, "globalConfig must be a whole number"),
        ({"loadConcurrency": {"globalConfig": True}}, "globalConfig must be a whole number"),
        ({"loadAffinity": ["x"]}, "loadAffinity must hold objects"),
        ({"privilegedFsBackup": "yes"}, "privilegedFsBackup must be true or false"),
        ({"podLabels": {"a": 1}}, "podLabels must hold strings: a"),
        ({"backupPVC": {"fast": True}}, "fast must be an object"),
        (affine({"key": "zone", "operator": "in", "values": ["a"]}), "needs key and operator"),
        (affine({"operator": "Exists"}), "needs key and operator"),
        (affine({"key": "zone", "operator": "In", "values": "a"}), "must be a list of strings"),
        (affine({"key": "zone", "operator": "NotIn"}), "NotIn takes values"),
        (affine({"key": "zone", "operator": "Exists", "values": ["a"]}), "Exists takes no values"),
    ],
)
def test_wrong_kinds_are_named(document: object, text: str) -> None:
    with pytest.raises(NodeConfigError, match=text):
        parse(document)


def test_all_faults_are_said_at_once() -> None:
    with pytest.raises(NodeConfigError, match=r"privilegedFsBackup.*|.*priorityClassName") as caught:
        parse({"privilegedFsBackup": 1, "priorityClassName": 2})
    assert str(caught.value).count(";") == 1


@pytest.mark.parametrize(
    ("data", "mib"),
    [
        ({}, 0),
        ({"kopia": '{"cacheLimitMB": 2048}'}, 2048),
        ({"kopia": "{"}, 0),
        ({"kopia": "[]"}, 0),
        ({"kopia": '{"cacheLimitMB": "x"}'}, 0),
    ],
)
def test_cache_limit_is_read_where_it_is_usable(data: dict, mib: int) -> None:
    assert cache_limit_mib(data) == mib


def test_b4_names_of_what_is_copied_are_read() -> None:
    names = {"secretNames": ["luks", "luks", "a.b"], "configMapNames": ["kms"]}
    expose = parse({"backupPVC": {"fast": names}, "restorePVC": names}).expose
    assert expose.backup_pvc["fast"].copied == expose.restore_copied == CopiedNames(("luks", "a.b"), ("kms",))


@pytest.mark.parametrize("wrong", [["../velero/x"], ["Key"], [""], [3], "luks", ["a" * 254], ["x\n"]])
def test_b4_name_that_cannot_be_one_is_refused(wrong: object) -> None:
    for document in (
        {"backupPVC": {"fast": {"secretNames": wrong}}},
        {"restorePVC": {"configMapNames": wrong}},
    ):
        with pytest.raises(NodeConfigError, match="Names must"):
            parse(document)


def test_b4_unknown_keys_are_warned_of_wherever_they_stand() -> None:
    document = {
        "backupPVC": {"fast": {"secretName": ["luks"], "readOnly": True}},
        "restorePVC": {"secretsNames": []},
        "loadConcurrency": {"global": 3, "perNodeConfig": [{"nodeSelector": {}, "number": 1, "limit": 2}]},
        "loadAffinity": [{"nodeSelector": {}, "class": "fast"}],
        "podResources": {"cpu": "1"},
        "cachePVC": {"storageclass": "fast"},
    }
    assert parse(document).warnings == tuple(
        f"unknown key {key} is ignored"
        for key in (
            "podResources.cpu",
            "loadConcurrency.global",
            "restorePVC.secretsNames",
            "cachePVC.storageclass",
            "backupPVC.fast.secretName",
            "loadConcurrency.perNodeConfig[0].limit",
            "loadAffinity[0].class",
        )
    )


def test_b11_account_of_the_changed_block_service_is_taken() -> None:
    config = parse({"csiSnapshotMetadataServiceConfigs": {"saName": "cbt"}})
    assert config.warnings == ()
    assert config.expose.changed_block_account == "cbt"
