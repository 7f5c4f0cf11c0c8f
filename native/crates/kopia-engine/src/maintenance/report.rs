//! What a maintenance run says: for people and programs as JSON, and for Kopia's own history.
//!
//! Numbers are what was found and done, nothing is estimated. In a dry run `done` numbers stay 0.

use kopia_format::Timestamp;
use kopia_format::maintenance::{MaintenanceTask, RunStatistics};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// A number of things and their bytes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CountAndBytes {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl CountAndBytes {
    /// Counts one more.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what there was to do.
    Done,
    /// Only looked: a dry run.
    DryRun,
    /// Not due, or nothing to do; `why` says it.
    Skipped,
    /// It failed; `why` says it.
    Failed,
}

/// One task of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskReport {
    /// Kopia's name of the task.
    pub task: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was skipped or failed, or what remains to be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Start by the local clock.
    #[serde(serialize_with = "as_text")]
    pub started: Timestamp,
    /// End by the local clock.
    #[serde(serialize_with = "as_text")]
    pub finished: Timestamp,
    /// What it found and did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<TaskDetails>,
}

/// What a task found and did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum TaskDetails {
    SnapshotGc {
        snapshots: u64,
        in_use: CountAndBytes,
        /// Manifests; never collected here.
        system: CountAndBytes,
        /// Unused, marked or to be marked; those marked earlier are in it.
        unused: CountAndBytes,
        /// Newly marked as deleted.
        deleted: CountAndBytes,
        /// Unused but younger than the margin.
        too_recent: CountAndBytes,
        /// Marked earlier, in use again, stored anew.
        undeleted: CountAndBytes,
        /// In use and marked as deleted, but cannot be read any more.
        unreadable: u64,
    },
    Rewrite {
        short_packs: u64,
        to_rewrite: CountAndBytes,
        rewritten: CountAndBytes,
        /// Younger than the margin.
        retained: CountAndBytes,
        /// Contents that cannot be read.
        unreadable: u64,
    },
    DropDeleted {
        /// Contents deleted before this are forgotten.
        #[serde(serialize_with = "as_text")]
        deleted_before: Timestamp,
    },
    DeleteBlobs {
        unreferenced: CountAndBytes,
        deleted: CountAndBytes,
        /// Unreferenced, but too young or of a session that is alive.
        retained: CountAndBytes,
        /// Of these, kept because of their age.
        too_young: CountAndBytes,
        /// Of these, kept because their session is alive.
        in_session: CountAndBytes,
        /// When the first of the young ones may go.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_optional_text")]
        next_eligible: Option<Timestamp>,
    },
    CompactIndex {
        inputs: CountAndBytes,
        outputs: u64,
        deleted_inputs: u64,
        deleted_logs: u64,
    },
    CompactEpoch {
        epoch: u64,
        inputs: CountAndBytes,
        outputs: u64,
    },
    AdvanceEpoch {
        epoch: u64,
        advanced: bool,
    },
    EpochRange {
        first: u64,
        last: u64,
        inputs: CountAndBytes,
        outputs: u64,
    },
    EpochMarkers {
        markers: u64,
        watermarks: u64,
    },
    SupersededIndexes {
        deleted: CountAndBytes,
    },
    Logs {
        retained: CountAndBytes,
        to_delete: CountAndBytes,
        deleted: CountAndBytes,
    },
    ExtendRetention {
        blobs: u64,
        extended: u64,
    },
}

impl TaskDetails {
    /// The statistics of Kopia's run history (`maintenance info` shows them); some tasks have none.
    ///
    /// Source: Kopia `repo/maintenancestats`.
    pub(crate) fn statistics(&self) -> Option<RunStatistics> {
        let (kind, data) = match self {
            Self::SnapshotGc { .. } => ("snapshotGCStats", self.snapshot_gc_statistics()),
            Self::Rewrite { .. } => ("rewriteContentsStats", self.rewrite_statistics()),
            Self::DropDeleted { deleted_before } => {
                ("compactIndexesStats", json!({"droppedContentsDeletedBefore": deleted_before.to_rfc3339()}))
            }
            Self::DeleteBlobs { .. } => ("deleteUnreferencedPacksStats", self.delete_statistics()),
            Self::CompactIndex { .. } => {
                ("compactIndexesStats", json!({"droppedContentsDeletedBefore": "0001-01-01T00:00:00Z"}))
            }
            Self::CompactEpoch { epoch, inputs, .. } => (
                "compactSingleEpochStats",
                json!({"supersededIndexBlobCount": inputs.count, "supersededIndexTotalSize": inputs.bytes, "epoch": epoch}),
            ),
            Self::AdvanceEpoch { epoch, advanced } => {
                ("advanceEpochStats", json!({"currentEpoch": epoch, "wasAdvanced": advanced}))
            }
            Self::EpochRange { first, last, .. } => {
                ("generateRangeCheckpointStats", json!({"rangeMinEpoch": first, "rangeMaxEpoch": last}))
            }
            Self::EpochMarkers { markers, watermarks } => (
                "cleanupMarkersStats",
                json!({"deletedEpochMarkerBlobCount": markers, "deletedWatermarkBlobCount": watermarks}),
            ),
            Self::SupersededIndexes { deleted } => (
                "cleanupSupersededIndexesStats",
                json!({"maxReplacementTime": "0001-01-01T00:00:00Z",
                    "deletedBlobCount": deleted.count, "deletedTotalSize": deleted.bytes}),
            ),
            Self::Logs { .. } => ("cleanupLogsStats", self.log_statistics()),
            Self::ExtendRetention { .. } => return None,
        };
        Some(RunStatistics { kind: kind.into(), data: data.to_string() })
    }

    fn snapshot_gc_statistics(&self) -> Value {
        let Self::SnapshotGc { in_use, system, unused, deleted, too_recent, undeleted, .. } = self else {
            return Value::Null;
        };
        json!({
            "unreferencedContentCount": unused.count, "unreferencedContentSize": unused.bytes,
            "deletedContentCount": deleted.count, "deletedContentSize": deleted.bytes,
            "unreferencedRecentContentCount": too_recent.count, "unreferencedRecentContentSize": too_recent.bytes,
            "inUseContentCount": in_use.count, "inUseContentSize": in_use.bytes,
            "inUseSystemContentCount": system.count, "inUseSystemContentSize": system.bytes,
            "recoveredContentCount": undeleted.count, "recoveredContentSize": undeleted.bytes,
        })
    }

    fn rewrite_statistics(&self) -> Value {
        let Self::Rewrite { to_rewrite, rewritten, retained, .. } = self else { return Value::Null };
        json!({
            "toRewriteContentCount": to_rewrite.count, "toRewriteContentSize": to_rewrite.bytes,
            "rewrittenContentCount": rewritten.count, "rewrittenContentSize": rewritten.bytes,
            "retainedContentCount": retained.count, "retainedContentSize": retained.bytes,
        })
    }

    fn delete_statistics(&self) -> Value {
        let Self::DeleteBlobs { unreferenced, deleted, retained, .. } = self else { return Value::Null };
        json!({
            "unreferencedPackCount": unreferenced.count, "unreferencedTotalSize": unreferenced.bytes,
            "deletedPackCount": deleted.count, "deletedTotalSize": deleted.bytes,
            "retainedPackCount": retained.count, "retainedTotalSize": retained.bytes,
        })
    }

    fn log_statistics(&self) -> Value {
        let Self::Logs { retained, to_delete, deleted } = self else { return Value::Null };
        json!({
            "toDeleteBlobCount": to_delete.count, "toDeleteBlobSize": to_delete.bytes,
            "deletedBlobCount": deleted.count, "deletedBlobSize": deleted.bytes,
            "retainedBlobCount": retained.count, "retainedBlobSize": retained.bytes,
        })
    }
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MaintenanceReport {
    /// `quick`, `full`, or `none` if nothing was due.
    pub cycle: &'static str,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// `user@host` that the repository names for maintenance.
    pub owner: String,
    /// Its tasks, in the order in which they ran.
    pub tasks: Vec<TaskReport>,
    /// When the next full cycle is due.
    #[serde(serialize_with = "as_text")]
    pub next_full: Timestamp,
    /// When the next quick cycle is due.
    #[serde(serialize_with = "as_text")]
    pub next_quick: Timestamp,
    /// The task at which the run ended before its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl MaintenanceReport {
    /// The report of a task, if it was reached.
    pub fn task(&self, task: MaintenanceTask) -> Option<&TaskReport> {
        self.tasks.iter().find(|report| report.task == task.name())
    }
}

/// A time as RFC 3339, in UTC.
pub(crate) fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}

fn as_optional_text<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => as_text(time, serializer),
        None => serializer.serialize_none(),
    }
}
