//! Upkeep of epoch indexes (format document §4.7.5): compact, advance, join ranges, clean up.
//!
//! All decisions are in `kopia_format::epoch`; here they meet the storage. Two maintainers that do the
//! same at once write two sets, of which readers take one: all sets of an epoch say the same.

use super::super::cycle::{Cycle, Finished};
use super::super::report::{CountAndBytes, TaskDetails};
use crate::error::{ErrorKind, Result};
use kopia_format::BlobId;
use kopia_format::epoch::{
    DELETION_WATERMARK_BODY, EPOCH_MARKER_BODY, EpochState, ListedBlob, deletion_watermark_name,
    epoch_marker_name, range_prefix, single_prefix,
};

pub(in crate::maintenance) fn compact_single(cycle: &Cycle<'_>) -> Result<Finished> {
    let state = list(cycle)?;
    let Some(epoch) = state.single_compaction_candidate() else {
        return Ok(Finished::Nothing("no settled epoch is left to compact".into()));
    };
    let blobs = &state.uncompacted[&epoch];
    let Some((inputs, outputs)) = compact(cycle, blobs, &single_prefix(epoch))? else {
        return Ok(Finished::Nothing(format!("another client compacted epoch {epoch} at the same time")));
    };
    Ok(Finished::Done(TaskDetails::CompactEpoch { epoch, inputs, outputs }))
}

pub(in crate::maintenance) fn compact_range(cycle: &Cycle<'_>) -> Result<Finished> {
    let state = list(cycle)?;
    let parameters = &cycle.repository.config().epoch_parameters;
    let Some((first, last)) = state.range_checkpoint_candidate(parameters) else {
        return Ok(Finished::Nothing("too few epochs are settled for a range".into()));
    };
    let blobs = state.index_blobs_of(first, last);
    if blobs.is_empty() {
        return Ok(Finished::Nothing(format!("epochs {first} to {last} are empty")));
    }
    let Some((inputs, outputs)) = compact(cycle, &blobs, &range_prefix(first, last))? else {
        return Ok(Finished::Nothing(format!(
            "another client compacted epochs {first} to {last} at the same time"
        )));
    };
    Ok(Finished::Done(TaskDetails::EpochRange { first, last, inputs, outputs }))
}

/// Joins `blobs` into a set with names that begin with `prefix`; `None` if one of them vanished.
fn compact(cycle: &Cycle<'_>, blobs: &[ListedBlob], prefix: &str) -> Result<Option<(CountAndBytes, u64)>> {
    let mut inputs = CountAndBytes::default();
    blobs.iter().for_each(|blob| inputs.add(blob.length));
    if cycle.dry_run {
        return Ok(Some((inputs, 0)));
    }
    let contents = cycle.repository.contents();
    let names: Vec<BlobId> = blobs.iter().map(|blob| blob.id.clone()).collect();
    let joined = match contents.join_indexes(&names, None) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => return Ok(None),
        joined => joined?,
    };
    let outputs = contents.store_epoch_compaction(&joined, prefix)?;
    Ok(Some((inputs, outputs.len() as u64)))
}

pub(in crate::maintenance) fn advance(cycle: &Cycle<'_>) -> Result<Finished> {
    let state = list(cycle)?;
    let epoch = state.write_epoch;
    if !state.should_advance(&cycle.repository.config().epoch_parameters) {
        return Ok(Finished::Done(TaskDetails::AdvanceEpoch { epoch, advanced: false }));
    }
    if !cycle.dry_run {
        put(cycle, epoch_marker_name(epoch + 1), EPOCH_MARKER_BODY)?;
    }
    Ok(Finished::Done(TaskDetails::AdvanceEpoch { epoch: epoch + 1, advanced: !cycle.dry_run }))
}

pub(in crate::maintenance) fn clean_markers(cycle: &Cycle<'_>) -> Result<Finished> {
    let blobs = list(cycle)?.deletable_markers(&cycle.repository.config().epoch_parameters);
    delete(cycle, &blobs)?;
    let watermarks = blobs.iter().filter(|id| id.as_str().starts_with("xw")).count() as u64;
    Ok(Finished::Done(TaskDetails::EpochMarkers { markers: blobs.len() as u64 - watermarks, watermarks }))
}

pub(in crate::maintenance) fn delete_superseded(cycle: &Cycle<'_>) -> Result<Finished> {
    let state = list(cycle)?;
    let blobs = state.superseded_uncompacted(&cycle.repository.config().epoch_parameters);
    delete(cycle, &blobs)?;
    let mut deleted = CountAndBytes::default();
    let names: std::collections::HashSet<_> = blobs.iter().collect();
    let listed = state.uncompacted.values().flatten();
    listed.filter(|blob| names.contains(&blob.id)).for_each(|blob| deleted.add(blob.length));
    Ok(Finished::Done(TaskDetails::SupersededIndexes { deleted }))
}

/// Makes entries deleted up to `seconds` absent; whether that is news.
pub(super) fn set_watermark(cycle: &Cycle<'_>, seconds: i64) -> Result<bool> {
    let state = list(cycle)?;
    if !state.accepts_watermark(seconds) || seconds == state.deletion_watermark {
        return Ok(false);
    }
    if !cycle.dry_run {
        put(cycle, deletion_watermark_name(seconds), DELETION_WATERMARK_BODY)?;
    }
    Ok(true)
}

fn list(cycle: &Cycle<'_>) -> Result<EpochState> {
    let mut listed = Vec::new();
    cycle.repository.storage().list("x", &mut |blob| {
        listed.push(ListedBlob { id: blob.id, length: blob.length, timestamp: blob.timestamp });
        Ok(())
    })?;
    Ok(EpochState::from_listing(&listed))
}

fn put(cycle: &Cycle<'_>, name: String, body: &[u8]) -> Result<()> {
    cycle.repository.contents().context().put(&BlobId::new(name), body)
}

fn delete(cycle: &Cycle<'_>, blobs: &[BlobId]) -> Result<()> {
    if cycle.dry_run {
        return Ok(());
    }
    blobs.iter().try_for_each(|id| cycle.delete(id).map(drop))
}
