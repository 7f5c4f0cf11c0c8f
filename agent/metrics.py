"""Metrics: upstream's names (contract 4.4) so that dashboards go on, and our own `kopia_data_mover_*`.

No label has an unbounded set of values, except where upstream's name demands it (`backupName`, PVB names).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent.resources import Move, Phase, PodVolumeBackupSpec

if TYPE_CHECKING:
    from datetime import datetime

    from mover.protocol import Progress

_LATENCY_BUCKETS = (60, 300, 600, 900, 1800, 3600, 7200, 10800, 14400)
_PHASE_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 14400)
_DATA_MOVE_NAMES = {"DataUpload": "data_upload", "DataDownload": "data_download"}
_RESULTS = {Phase.COMPLETED: "success", Phase.FAILED: "failure", Phase.CANCELED: "cancel"}


class Metrics:
    """All metrics of one agent process, in a registry of their own."""

    def __init__(self, node: str) -> None:
        self.registry = CollectorRegistry()
        self._node = node
        self._progress: dict[str, Progress] = {}
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
        self._moves = Counter(
            "kopia_data_mover_moves_total", "Moves ended", ["kind", "phase"], registry=self.registry
        )
        self._phase_seconds = Histogram(
            "kopia_data_mover_phase_reached_seconds",
            "Seconds from creation until a phase was reached",
            ["kind", "phase"],
            buckets=_PHASE_BUCKETS,
            registry=self.registry,
        )
        self._read = counter("source_bytes_total", "Bytes read from volumes or the repository")
        self._uploaded = counter("uploaded_bytes_total", "Bytes stored in the repository")
        self._cached = counter("cached_bytes_total", "Bytes that were in the repository already")

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
        self._progress.pop(move.uid, None)
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
        self._latency.labels(*labels).observe(seconds)
        self._latency_gauge.labels(*labels).set(seconds)

    def progressed(self, move: Move, progress: Progress) -> None:
        """Add what was moved since the last report of the same mover."""
        before = self._progress.get(move.uid)
        self._progress[move.uid] = progress
        self._read.inc(max(progress.read_bytes - (before.read_bytes if before else 0), 0))
        self._uploaded.inc(max(progress.uploaded_bytes - (before.uploaded_bytes if before else 0), 0))
        self._cached.inc(max(progress.cached_bytes - (before.cached_bytes if before else 0), 0))

    def render(self) -> bytes:
        """Return the text that `GET /metrics` gives."""
        return generate_latest(self.registry)
