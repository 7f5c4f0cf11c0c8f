//! What hurts: sizes by kind, indexes, what is deleted but not freed, when maintenance last ran.
//!
//! One listing of all blobs and one pass over the index. `complaints` say what to do about it.

use super::report::{CountAndBytes, as_text};
use super::{owner, schedule};
use crate::error::Result;
use crate::repository::Repository;
use kopia_format::Timestamp;
use kopia_format::epoch::{EpochState, ListedBlob};
use kopia_format::maintenance::{MaintenanceSchedule, MaintenanceTask, NEVER};
use serde::Serialize;
use std::collections::BTreeMap;

/// More active index blobs make opening slow.
const INDEX_BLOBS_MANY: u64 = 1000;
/// Without a full cycle for so long, space is not freed.
const FULL_CYCLE_LATE_SECONDS: i64 = 3 * 86_400;
/// A larger share of deleted or unreferenced bytes is worth a word.
const WASTE_PERCENT: u64 = 25;

/// The state of a repository.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Blobs by kind.
    pub blobs: BTreeMap<&'static str, CountAndBytes>,
    /// Contents that count.
    pub live: CountAndBytes,
    /// Contents marked as deleted, whose space is not freed yet.
    pub deleted: CountAndBytes,
    /// Packs that no index entry names.
    pub unreferenced_packs: CountAndBytes,
    /// Packs that index entries name and the storage does not have.
    pub lost_packs: u64,
    /// Index blobs that are read when the repository is opened.
    pub active_index_blobs: u64,
    /// Epochs; absent in a repository without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<Epochs>,
    /// End of the last successful full cycle's first and last task, and of the last index upkeep.
    #[serde(serialize_with = "as_text")]
    pub last_snapshot_gc: Timestamp,
    /// End of the last successful deletion of packs.
    #[serde(serialize_with = "as_text")]
    pub last_deletion: Timestamp,
    /// What to do about it; empty if all is well.
    pub complaints: Vec<String>,
}

/// State of the epoch indexes.
#[derive(Debug, Clone, Serialize)]
pub struct Epochs {
    /// The epoch that is written.
    pub write_epoch: u64,
    /// Settled epochs that are not compacted.
    pub uncompacted: u64,
    /// Ranges that join epochs.
    pub ranges: u64,
    /// What was deleted up to this Unix second is forgotten.
    pub deletion_watermark_seconds: i64,
}

/// Looks at the whole repository.
///
/// # Errors
/// Those of listing blobs and reading the schedule.
pub fn health(repository: &Repository) -> Result<Health> {
    let contents = repository.contents();
    let used = contents.packs_in_use()?;
    let mut blobs = BTreeMap::<_, CountAndBytes>::new();
    let mut unreferenced_packs = CountAndBytes::default();
    let mut indexes = Vec::new();
    repository.storage().list("", &mut |blob| {
        let kind = kind_of(blob.id.as_str());
        blobs.entry(kind).or_default().add(blob.length);
        if matches!(kind, "data packs" | "metadata packs") && !contents.has_pack(&used, &blob.id) {
            unreferenced_packs.add(blob.length);
        }
        if kind == "indexes" {
            indexes.push(ListedBlob { id: blob.id, length: blob.length, timestamp: blob.timestamp });
        }
        Ok(())
    })?;
    let (mut live, mut deleted) = (CountAndBytes::default(), CountAndBytes::default());
    contents.for_each_place(&contents.freeze()?, &mut |content| {
        let sum = if content.deleted { &mut deleted } else { &mut live };
        sum.add(content.length.into());
        Ok(())
    })?;
    let schedule = schedule::load(repository)?;
    let mut health = Health {
        blobs,
        live,
        deleted,
        unreferenced_packs,
        lost_packs: contents.find_lost_packs()? as u64,
        active_index_blobs: contents.index_blob_count() as u64,
        epochs: repository.config().epoch_parameters.enabled.then(|| epochs(&indexes)),
        last_snapshot_gc: last_success(&schedule, &[MaintenanceTask::SnapshotGc]),
        last_deletion: last_success(
            &schedule,
            &[MaintenanceTask::FullDeleteBlobs, MaintenanceTask::QuickDeleteBlobs],
        ),
        complaints: Vec::new(),
    };
    health.complaints = complaints(&health, &owner::parameters(repository)?.owner, repository.clock().now());
    Ok(health)
}

fn kind_of(name: &str) -> &'static str {
    match name.as_bytes() {
        [b'p', ..] => "data packs",
        [b'q', ..] => "metadata packs",
        [b'x' | b'n' | b'm' | b'l', ..] => "indexes",
        [b's', ..] => "sessions",
        [b'_', ..] => "logs",
        _ if name.starts_with("kopia.") => "format",
        _ => "others",
    }
}

fn epochs(indexes: &[ListedBlob]) -> Epochs {
    let state = EpochState::from_listing(indexes);
    Epochs {
        write_epoch: state.write_epoch,
        uncompacted: state.single_compaction_candidates().count() as u64,
        ranges: state.ranges.len() as u64,
        deletion_watermark_seconds: state.deletion_watermark,
    }
}

fn last_success(schedule: &MaintenanceSchedule, tasks: &[MaintenanceTask]) -> Timestamp {
    let runs = tasks.iter().flat_map(|task| schedule.runs_of(*task));
    runs.filter(|run| run.success).map(|run| run.end).max().unwrap_or(NEVER)
}

fn complaints(health: &Health, owner: &str, now: Timestamp) -> Vec<String> {
    let mut complaints = Vec::new();
    if health.lost_packs > 0 {
        let count = health.lost_packs;
        complaints.push(format!(
            "{count} packs are gone: run mover repo repair, which tells the files; a backup with --no-parent stores them again"
        ));
    }
    if owner.is_empty() {
        complaints.push("nobody owns maintenance: it never runs; make somebody the owner".to_owned());
    }
    let since_gc = now.seconds.saturating_sub(health.last_snapshot_gc.seconds);
    if health.last_snapshot_gc == NEVER {
        complaints.push("no full maintenance has succeeded yet: space is not freed".to_owned());
    } else if since_gc > FULL_CYCLE_LATE_SECONDS {
        let days = since_gc / 86_400;
        complaints.push(format!("the last garbage collection was {days} days ago: space is not freed"));
    }
    if health.active_index_blobs > INDEX_BLOBS_MANY {
        let count = health.active_index_blobs;
        complaints.push(format!("{count} index blobs are read at every opening: run maintenance more often"));
    }
    if health.epochs.as_ref().is_some_and(|epochs| epochs.uncompacted > 1) {
        complaints.push("settled epochs wait for compaction: each maintenance run compacts one".to_owned());
    }
    let total = health.live.bytes + health.deleted.bytes + health.unreferenced_packs.bytes;
    let waste = health.deleted.bytes + health.unreferenced_packs.bytes;
    if total > 0 && waste.saturating_mul(100) / total >= WASTE_PERCENT {
        complaints.push(format!("{waste} bytes are deleted or unreferenced and not freed yet"));
    }
    complaints
}
