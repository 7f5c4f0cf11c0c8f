"""What watches the agent: every metric that is promised is exported, and rules and dashboard name only such."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from agent.control.history import History
from agent.control.metrics import _LATENCY_SERIES_MAX, Metrics
from agent.moves.custom_resources import Phase
from mover.protocol import Progress
from tests.apiserver.manifests import DEPLOY, kubeconfig, of_kind, rendered, tried
from tests.fakes import scene
from tests.fakes.resources import after, move

if TYPE_CHECKING:
    from pathlib import Path

    from tests.apiserver.conftest import Stage

UPSTREAM = {
    "podVolume_pod_volume_backup_enqueue_count",
    "podVolume_pod_volume_backup_dequeue_count",
    "podVolume_pod_volume_operation_latency_seconds_bucket",
    "podVolume_pod_volume_operation_latency_seconds_sum",
    "podVolume_pod_volume_operation_latency_seconds_count",
    "podVolume_pod_volume_operation_latency_seconds_gauge",
    *(
        f"podVolume_{kind}_{result}_total"
        for kind in ("data_upload", "data_download")
        for result in ("success", "failure", "cancel")
    ),
}
OURS = {
    f"kopia_data_mover_{name}"
    for name in (
        "source_bytes_total",
        "hashed_bytes_total",
        "uploaded_bytes_total",
        "cached_bytes_total",
        "moving_bytes_per_second",
        "phase_reached_seconds_bucket",
        "prepare_queue_length",
        "prepare_queue_limit",
        "oldest_move_seconds",
        "last_success_timestamp_seconds",
        "storage_retries_total",
        "files_total",
        "fallbacks_total",
        "node_slots",
        "node_slots_in_use",
        "node_slots_waiting",
        "moves_total",
        "moves_under_way",
        "watch_silent_seconds",
    )
}
NAME = re.compile(r"\b((?:kopia_data_mover|podVolume|process)_\w+)")


def used(metrics: Metrics) -> Metrics:
    """Every series exists once something has happened."""
    backup = move("PodVolumeBackup", "InProgress", status={"startTimestamp": "2026-11-21T12:00:00Z"})
    metrics.began(backup)
    metrics.ended(backup, Phase.COMPLETED, after(61))
    metrics.under_way([backup])
    metrics.oldest([backup], History(), after(61))
    metrics.last_success({("app", "data"): 1.0})
    return metrics


def exported() -> dict[str, str]:
    """Names of samples and their value lines."""
    text = used(Metrics("node-1")).render().decode()
    return {re.split(r"[{ ]", line)[0]: line for line in text.splitlines() if not line.startswith("#")}


def test_every_promised_metric_is_exported() -> None:
    assert set(exported()) >= UPSTREAM | OURS


def test_upstream_s_counters_are_counters_under_their_own_names() -> None:
    text = Metrics("n").render().decode()
    for name in ("enqueue", "dequeue"):
        assert f"# TYPE podVolume_pod_volume_backup_{name}_count counter" in text


def test_upstream_s_labels_and_values_are_kept() -> None:
    samples = exported()
    assert (
        samples["podVolume_data_upload_success_total"]
        == 'podVolume_data_upload_success_total{node="node-1"} 0.0'
    )
    gauge = samples["podVolume_pod_volume_operation_latency_seconds_gauge"]
    labels = dict(re.findall(r'(\w+)="([^"]*)"', gauge))
    assert labels == {
        "node": "node-1",
        "operation": "move-1-default-app-kopia-backup",
        "backupName": "velero/b1",
        "pod_volume_backup": "move-1",
    }
    assert gauge.endswith(" 61.0")


def test_series_of_single_backups_do_not_grow_without_end() -> None:
    metrics = Metrics("node-1")
    for number in range(_LATENCY_SERIES_MAX + 50):
        backup = move("PodVolumeBackup", "InProgress", name=f"b-{number}")
        metrics.ended(backup, Phase.COMPLETED, after(1))
    text = metrics.render().decode()
    assert text.count("latency_seconds_gauge{") == _LATENCY_SERIES_MAX
    assert 'pod_volume_backup="b-249"' in text
    assert 'pod_volume_backup="b-49"' not in text


def test_transfer_records_count_full_backups() -> None:
    metrics = Metrics("node-1")
    for record in ('{"fullBecause":"no earlier snapshot"}', '{"fullBecause":""}', "{", "[]"):
        metrics.recorded(move("DataUpload", "InProgress"), record)
    assert 'kopia_data_mover_fallbacks_total{reason="full_backup"} 1.0' in metrics.render().decode()


def test_bytes_are_counted_once_however_often_and_in_whatever_way_they_are_reported() -> None:
    metrics, backup = Metrics("node-1"), move("DataUpload", "InProgress")
    for count in (10, 20, 10, 20, 30):  # a log that broke off is read again from somewhat earlier
        metrics.progressed(backup, Progress(read_bytes=count, uploaded_bytes=2 * count))
    metrics.ended(backup, Phase.COMPLETED, after(1))
    metrics.recorded(backup, '{"readBytes":50,"uploadedBytes":60,"unchangedBytes":7,"deduplicatedBytes":3}')
    metrics.progressed(backup, Progress(read_bytes=50, uploaded_bytes=60))
    told = samples(metrics)
    assert told["kopia_data_mover_source_bytes_total"] == 50
    assert told["kopia_data_mover_uploaded_bytes_total"] == 60
    assert told["kopia_data_mover_cached_bytes_total"] == 10


def samples(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def expressions() -> list[str]:
    [rule] = list(yaml.safe_load_all((DEPLOY / "monitoring" / "prometheus-rule.yaml").read_text()))
    rules = [entry for group in rule["spec"]["groups"] for entry in group["rules"]]
    dashboard = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [
        item["query"]["query"] for item in dashboard["templating"]["list"] if item["type"] == "query"
    ]
    return [entry["expr"] for entry in rules] + queries + variables


@pytest.mark.parametrize("expression", expressions())
def test_rules_and_dashboard_name_only_what_is_exported(expression: str) -> None:
    names = set(NAME.findall(expression))
    assert names or "kube_" in expression or "data_mover_work" in expression
    assert names <= set(exported())
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)


def test_alerts_say_what_to_do() -> None:
    [rule] = list(yaml.safe_load_all((DEPLOY / "monitoring" / "prometheus-rule.yaml").read_text()))
    alerts = [entry for group in rule["spec"]["groups"] for entry in group["rules"] if "alert" in entry]
    assert len(alerts) >= 5
    for alert in alerts:
        assert {"summary", "description"} <= set(alert["annotations"])
        assert alert["labels"]["severity"] in ("warning", "critical")


async def test_objects_fit_the_prometheus_operator_s_schemas(stage: Stage, tmp_path: Path) -> None:
    for plural in ("podmonitors", "prometheusrules"):
        await stage.ensure_crd(scene.crd("prometheus-operator", plural))
    config = kubeconfig(stage.plane, tmp_path)
    objects = rendered("monitoring")
    assert {item["kind"] for item in objects} == {"PodMonitor", "PrometheusRule", "ConfigMap"}

    async def are_accepted() -> bool:
        done = tried(config, objects, "apply", "--server-side", "--force-conflicts")
        known = "no matches for kind" not in done.stderr
        assert done.returncode == 0 or not known, done.stderr
        return known

    await stage.until(are_accepted)
    [monitor] = of_kind(objects, "PodMonitor")
    assert monitor["spec"]["podMetricsEndpoints"][0]["honorLabels"], "else `namespace` is the agent's own"
    broken = of_kind(objects, "PodMonitor")[0]
    broken["spec"].pop("selector")
    assert tried(config, [broken], "apply", "--server-side").returncode != 0, "the schema is enforced"
