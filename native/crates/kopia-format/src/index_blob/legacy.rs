//! Index management without epochs: which `n` blobs count, what to compact, what to delete
//! (format document §4.6).
//!
//! Pure decisions over listings and the opened bodies of `m` (compaction log) and `l` (clean-up
//! record) blobs. The surprise: a compaction hides its inputs by its log alone, so a log must
//! outlive the blobs that it names; deleting runs in two steps, each a settle time apart by the
//! clock of the *storage*.
//! Source: Kopia `repo/content/indexblob/index_blob_manager_v0.go`.

use super::legacy_json;
use crate::epoch::{ListedBlob, nanoseconds_between};
use crate::error::Result;
use crate::ids::BlobId;
use crate::time::Timestamp;
use std::collections::{BTreeSet, HashSet};

/// The poison blob that old clients must not read past (§2.6).
pub const POISON_BLOB: &str =
    "n00000000000000000000000000000000-repository_unreadable_by_this_kopia_version_upgrade_required";

/// How long a deletion waits for all clients to see what replaces a blob; 0 in unsafe mode.
pub const LEGACY_SETTLE_SECONDS: u64 = 3600;

/// Blobs smaller than this part of the pack size are "very small".
const VERY_SMALL_FRACTION: u64 = 20;

/// A blob as a compaction log names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedBlob {
    /// Its name.
    pub id: BlobId,
    /// Its length, in bytes.
    pub length: u64,
    /// When the storage said that it was written.
    pub timestamp: Timestamp,
}

/// Body of an `m` blob: the outputs hold everything that the inputs held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompactionLog {
    /// `n` blobs that were merged.
    pub inputs: Vec<LoggedBlob>,
    /// `n` blobs that replace them; none if nothing was left.
    pub outputs: Vec<LoggedBlob>,
}

/// Body of an `l` blob: `m` blobs whose inputs are deleted, to be deleted in their turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanupRecord {
    /// The `m` blobs.
    pub blob_ids: Vec<BlobId>,
    /// Storage timestamp of the `m` blob whose compaction scheduled this.
    pub cleanup_schedule_time: Timestamp,
}

impl CompactionLog {
    /// JSON.
    pub fn encode(&self) -> Vec<u8> {
        legacy_json::encode_log(self)
    }

    /// Parses.
    ///
    /// # Errors
    /// `Malformed` for anything that is not a compaction log.
    pub fn decode(json: &[u8]) -> Result<Self> {
        legacy_json::decode_log(json)
    }
}

impl CleanupRecord {
    /// JSON.
    pub fn encode(&self) -> Vec<u8> {
        legacy_json::encode_record(self)
    }

    /// Parses.
    ///
    /// # Errors
    /// `Malformed` for anything that is not a clean-up record.
    pub fn decode(json: &[u8]) -> Result<Self> {
        legacy_json::decode_record(json)
    }
}

/// Active legacy index blobs out of `n` blobs and the valid compaction logs among `logs` (name, body).
///
/// A log is valid only if all its outputs are listed; the poison blob is never active. The order
/// is that of `index_blobs`.
pub fn active_legacy(index_blobs: &[BlobId], logs: &[(BlobId, CompactionLog)]) -> Vec<BlobId> {
    let listed: HashSet<&BlobId> = index_blobs.iter().collect();
    let is_valid = |log: &&CompactionLog| log.outputs.iter().all(|blob| listed.contains(&blob.id));
    let valid = logs.iter().map(|(_, log)| log).filter(is_valid);
    let replaced: HashSet<&BlobId> = valid.flat_map(|log| &log.inputs).map(|blob| &blob.id).collect();
    let is_active = |id: &&BlobId| !replaced.contains(id) && id.as_str() != POISON_BLOB;
    index_blobs.iter().filter(is_active).cloned().collect()
}

/// What decides over a legacy compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyCompactionLimits {
    /// `maxPackSize` of the repository, in bytes: larger index blobs are left alone.
    pub pack_size_max: u64,
    /// With fewer candidates nothing is done; 8 in maintenance.
    pub small_blobs_max: usize,
    /// Compact blobs of any size.
    pub all_indexes: bool,
    /// The compaction is to drop entries, so that a single blob is worth it too.
    pub drops_contents: bool,
}

/// Which of the active index blobs to merge; none: nothing to do.
///
/// If most candidates are very small and the others are few, only the very small ones are taken,
/// so that large blobs are not rewritten each time.
pub fn legacy_compaction_plan(active: &[ListedBlob], limits: &LegacyCompactionLimits) -> Vec<ListedBlob> {
    let is_candidate = |blob: &&ListedBlob| limits.all_indexes || blob.length <= limits.pack_size_max;
    let is_very_small = |blob: &&ListedBlob| blob.length < limits.pack_size_max / VERY_SMALL_FRACTION;
    let candidates: Vec<&ListedBlob> =
        active.iter().filter(|blob| blob.id.as_str() != POISON_BLOB).filter(is_candidate).collect();
    if candidates.len() < limits.small_blobs_max {
        return Vec::new();
    }
    let very_small: Vec<&ListedBlob> = candidates.iter().copied().filter(is_very_small).collect();
    let medium = candidates.len() - very_small.len();
    let only_very_small = very_small.len() > candidates.len() / 2 && medium + 1 < limits.small_blobs_max;
    let chosen = if only_very_small { very_small } else { candidates };
    if chosen.len() <= 1 && !limits.drops_contents {
        return Vec::new();
    }
    chosen.into_iter().cloned().collect()
}

/// What follows a compaction, in this order: delete `index_blobs`, then write `record`.
///
/// Index blobs go before the logs that hide them, or they would come back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegacyDeletion {
    /// Inputs of settled compactions.
    pub index_blobs: Vec<BlobId>,
    /// Names the logs of those compactions; `None` if there are none.
    pub record: Option<CleanupRecord>,
}

/// Whether the log `log` is old enough for its inputs to go, where `written` is the storage
/// timestamp of the log just written. Only such logs need to be read.
pub fn is_settled_log(log: &ListedBlob, written: Timestamp, settle_seconds: u64) -> bool {
    age_is_at_least(log.timestamp, written, settle_seconds)
}

/// Decides what goes after a compaction whose log the storage stamped `written`: of `logs`, all
/// listed `m` blobs that [`is_settled_log`], with their bodies; `None` where the log vanished.
pub fn legacy_deletion(
    logs: &[(ListedBlob, Option<CompactionLog>)],
    written: Timestamp,
    settle_seconds: u64,
) -> LegacyDeletion {
    let settled = || logs.iter().filter(|(blob, _)| is_settled_log(blob, written, settle_seconds));
    let inputs = settled().filter_map(|(_, log)| log.as_ref()).flat_map(|log| &log.inputs);
    let index_blobs: BTreeSet<&BlobId> = inputs.map(|blob| &blob.id).collect();
    let blob_ids: Vec<BlobId> = settled().map(|(blob, _)| blob.id.clone()).collect();
    let record = (!blob_ids.is_empty()).then_some(CleanupRecord { blob_ids, cleanup_schedule_time: written });
    LegacyDeletion { index_blobs: index_blobs.into_iter().cloned().collect(), record }
}

/// What a clean-up pass deletes, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegacyCleanup {
    /// `m` blobs whose inputs are long gone.
    pub logs: Vec<BlobId>,
    /// `l` blobs that named them.
    pub records: Vec<BlobId>,
}

/// Decides a clean-up pass over all listed `l` blobs and their bodies; `None` where one vanished.
///
/// The age of a record runs from its schedule time to the latest storage timestamp among the
/// `l` blobs.
pub fn legacy_cleanup(records: &[(ListedBlob, Option<CleanupRecord>)], settle_seconds: u64) -> LegacyCleanup {
    let mut cleanup = LegacyCleanup::default();
    let Some(latest) = records.iter().map(|(blob, _)| blob.timestamp).max() else { return cleanup };
    for (blob, record) in records {
        let Some(record) = record else { continue };
        if age_is_at_least(record.cleanup_schedule_time, latest, settle_seconds) {
            cleanup.logs.extend_from_slice(&record.blob_ids);
            cleanup.records.push(blob.id.clone());
        }
    }
    cleanup
}

fn age_is_at_least(since: Timestamp, now: Timestamp, settle_seconds: u64) -> bool {
    nanoseconds_between(since, now) >= i128::from(settle_seconds) * 1_000_000_000
}
