"""Metrics: upstream's names (contract 4.4) so that dashboards go on, and our own `kopia_data_mover_*`.

Labels have few values. Where upstream's name demands one series per PodVolumeBackup, the latest
`_LATENCY_SERIES_MAX` are kept: an agent must not grow with the number of its moves.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from agent.moves.custom_resources import MOVE_KINDS, Move, Phase, PodVolumeBackupSpec
from mover.protocol import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from agent.control.history import History

_LATENCY_BUCKETS = (60, 300, 600, 900, 1800, 3600, 7200, 10800, 14400)
_PHASE_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 14400)
_LATENCY_SERIES_MAX = 200
_UNDER_WAY = [phase for phase in Phase if not phase.is_final]
# Ways in which a move does more, or knows less, than it might have.
FULL_BACKUP, OLD_SCHEMAS = "full_backup", "old_schemas"
# Upstream's counters without the suffix that the library gives to every counter: gauges to the library alone.
_PLAIN_COUNTERS = re.compile(rb"^(# TYPE podVolume_pod_volume_backup_\w+_count) gauge$", re.MULTILINE)
_DATA_MOVE_NAMES = {"DataUpload": "data_upload", "DataDownload": "data_download"}
_RESULTS = {Phase.COMPLETED: "success", Phase.FAILED: "failure", Phase.CANCELED: "cancel"}


class Metrics:
    """All metrics of one agent process, in a registry of their own."""

    def __init__(self, node: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._node = node
        self._counted: dict[str, dict[str, int]] = {}
        self._latency_labels: deque[tuple[str, ...]] = deque()
        self._upstream()
        self._own()

    def _upstream(self) -> None:
        registry, node = self.registry, ["node"]
        operation = ["node", "operation", "backupName", "pod_volume_backup"]
        text = "Total number of {} {} movements"
        self._results = {
            (kind, phase): Counter(
                f"podVolume_{name}_{result}_total", text.format(result, name), node, registry=registry
            )
            for kind, name in _DATA_MOVE_NAMES.items()
            for phase, result in _RESULTS.items()
        }
        self._enqueued = Gauge(
            "podVolume_pod_volume_backup_enqueue_count", "Pod volume backups begun", node, registry=registry
        )
        self._dequeued = Gauge(
            "podVolume_pod_volume_backup_dequeue_count",
            "Pod volume backups completed",
            node,
            registry=registry,
        )
        self._latency = Histogram(
            "podVolume_pod_volume_operation_latency_seconds",
            "Duration of a pod volume backup",
            operation,
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self._latency_gauge = Gauge(
            "podVolume_pod_volume_operation_latency_seconds_gauge",
            "Duration of a pod volume backup",
            operation,
            registry=registry,
        )
        for counter in (*self._results.values(), self._enqueued, self._dequeued):
            counter.labels(self._node)

    def _own(self) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"kopia_data_mover_{name}", text, registry=self.registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"kopia_data_mover_{name}", text, registry=self.registry)

        self.slots_in_use = gauge("node_slots_in_use", "Movers of this node at work")
        self.slots = gauge("node_slots", "Movers of this node at once, at most")
        self.slots_waiting = gauge("node_slots_waiting", "Prepared moves that wait for a slot")
        self.prepare_queue = gauge("prepare_queue_length", "Moves of all nodes that are being prepared")
        self.prepare_queue_limit = gauge(
            "prepare_queue_limit", "Moves prepared at once, at most; 0: no limit"
        )
        self.watch_silent = gauge("watch_silent_seconds", "Since the API server was last heard, at most")
        self.rate = gauge(
            "moving_bytes_per_second", "What the movers of this node move, averages since they began"
        )
        self.retries = counter(
            "storage_retries_total", "Requests to the storage that ended movers tried again"
        )
        self._of_kind()
        self._of_volume()
        self._moved = {  # by the field of `mover.protocol.Progress`
            "read_bytes": counter("source_bytes_total", "Bytes read from volumes or the repository"),
            "hashed_bytes": counter("hashed_bytes_total", "Bytes cut and hashed: what had changed"),
            "uploaded_bytes": counter("uploaded_bytes_total", "Bytes stored in the repository"),
            "cached_bytes": counter("cached_bytes_total", "Bytes that were in the repository already"),
            "files": counter("files_total", "Files that movers have done with, read or known as unchanged"),
        }

    def _of_kind(self) -> None:
        registry, labels = self.registry, ["kind", "phase"]
        self._moves = Counter("kopia_data_mover_moves_total", "Moves ended", labels, registry=registry)
        self._phase_seconds = Histogram(
            "kopia_data_mover_phase_reached_seconds",
            "Seconds from creation until a phase was reached",
            labels,
            buckets=_PHASE_BUCKETS,
            registry=registry,
        )
        self._under_way = Gauge(
            "kopia_data_mover_moves_under_way",
            "Moves of this node that are not over",
            labels,
            registry=registry,
        )
        self._fallbacks = Counter(
            "kopia_data_mover_fallbacks_total",
            "Times that less was possible than wanted, by reason",
            ["reason"],
            registry=registry,
        )
        for kind in MOVE_KINDS:
            for phase in _RESULTS:
                self._moves.labels(kind.name, phase.value)
        for reason in (FULL_BACKUP, OLD_SCHEMAS):
            self._fallbacks.labels(reason)

    def _of_volume(self) -> None:
        self._oldest = Gauge(
            "kopia_data_mover_oldest_move_seconds",
            "Of the move that is in a phase for longest; New ones that nobody takes count on all nodes",
            ["phase"],
            registry=self.registry,
        )
        self._last_success = Gauge(
            "kopia_data_mover_last_success_timestamp_seconds",
            "When a volume was last backed up, by this node",
            ["namespace", "pvc"],
            registry=self.registry,
        )

    def oldest(self, moves: Iterable[Move], history: History, now: datetime) -> None:
        """Bring the ages of the oldest moves up to date; 0 where none is in a phase."""
        ages = dict.fromkeys(_UNDER_WAY, 0.0)
        for move in moves:
            if not move.phase.is_final:
                since = (now - history.reached(move)).total_seconds()
                ages[move.phase] = max(ages[move.phase], since)
        for phase, age in ages.items():
            self._oldest.labels(phase.value).set(age)

    def last_success(self, volumes: Mapping[tuple[str, str], float]) -> None:
        """Say when this node's volumes were last backed up; others have no series any more."""
        self._last_success.clear()
        for labels, moment in volumes.items():
            self._last_success.labels(*labels).set(moment)

    def entered(self, move: Move, phase: Phase, now: datetime) -> None:
        """Note that a move reached a phase."""
        seconds = max((now - move.created_at).total_seconds(), 0.0)
        self._phase_seconds.labels(move.kind.name, phase.value).observe(seconds)

    def began(self, move: Move) -> None:
        """Note that a mover begins."""
        if isinstance(move.spec, PodVolumeBackupSpec):
            self._enqueued.labels(self._node).inc()

    def ended(self, move: Move, phase: Phase, now: datetime) -> None:
        """Note a final phase."""
        self.entered(move, phase, now)
        self._moves.labels(move.kind.name, phase.value).inc()
        if (move.kind.name, phase) in self._results:
            self._results[move.kind.name, phase].labels(self._node).inc()
        if isinstance(move.spec, PodVolumeBackupSpec) and phase is Phase.COMPLETED:
            self._pod_volume_backup_completed(move, move.spec, now)

    def _pod_volume_backup_completed(self, move: Move, spec: PodVolumeBackupSpec, now: datetime) -> None:
        self._dequeued.labels(self._node).inc()
        seconds = float(int((now - (move.started_at or now)).total_seconds()))
        parts = (move.name, move.backup_storage_location, spec.pod_namespace, spec.uploader_type or "kopia")
        labels = (self._node, f"{'-'.join(parts)}-backup", f"{move.namespace}/{move.owner_name}", move.name)
        self._make_room_for(labels)
        self._latency.labels(*labels).observe(seconds)
        self._latency_gauge.labels(*labels).set(seconds)

    def _make_room_for(self, labels: tuple[str, ...]) -> None:
        if labels in self._latency_labels:
            return
        self._latency_labels.append(labels)
        if len(self._latency_labels) > _LATENCY_SERIES_MAX:
            oldest = self._latency_labels.popleft()
            self._latency.remove(*oldest)
            self._latency_gauge.remove(*oldest)

    def fell_back(self, reason: str) -> None:
        """Note that less was possible than wanted."""
        self._fallbacks.labels(reason).inc()

    def recorded(self, move: Move, text: str) -> None:
        """Take from a mover's transfer record what is worth counting, and what no report has said yet."""
        try:
            record = json.loads(text)
            if record.get("fullBecause"):
                self.fell_back(FULL_BACKUP)
            self.progressed(move, _moved(record))
            self.retries.inc(max(int(record.get("retries", 0)), 0))
        except (ValueError, AttributeError, TypeError):
            return

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a mover that works no longer."""
        self._counted.pop(uid, None)

    def under_way(self, moves: Iterable[Move]) -> None:
        """Bring the gauge of this node's moves up to date."""
        counts = {(kind.name, phase.value): 0 for kind in MOVE_KINDS for phase in _UNDER_WAY}
        for move in moves:
            if not move.phase.is_final:
                counts[move.kind.name, move.phase.value] += 1
        for labels, count in counts.items():
            self._under_way.labels(*labels).set(count)

    def progressed(self, move: Move, progress: Progress) -> None:
        """Add what was moved since the last report of the same mover; one that comes again adds nothing."""
        counted = self._counted.setdefault(move.uid, {})
        for name, counter in self._moved.items():
            count = int(getattr(progress, name))
            counter.inc(max(count - counted.get(name, 0), 0))
            counted[name] = max(count, counted.get(name, 0))

    def render(self) -> bytes:
        """Return the text that `GET /metrics` gives."""
        return _PLAIN_COUNTERS.sub(rb"\1 counter", generate_latest(self.registry))


def _moved(record: dict[str, Any]) -> Progress:
    """Return what a transfer record says was moved, as a report of progress would."""
    return Progress(
        read_bytes=int(record.get("readBytes", 0)) + int(record.get("downloadedBytes", 0)),
        hashed_bytes=int(record.get("hashedBytes", 0)),
        uploaded_bytes=int(record.get("uploadedBytes", 0)),
        cached_bytes=int(record.get("unchangedBytes", 0)) + int(record.get("deduplicatedBytes", 0)),
        files=int(record.get("files", 0)),
    )
