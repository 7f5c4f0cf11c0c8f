//! Maintenance parameters, schedule blob and safety margins (format document §8.1, §8.2, §8.5). Pure.
//!
//! Running maintenance is the engine's. The surprise: the run history in the schedule is not a
//! log; later runs decide by it what may be dropped and deleted, so it must be kept.

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::format_blob::{
    FormatEncryptionKey, RepositoryConfig, derive_purpose_key, open_with_nonce, seal_with_nonce,
};
use crate::go_json::{self, is_default, null_as_default, time_text};
use crate::time::Timestamp;
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

mod parameters;
mod safety;
#[cfg(test)]
mod tests;

pub use parameters::{CycleParameters, LogRetention, MAINTENANCE_MANIFEST_TYPE, MaintenanceParameters};
pub use safety::{SafetyParameters, drop_deleted_before};

/// Name of the schedule blob.
pub const SCHEDULE_BLOB: &str = "kopia.maintenance";
/// Runs that are kept of each task.
pub const RUNS_PER_TASK_MAX: usize = 50;
/// Go's zero time, year 1: "never".
pub const NEVER: Timestamp = Timestamp { seconds: -62_135_596_800, nanoseconds: 0 };

const SCHEDULE_KEY_PURPOSE: &str = "maintenance schedule";
const SCHEDULE_ADDITIONAL_DATA: &[u8] = b"maintenance";

/// The tasks whose runs are recorded. Source: Kopia `repo/maintenance/maintenance_run.go`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum MaintenanceTask {
    SnapshotGc,
    QuickDeleteBlobs,
    FullDeleteBlobs,
    QuickRewriteContents,
    FullRewriteContents,
    FullDropDeletedContent,
    IndexCompaction,
    ExtendBlobRetentionTime,
    CleanupLogs,
    AdvanceEpoch,
    DeleteSupersededEpochIndexes,
    CleanupEpochMarkers,
    GenerateEpochRangeIndex,
    CompactSingleEpoch,
}

impl MaintenanceTask {
    /// The key of its runs in the schedule.
    pub fn name(self) -> &'static str {
        match self {
            Self::SnapshotGc => "snapshot-gc",
            Self::QuickDeleteBlobs => "quick-delete-blobs",
            Self::FullDeleteBlobs => "full-delete-blobs",
            Self::QuickRewriteContents => "quick-rewrite-contents",
            Self::FullRewriteContents => "full-rewrite-contents",
            Self::FullDropDeletedContent => "full-drop-deleted-content",
            Self::IndexCompaction => "index-compaction",
            Self::ExtendBlobRetentionTime => "extend-blob-retention-time",
            Self::CleanupLogs => "cleanup-logs",
            Self::AdvanceEpoch => "advance-epoch",
            Self::DeleteSupersededEpochIndexes => "delete-superseded-epoch-indexes",
            Self::CleanupEpochMarkers => "cleanup-epoch-markers",
            Self::GenerateEpochRangeIndex => "generate-epoch-range-index",
            Self::CompactSingleEpoch => "compact-single-epoch",
        }
    }
}

/// What a run says about itself, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunStatistics {
    /// E.g. `cleanupLogsStats`.
    #[serde(skip_serializing_if = "is_default")]
    pub kind: String,
    /// JSON text of any shape; empty for none.
    #[serde(with = "raw_json", skip_serializing_if = "is_default")]
    pub data: String,
}

/// One run of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MaintenanceRun {
    /// By the local clock of the client that ran it.
    #[serde(with = "time_text")]
    pub start: Timestamp,
    /// By the same clock.
    #[serde(with = "time_text")]
    pub end: Timestamp,
    /// Whether it did its work; only successful runs count in any decision.
    #[serde(skip_serializing_if = "is_default")]
    pub success: bool,
    /// Why it failed; empty if it did not.
    #[serde(skip_serializing_if = "is_default")]
    pub error: String,
    /// What it did.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub extra: Vec<RunStatistics>,
}

impl Default for MaintenanceRun {
    fn default() -> Self {
        Self { start: NEVER, end: NEVER, success: false, error: String::new(), extra: Vec::new() }
    }
}

/// Body of `kopia.maintenance`: when maintenance is next due, and what ran before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MaintenanceSchedule {
    /// When the full cycle is due; [`NEVER`] if none ran yet, which means at once.
    #[serde(rename = "nextFullMaintenance", with = "time_text")]
    pub next_full: Timestamp,
    /// The same of the quick cycle.
    #[serde(rename = "nextQuickMaintenance", with = "time_text")]
    pub next_quick: Timestamp,
    /// By task name, newest run first. Names that this program does not know are kept.
    #[serde(deserialize_with = "null_as_default")]
    pub runs: BTreeMap<String, Vec<MaintenanceRun>>,
}

impl Default for MaintenanceSchedule {
    /// What a missing blob means.
    fn default() -> Self {
        Self { next_full: NEVER, next_quick: NEVER, runs: BTreeMap::new() }
    }
}

impl MaintenanceSchedule {
    /// Parses the plain text of the blob.
    ///
    /// # Errors
    /// `Malformed` if it is not this JSON.
    pub fn decode(json: &[u8]) -> Result<Self> {
        go_json::from_slice(SCHEDULE_BLOB, json)
    }

    /// Plain text of the blob.
    ///
    /// # Errors
    /// `Malformed` if the `data` of a run is not JSON.
    pub fn encode(&self) -> Result<Vec<u8>> {
        go_json::to_vec(SCHEDULE_BLOB, self)
    }

    /// Opens the blob with the key of [`schedule_key`].
    ///
    /// # Errors
    /// `Corrupted` if the seal does not match, `Malformed` if the plain text is not this JSON.
    pub fn open(key: &[u8], sealed: &[u8]) -> Result<Self> {
        let json = open_with_nonce(&schedule_cipher(key)?, SCHEDULE_ADDITIONAL_DATA, sealed)
            .ok_or_else(|| FormatError::corrupted(SCHEDULE_BLOB, "the tag does not match"))?;
        Self::decode(&json)
    }

    /// Bytes of the blob: nonce, cipher text, tag. `nonce` must be fresh random bytes.
    ///
    /// # Errors
    /// `Malformed` if the `data` of a run is not JSON, `OutOfRange` if the key has not 32 bytes.
    pub fn seal(&self, key: &[u8], nonce: [u8; 12]) -> Result<Vec<u8>> {
        seal_with_nonce(&schedule_cipher(key)?, nonce, SCHEDULE_ADDITIONAL_DATA, &self.encode()?)
    }

    /// Runs of `task`, newest first.
    pub fn runs_of(&self, task: MaintenanceTask) -> &[MaintenanceRun] {
        self.runs.get(task.name()).map_or(&[], Vec::as_slice)
    }

    /// Records a run as the newest of `task` and forgets the oldest beyond [`RUNS_PER_TASK_MAX`].
    pub fn report_run(&mut self, task: MaintenanceTask, run: MaintenanceRun) {
        let runs = self.runs.entry(task.name().to_owned()).or_default();
        runs.insert(0, run);
        runs.truncate(RUNS_PER_TASK_MAX);
    }
}

/// The key of the schedule blob: from the master key, or from the password where that cannot change.
///
/// # Errors
/// None in practice.
pub fn schedule_key(
    config: &RepositoryConfig,
    format_key: &FormatEncryptionKey,
    unique_id: &[u8],
) -> Result<Zeroizing<Vec<u8>>> {
    let ikm: &[u8] = if config.enable_password_change { &config.master_key } else { &**format_key };
    derive_purpose_key(ikm, unique_id, SCHEDULE_KEY_PURPOSE, 32)
}

fn schedule_cipher(key: &[u8]) -> Result<LessSafeKey> {
    let unbound = UnboundKey::new(&AES_256_GCM, key);
    unbound.map(LessSafeKey::new).map_err(|_| {
        FormatError::new(FormatErrorKind::OutOfRange, SCHEDULE_BLOB, format!("key of {} bytes", key.len()))
    })
}

/// For `with`: JSON text as it stands.
mod raw_json {
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(json: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(json).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Ok(Box::<RawValue>::deserialize(deserializer)?.get().to_owned())
    }
}
