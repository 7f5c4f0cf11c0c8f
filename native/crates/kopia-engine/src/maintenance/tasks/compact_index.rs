//! Joining legacy index blobs, `n`, and cleaning up after it (format document §4.6).
//!
//! A compaction is safe beside another one only if its inputs still count when its outputs appear:
//! else it would bring back entries that the other dropped. So they are listed again after the
//! outputs are stored, and outputs of outdated inputs are withdrawn.
//! Source: Kopia `repo/content/indexblob/index_blob_manager_v0.go`.

use super::super::cycle::{Cycle, Finished};
use super::super::report::{CountAndBytes, TaskDetails};
use crate::blob::BlobMetadata;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::epoch::ListedBlob;
use kopia_format::index_blob::{
    CleanupRecord, CompactionLog, LegacyCompactionLimits, LoggedBlob, active_legacy, is_settled_log,
    legacy_cleanup, legacy_compaction_plan, legacy_deletion,
};
use kopia_format::{BlobId, Timestamp};
use std::collections::HashSet;

/// Kopia compacts in maintenance once there are as many blobs.
const SMALL_BLOBS_MAX: usize = 8;
/// A compaction that takes longer is withdrawn: its inputs may be gone.
const COMPACTION_SECONDS_MAX: i64 = 30 * 60;

pub(in crate::maintenance) fn compact(cycle: &Cycle<'_>) -> Result<Finished> {
    let limits = LegacyCompactionLimits {
        pack_size_max: cycle.repository.contents().max_pack_size_bytes(),
        small_blobs_max: SMALL_BLOBS_MAX,
        all_indexes: false,
        drops_contents: false,
    };
    let inputs = legacy_compaction_plan(&active(cycle)?, &limits);
    let mut details = Details::default();
    if inputs.len() > 1 {
        details = join(cycle, &inputs, None)?;
    }
    details.deleted_logs = clean_up(cycle)?;
    if inputs.len() <= 1 {
        return Ok(Finished::Nothing("too few small index blobs".into()));
    }
    cycle.repository.contents().refresh()?;
    Ok(Finished::Done(TaskDetails::CompactIndex {
        inputs: details.inputs,
        outputs: details.outputs,
        deleted_inputs: details.deleted_inputs,
        deleted_logs: details.deleted_logs,
    }))
}

/// Joins all index blobs and leaves out what was deleted before `time`; whether there were any.
pub(super) fn drop_deleted(cycle: &Cycle<'_>, time: Timestamp) -> Result<bool> {
    let inputs = active(cycle)?;
    if inputs.is_empty() {
        return Ok(false);
    }
    join(cycle, &inputs, Some(time))?;
    clean_up(cycle)?;
    Ok(true)
}

#[derive(Default)]
struct Details {
    inputs: CountAndBytes,
    outputs: u64,
    deleted_inputs: u64,
    deleted_logs: u64,
}

fn join(cycle: &Cycle<'_>, inputs: &[ListedBlob], drop_before: Option<Timestamp>) -> Result<Details> {
    let mut details = Details::default();
    inputs.iter().for_each(|blob| details.inputs.add(blob.length));
    if cycle.dry_run {
        return Ok(details);
    }
    let contents = cycle.repository.contents();
    let started = cycle.now();
    let names: Vec<BlobId> = inputs.iter().map(|blob| blob.id.clone()).collect();
    let joined = contents.join_indexes(&names, drop_before)?;
    check_still_active(cycle, &names, started)?;
    let outputs = contents.store_legacy_compaction(&joined)?;
    if let Err(error) = check_still_active(cycle, &names, started) {
        outputs.iter().try_for_each(|id| cycle.repository.storage().delete(id))?;
        return Err(error);
    }
    details.outputs = outputs.len() as u64;
    details.deleted_inputs = register(cycle, inputs, &outputs)?;
    Ok(details)
}

fn check_still_active(cycle: &Cycle<'_>, inputs: &[BlobId], started: Timestamp) -> Result<()> {
    let active: HashSet<BlobId> = active(cycle)?.into_iter().map(|blob| blob.id).collect();
    let slow = cycle.now().seconds - started.seconds > COMPACTION_SECONDS_MAX;
    if slow || !inputs.iter().all(|id| active.contains(id)) {
        let message =
            "index blobs changed while they were joined (another client does the same?): try again later";
        return Err(Error::new(ErrorKind::Storage, message).temporary());
    }
    Ok(())
}

/// Writes the log that hides the inputs, then deletes those of settled logs; how many.
fn register(cycle: &Cycle<'_>, inputs: &[ListedBlob], outputs: &[BlobId]) -> Result<u64> {
    let storage = cycle.repository.storage();
    let logged = |id: &BlobId, length, timestamp| LoggedBlob { id: id.clone(), length, timestamp };
    let mut log = CompactionLog {
        inputs: inputs.iter().map(|blob| logged(&blob.id, blob.length, blob.timestamp)).collect(),
        outputs: Vec::new(),
    };
    for id in outputs {
        let BlobMetadata { length, timestamp, .. } = storage.metadata(id)?;
        log.outputs.push(logged(id, length, timestamp));
    }
    let id = cycle.repository.contents().context().put_sealed("m", None, &log.encode())?;
    storage.sync()?;
    delete_settled(cycle, storage.metadata(&id)?.timestamp)
}

fn delete_settled(cycle: &Cycle<'_>, written: Timestamp) -> Result<u64> {
    let settle_seconds = cycle.safety.index_settle_time.as_secs();
    let contents = cycle.repository.contents();
    let mut logs = Vec::new();
    for blob in list(cycle, "m")? {
        if is_settled_log(&blob, written, settle_seconds) {
            let log = contents.read_compaction_log(&blob.id)?;
            logs.push((blob, log));
        }
    }
    let deletion = legacy_deletion(&logs, written, settle_seconds);
    // Index blobs go before the logs that hide them, or they would come back.
    deletion.index_blobs.iter().try_for_each(|id| cycle.repository.storage().delete(id))?;
    if let Some(record) = &deletion.record {
        contents.context().put_sealed("l", None, &record.encode())?;
    }
    Ok(deletion.index_blobs.len() as u64)
}

/// Deletes logs whose inputs are long gone; how many.
fn clean_up(cycle: &Cycle<'_>) -> Result<u64> {
    if cycle.dry_run {
        return Ok(0);
    }
    let mut records = Vec::new();
    for blob in list(cycle, "l")? {
        let json = cycle.repository.contents().read_sealed_blob(&blob.id)?;
        let record = json.map(|json| CleanupRecord::decode(&json)).transpose()?;
        records.push((blob, record));
    }
    let cleanup = legacy_cleanup(&records, cycle.safety.index_settle_time.as_secs());
    let storage = cycle.repository.storage();
    cleanup.logs.iter().chain(&cleanup.records).try_for_each(|id| storage.delete(id))?;
    Ok(cleanup.logs.len() as u64)
}

/// Index blobs that count now.
fn active(cycle: &Cycle<'_>) -> Result<Vec<ListedBlob>> {
    let indexes = list(cycle, "n")?;
    let mut logs = Vec::new();
    for blob in list(cycle, "m")? {
        if let Some(log) = cycle.repository.contents().read_compaction_log(&blob.id)? {
            logs.push((blob.id, log));
        }
    }
    let names: Vec<BlobId> = indexes.iter().map(|blob| blob.id.clone()).collect();
    let active: HashSet<BlobId> = active_legacy(&names, &logs).into_iter().collect();
    Ok(indexes.into_iter().filter(|blob| active.contains(&blob.id)).collect())
}

fn list(cycle: &Cycle<'_>, prefix: &str) -> Result<Vec<ListedBlob>> {
    let mut listed = Vec::new();
    cycle.repository.storage().list(prefix, &mut |blob| {
        listed.push(ListedBlob { id: blob.id, length: blob.length, timestamp: blob.timestamp });
        Ok(())
    })?;
    Ok(listed)
}
