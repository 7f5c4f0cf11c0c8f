"""What an operator can set about exposing (the node-agent ConfigMap), as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoadAffinity:
    """A node selector as in the API, for one storage class or, if that is empty, for all."""

    match_labels: Mapping[str, str] = field(default_factory=dict)
    match_expressions: tuple[Json, ...] = ()
    storage_class: str = ""


@dataclass(frozen=True, slots=True)
class CopiedNames:
    """Secrets and ConfigMaps that a driver looks for beside a PVC, copied to beside the intermediate one."""

    secrets: tuple[str, ...] = ()
    config_maps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackupPvcSettings:
    """How the PVC made from a snapshot differs from its source, per source storage class."""

    storage_class: str = ""
    read_only: bool = False
    spc_no_relabeling: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    copied: CopiedNames = field(default_factory=CopiedNames)


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """`cachePVC`: where the mover keeps its cache during a restore, and from which size on."""

    storage_class: str
    resident_threshold_mib: int = 0


@dataclass(frozen=True, slots=True)
class ExposeSettings:
    """Everything in the node-agent ConfigMap that shapes hosting pods and their volumes.

    `changed_block_account` runs the movers that ask a changed-block service; empty: that of the node-agent.
    """

    load_affinity: tuple[LoadAffinity, ...] = ()
    backup_pvc: Mapping[str, BackupPvcSettings] = field(default_factory=dict)
    ignore_delay_binding: bool = False
    restore_copied: CopiedNames = field(default_factory=CopiedNames)
    resources: Json = field(default_factory=dict)
    priority_class: str = ""
    privileged_fs_backup: bool = False
    cache: CacheSettings | None = None
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    pod_annotations: Mapping[str, str] = field(default_factory=dict)
    changed_block_account: str = ""

    def affinity_for(self, storage_class: str) -> LoadAffinity | None:
        """The entry for a class, else the first entry without one."""
        exact = [entry for entry in self.load_affinity if entry.storage_class == storage_class]
        general = [entry for entry in self.load_affinity if not entry.storage_class]
        return next(iter([*(exact if storage_class else []), *general]), None)
