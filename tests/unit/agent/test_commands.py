from __future__ import annotations

import json
import logging

import pytest

from agent import cli, velero_command
from agent.control.flags import mover_names_from_environment
from agent.moves.data_movers import BUILT_IN_MOVERS
from agent.show.telemetry import JsonFormatter, TextFormatter
from agent.upstream_mover import parse_arguments

UPSTREAM = [
    "server",
    "--features=EnableCSI",
    "--log-level=debug",
    "--log-format=json",
    "--resource-timeout=5m",
    "--data-mover-prepare-timeout=1h",
    "--metrics-address=:9000",
    "--node-agent-configmap=cfg",
    "--backup-repository-configmap=repo",
    "-n",
    "backup-system",
    "--kubeconfig=/k",
    "--kubecontext=c",
]


def test_every_flag_of_upstreams_server_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "node-7")
    config = cli.config_from_arguments(cli.build_parser().parse_args(UPSTREAM))
    assert (config.node, config.namespace) == ("node-7", "backup-system")
    assert (config.resource_timeout_seconds, config.prepare_timeout_seconds) == (300, 3600)
    assert (config.metrics_address, config.log_level, config.log_format) == (":9000", "debug", "json")
    assert (config.node_agent_config_map, config.backup_repository_config_map) == ("cfg", "repo")


def test_unknown_flags_pass() -> None:
    _, unknown = cli.build_parser().parse_known_args([*UPSTREAM, "--v=4", "--flag-of-tomorrow", "x"])
    assert unknown == ["--v=4", "--flag-of-tomorrow", "x"]


def test_namespace_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VELERO_NAMESPACE", "elsewhere")
    assert cli.build_parser().parse_args(["server"]).namespace == "elsewhere"


def test_wrong_duration_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["server", "--resource-timeout=soon"]) == cli.EXIT_USAGE
    assert "'soon' is not a duration" in capsys.readouterr().err


def test_missing_cluster_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert cli.main(["server"]) == cli.EXIT_FAILED
    output = capsys.readouterr().out
    assert "not in a cluster" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("group", "role", "flag"),
    [
        ("data-mover", "backup", "--data-upload"),
        ("data-mover", "restore", "--data-download"),
        ("pod-volume", "backup", "--pod-volume-backup"),
        ("pod-volume", "restore", "--pod-volume-restore"),
    ],
)
def test_upstreams_mover_commands_are_understood(group: str, role: str, flag: str) -> None:
    line = [
        group,
        role,
        "--volume-path=/v",
        f"{flag}=x",
        "--resource-timeout=10m0s",
        "--cache-volume-path=",
        "--change-id=",
        "--volume-id=v",
        "--snapshot-id=s",
        "--cbt-sa-name=a",
        "--csi-snapshot-metadata-service-sa=a",  # what upstream's own exposer calls the flag before
        "--new=1",
    ]
    parsed = parse_arguments(line)
    assert (parsed.name, parsed.volume_path, parsed.resource_timeout) == ("x", "/v", 600)
    with pytest.raises(SystemExit):
        parse_arguments([group, role, "--volume-path=/v"])


def test_velero_without_a_known_verb_shows_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert velero_command.main(["backup", "create"]) == 2
    assert velero_command.main([]) == 2
    assert "node-agent server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, BUILT_IN_MOVERS),
        ("mine", {"mine"}),
        ("velero, mine", BUILT_IN_MOVERS | {"mine"}),
        ("velero-fs", {"velero-fs"}),
    ],
)
def test_mover_names_are_configurable(
    monkeypatch: pytest.MonkeyPatch, text: str | None, names: set[str]
) -> None:
    monkeypatch.delenv("KOPIA_DATA_MOVER_NAMES", raising=False)
    if text is not None:
        monkeypatch.setenv("KOPIA_DATA_MOVER_NAMES", text)
    assert mover_names_from_environment() == names


def test_logs_carry_velero_s_fields() -> None:
    record = logging.LogRecord("agent.control.act", logging.INFO, "", 0, "phase changed", None, None)
    record.dataupload = "du 1"
    document = json.loads(JsonFormatter().format(record))
    assert (document["level"], document["msg"], document["dataupload"]) == ("info", "phase changed", "du 1")
    text = TextFormatter().format(record)
    assert 'level=info msg="phase changed"' in text
    assert 'dataupload="du 1"' in text
