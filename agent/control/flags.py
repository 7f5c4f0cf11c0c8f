"""Every knob of the agent's process once. Read from the command line and the environment.

What an operator changes while it runs is in the node-agent ConfigMap (`node_config`), not here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agent.moves.data_movers import BUILT_IN_MOVERS
from exposer.template import DAEMON_SET_DEFAULT

DEFAULT_MOVER_NAMES = BUILT_IN_MOVERS


@dataclass(frozen=True, slots=True)
class Config:
    """What one agent process is told at its start.

    The first block is upstream's own flags (contract 4.1) and environment (4.2); the second is ours alone.
    """

    node: str
    namespace: str = "velero"
    resource_timeout_seconds: float = 600.0
    prepare_timeout_seconds: float = 1800.0
    metrics_address: str = ":8085"
    node_agent_config_map: str = ""
    backup_repository_config_map: str = ""
    log_level: str = "info"
    log_format: str = "text"
    kubeconfig: str = ""
    kube_context: str = ""

    mover_names: frozenset[str] = DEFAULT_MOVER_NAMES
    daemon_set: str = DAEMON_SET_DEFAULT
    host_pods: Path = Path("/host_pods")
    worker_count: int = 4
    resync_seconds: float = 60.0
    cancel_grace_seconds: float = 300.0
    progress_seconds: float = 5.0
    page_hosts: frozenset[str] = frozenset()
    mover_command: tuple[str, ...] = ("/velero", "mover-pod")


def daemon_set_from_environment() -> str:
    """`KOPIA_DATA_MOVER_DAEMON_SET`: the DaemonSet of this agent, where `node-agent` is upstream's beside it.

    Its pods have the same name as their label `name`; mover pods are modelled on it.
    """
    return os.environ.get("KOPIA_DATA_MOVER_DAEMON_SET") or DAEMON_SET_DEFAULT


def mover_names_from_environment() -> frozenset[str]:
    """`KOPIA_DATA_MOVER_NAMES`, comma separated, replaces the names that we answer to in `spec.datamover`.

    `velero` in it stands for all of Velero's own names, whichever its release writes (empty, `velero`,
    `velero-fs`, `velero-block`). Unset: these, as upstream. With a name of our own alone, this agent runs
    beside upstream's.
    """
    text = os.environ.get("KOPIA_DATA_MOVER_NAMES")
    if text is None:
        return DEFAULT_MOVER_NAMES
    names = {name.strip() for name in text.split(",") if name.strip()}
    return frozenset(names | (BUILT_IN_MOVERS if "velero" in names else set()))


def page_hosts_from_environment() -> frozenset[str]:
    """`KOPIA_DATA_MOVER_PAGE_HOSTS`, comma separated: further names that the page answers to."""
    names = os.environ.get("KOPIA_DATA_MOVER_PAGE_HOSTS", "").split(",")
    return frozenset(name.strip().lower() for name in names if name.strip())
