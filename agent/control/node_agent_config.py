"""The node-agent ConfigMap (contract 4.3) as values: one key of any name, whose value is JSON. Pure.

Read again whenever the ConfigMap changes. What is wrong with it is said all at once, key by key; the last
good configuration stays in force, except at start, where there is none.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exposer.settings import BackupPvcSettings, CacheSettings, CopiedNames, ExposeSettings, LoadAffinity

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

_CBT_KEY = "csiSnapshotMetadataServiceConfigs"
KNOWN_KEYS = frozenset(
    {
        "loadConcurrency",
        "loadAffinity",
        "backupPVC",
        "restorePVC",
        "podResources",
        "priorityClassName",
        "privilegedFsBackup",
        "cachePVC",
        _CBT_KEY,
        "podAnnotations",
        "podLabels",
    }
)
_AFFINITY_KEYS = frozenset({"nodeSelector", "storageClass"})
_RULE_KEYS = frozenset({"nodeSelector", "number"})
_COPIED_KEYS = frozenset({"secretNames", "configMapNames"})
_BACKUP_PVC_KEYS = frozenset({"storageClass", "readOnly", "spcNoRelabeling", "annotations"}) | _COPIED_KEYS
# Keys of objects in the document. What is spelt wrong there would be left out without a word.
_NESTED_KEYS = {
    "loadConcurrency": frozenset({"globalConfig", "prepareQueueLength", "perNodeConfig"}),
    "restorePVC": frozenset({"ignoreDelayBinding"}) | _COPIED_KEYS,
    "cachePVC": frozenset({"storageClass", "residentThresholdInMB"}),
    _CBT_KEY: frozenset({"saName"}),
}
# The name of a Secret or ConfigMap (Kubernetes `IsDNS1123Subdomain`).
_OBJECT_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+|[munkMGTPE]|[KMGTPE]i)?")
# The operators of a label selector, and whether they take values.
_OPERATORS = {"In": True, "NotIn": True, "Exists": False, "DoesNotExist": False}
_RESOURCE_KEYS = {
    "cpuRequest": ("requests", "cpu"),
    "memoryRequest": ("requests", "memory"),
    "ephemeralStorageRequest": ("requests", "ephemeral-storage"),
    "cpuLimit": ("limits", "cpu"),
    "memoryLimit": ("limits", "memory"),
    "ephemeralStorageLimit": ("limits", "ephemeral-storage"),
}


class NodeConfigError(ValueError):
    """The ConfigMap cannot be used; the message lists every fault."""


@dataclass(frozen=True, slots=True)
class NodeRule:
    """One entry of `perNodeConfig`."""

    match_labels: Mapping[str, str]
    match_expressions: tuple[Json, ...]
    number: int


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything the ConfigMap can say. `prepare_queue_length` 0 means no limit."""

    concurrency_default: int = 1
    concurrency_rules: tuple[NodeRule, ...] = ()
    prepare_queue_length: int = 0
    expose: ExposeSettings = field(default_factory=ExposeSettings)
    warnings: tuple[str, ...] = ()


def parse_config_map(data: Mapping[str, str]) -> NodeConfig:
    """Read `data` of the ConfigMap.

    Raises:
        NodeConfigError: not exactly one key, no JSON object, or values of the wrong kind.
    """
    if len(data) != 1:
        raise NodeConfigError(f"ConfigMap must have exactly one key, not {len(data)}")
    try:
        document = json.loads(next(iter(data.values())))
    except ValueError as error:
        raise NodeConfigError(f"value is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise NodeConfigError("value is not a JSON object")
    return _Reader().read(document)


class _Reader:
    """Reads key by key and collects what is wrong."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def read(self, document: Json) -> NodeConfig:
        load = self._object(document, "loadConcurrency")
        rules = tuple(self._rule(entry) for entry in self._list(load, "perNodeConfig"))
        config = NodeConfig(
            concurrency_default=max(self._integer(load, "globalConfig"), 1),
            concurrency_rules=rules,
            prepare_queue_length=max(self._integer(load, "prepareQueueLength"), 0),
            expose=self._expose(document),
            warnings=(*self.warnings, *self._unknown(document)),
        )
        if self.faults:
            raise NodeConfigError("; ".join(self.faults))
        return config

    def _expose(self, document: Json) -> ExposeSettings:
        backup, restore = self._object(document, "backupPVC"), self._object(document, "restorePVC")
        return ExposeSettings(
            load_affinity=tuple(self._affinity(entry) for entry in self._list(document, "loadAffinity")),
            backup_pvc={name: self._backup_pvc(backup, name) for name in backup},
            ignore_delay_binding=self._flag(restore, "ignoreDelayBinding"),
            restore_copied=self._copied(restore),
            resources=self._resources(self._object(document, "podResources")),
            priority_class=self._text(document, "priorityClassName"),
            privileged_fs_backup=self._flag(document, "privilegedFsBackup"),
            cache=self._cache(self._object(document, "cachePVC")),
            pod_labels=self._strings(document, "podLabels"),
            pod_annotations=self._strings(document, "podAnnotations"),
            changed_block_account=self._text(self._object(document, _CBT_KEY), "saName"),
        )

    def _unknown(self, document: Json) -> list[str]:
        """Say which keys are passed over, wherever they stand."""
        places = [("", document, KNOWN_KEYS), ("podResources.", document.get("podResources"), _RESOURCE_KEYS)]
        places += [(f"{name}.", document.get(name), keys) for name, keys in _NESTED_KEYS.items()]
        places += [
            (f"backupPVC.{name}.", entry, _BACKUP_PVC_KEYS)
            for name, entry in self._object(document, "backupPVC").items()
        ]
        rules = self._list(self._object(document, "loadConcurrency"), "perNodeConfig")
        places += [(f"loadConcurrency.perNodeConfig[{i}].", one, _RULE_KEYS) for i, one in enumerate(rules)]
        affinities = self._list(document, "loadAffinity")
        places += [(f"loadAffinity[{i}].", one, _AFFINITY_KEYS) for i, one in enumerate(affinities)]
        return [
            f"unknown key {prefix}{key} is ignored"
            for prefix, entry, known in places
            if isinstance(entry, dict)
            for key in sorted(set(entry) - set(known))
        ]

    def _rule(self, entry: Json) -> NodeRule:
        labels, expressions = self._selector(entry)
        return NodeRule(labels, expressions, self._integer(entry, "number"))

    def _affinity(self, entry: Json) -> LoadAffinity:
        labels, expressions = self._selector(entry)
        return LoadAffinity(labels, expressions, self._text(entry, "storageClass"))

    def _selector(self, entry: Json) -> tuple[Mapping[str, str], tuple[Json, ...]]:
        selector = self._object(entry, "nodeSelector")
        expressions = self._list(selector, "matchExpressions")
        for expression in expressions:
            self._check_expression(expression)
        return self._strings(selector, "matchLabels"), tuple(expressions)

    def _check_expression(self, expression: Json) -> None:
        """Say now what would make every hosting pod be refused later."""
        operator, values = self._text(expression, "operator"), expression.get("values") or []
        if not self._text(expression, "key") or operator not in _OPERATORS:
            self.faults.append(
                f"matchExpressions needs key and operator ({', '.join(_OPERATORS)}): {expression}"
            )
        elif not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            self.faults.append(f"values of matchExpressions must be a list of strings: {expression}")
        elif bool(values) != _OPERATORS[operator]:
            self.faults.append(
                f"{operator} takes {'values' if _OPERATORS[operator] else 'no values'}: {expression}"
            )

    def _backup_pvc(self, entries: Json, name: str) -> BackupPvcSettings:
        entry = self._object(entries, name)
        return BackupPvcSettings(
            storage_class=self._text(entry, "storageClass"),
            read_only=self._flag(entry, "readOnly"),
            spc_no_relabeling=self._flag(entry, "spcNoRelabeling"),
            annotations=self._strings(entry, "annotations"),
            copied=self._copied(entry),
        )

    def _copied(self, entry: Json) -> CopiedNames:
        return CopiedNames(self._names(entry, "secretNames"), self._names(entry, "configMapNames"))

    def _names(self, parent: Json, key: str) -> tuple[str, ...]:
        names: list[Any] = self._of(parent, key, list, [])
        wrong = [name for name in names if not isinstance(name, str) or not _OBJECT_NAME.fullmatch(name)]
        if wrong:
            self.faults.append(f"{key} must hold names of objects, not {wrong!r}")
            return ()
        return tuple(dict.fromkeys(names))

    def _cache(self, entry: Json) -> CacheSettings | None:
        if not entry.get("storageClass"):
            return None
        return CacheSettings(self._text(entry, "storageClass"), self._integer(entry, "residentThresholdInMB"))

    def _resources(self, entry: Json) -> Json:
        """Requests and limits; one bad quantity and all are left out, with a warning, as upstream does.

        Nothing is requested unless that is said: a mover waits as a running pod until it has its slot, and
        what hundreds of them requested would keep those Pending whose volumes they are to restore.
        """
        resources: Json = {}
        for key, (group, name) in _RESOURCE_KEYS.items():
            quantity = str(entry.get(key) or "0")
            if not _QUANTITY.fullmatch(quantity):
                self.warnings.append(f"podResources is ignored: {key} {quantity!r} is not a quantity")
                return {}
            if quantity != "0":
                resources.setdefault(group, {})[name] = quantity
        return resources

    def _object(self, parent: Json, key: str) -> Json:
        found: Json = self._of(parent, key, dict, {})
        return found

    def _list(self, parent: Json, key: str) -> list[Json]:
        entries: list[Any] = self._of(parent, key, list, [])
        if not all(isinstance(entry, dict) for entry in entries):
            self.faults.append(f"{key} must hold objects")
            return []
        return entries

    def _integer(self, parent: Json, key: str) -> int:
        return int(self._of(parent, key, int, 0))

    def _flag(self, parent: Json, key: str) -> bool:
        return bool(self._of(parent, key, bool, False))

    def _text(self, parent: Json, key: str) -> str:
        return str(self._of(parent, key, str, ""))

    def _strings(self, parent: Json, key: str) -> dict[str, str]:
        found = self._object(parent, key)
        wrong = sorted(name for name, value in found.items() if not isinstance(value, str))
        if wrong:
            self.faults.append(f"{key} must hold strings: {', '.join(wrong)}")
        return {name: str(value) for name, value in found.items()}

    def _of(self, parent: Json, key: str, kind: type, default: Any) -> Any:
        value = parent.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.faults.append(f"{key} must be {_KIND_NAMES[kind]}, not {value!r}")
            return default
        return value


_KIND_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    int: "a whole number",
    bool: "true or false",
    str: "a string",
}


def slots_for_node(config: NodeConfig, labels: Mapping[str, str]) -> int:
    """Return the node's limit: the smallest positive number of a rule that matches, else the global one."""
    numbers = [rule.number for rule in config.concurrency_rules if rule.number > 0 and _matches(rule, labels)]
    return min(numbers, default=config.concurrency_default)


def _matches(rule: NodeRule, labels: Mapping[str, str]) -> bool:
    exact = all(labels.get(key) == value for key, value in rule.match_labels.items())
    return exact and all(_expression_holds(expression, labels) for expression in rule.match_expressions)


def _expression_holds(expression: Json, labels: Mapping[str, str]) -> bool:
    key, operator, values = (
        expression.get("key", ""),
        expression.get("operator"),
        expression.get("values") or [],
    )
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) == (operator == "Exists")


def cache_limit_mib(data: Mapping[str, str]) -> int:
    """`cacheLimitMB` of the backup-repository ConfigMap, key `kopia`; 0 where it says nothing usable."""
    try:
        return int(json.loads(data.get("kopia", "{}")).get("cacheLimitMB") or 0)
    except (ValueError, TypeError, AttributeError):
        return 0
