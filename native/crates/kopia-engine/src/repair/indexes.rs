//! Index entries out of the packs, in place of index blobs that are damaged or gone.
//!
//! The new index is stored before anything is put aside. Deletions that no pack holds are lost: what
//! was deleted is there again until the next collections.

use super::RepairOptions;
use super::damaged::{DamagedBlob, put_aside};
use super::losses::ListedPacks;
use crate::blob::{BlobMetadata, Storage};
use crate::error::{ErrorKind, Result};
use crate::maintenance::CountAndBytes;
use crate::repository::Repository;
use serde::Serialize;

/// Entries taken in between two flushes.
const FLUSH_ENTRIES: u64 = 500_000;

/// What became of the indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IndexRepair {
    /// Index blobs that do not open; they are kept as `damaged_…` unless it was a dry run.
    pub damaged: Vec<DamagedBlob>,
    /// Packs whose own index was read.
    pub packs_read: u64,
    /// Packs whose own index does not open either.
    pub packs_without_index: Vec<DamagedBlob>,
    /// Contents that only the packs know.
    pub recovered: CountAndBytes,
    /// Packs that no index entry names: left by a backup that was cut off, or their index blobs were deleted.
    pub unindexed_packs: CountAndBytes,
}

/// `storage` shows the damaged blobs, the storage of `repository` does not.
pub(super) fn repair(
    storage: &dyn Storage,
    repository: &Repository,
    damaged: Vec<DamagedBlob>,
    options: &RepairOptions,
) -> Result<IndexRepair> {
    let mut report = IndexRepair { damaged, ..IndexRepair::default() };
    let packs = ListedPacks::list(repository)?;
    report.unindexed_packs = packs.unindexed;
    // Where no index is left at all there is nothing to be careful of.
    let index_is_gone = packs.none_is_indexed() && packs.unindexed.count > 0;
    if report.damaged.is_empty() && !options.all_packs && !index_is_gone {
        return Ok(report);
    }
    for prefix in ["q", "p"] {
        let mut packs = Vec::new();
        storage.list(prefix, &mut |pack| {
            packs.push(pack);
            Ok(())
        })?;
        packs.iter().try_for_each(|pack| take_in(repository, pack, options, &mut report))?;
    }
    if !options.dry_run {
        repository.flush()?;
        report.damaged.iter().try_for_each(|blob| put_aside(storage, &blob.id()))?;
    }
    Ok(report)
}

fn take_in(
    repository: &Repository,
    pack: &BlobMetadata,
    options: &RepairOptions,
    report: &mut IndexRepair,
) -> Result<()> {
    options.cancel.check()?;
    let contents = repository.contents();
    let entries = match contents.read_local_index(&pack.id, pack.length) {
        Ok(entries) => entries,
        Err(error) if error.kind == ErrorKind::BlobNotFound => return Ok(()),
        Err(error)
            if matches!(
                error.kind,
                ErrorKind::Corrupted | ErrorKind::InvalidRange | ErrorKind::UnsupportedFormat
            ) =>
        {
            let name = pack.id.as_str().to_owned();
            report.packs_without_index.push(DamagedBlob { name, why: error.to_string() });
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    report.packs_read += 1;
    for entry in &entries {
        if !contents.is_missing(entry)? {
            continue;
        }
        report.recovered.add(entry.packed_length());
        if !options.dry_run {
            contents.take_in(entry);
            if report.recovered.count.is_multiple_of(FLUSH_ENTRIES) {
                contents.flush()?;
            }
        }
    }
    Ok(())
}
