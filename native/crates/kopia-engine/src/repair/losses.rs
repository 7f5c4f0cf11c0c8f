//! Which contents are lost: their pack is gone or too short, or (if asked) they do not read back.
//!
//! Manifest contents are always read, since nothing can be told of snapshots without them. A failure that
//! may pass (a network, a refused read) is never taken for a loss: it ends the repair.

use super::RepairOptions;
use super::lost_contents::LostContents;
use crate::content::frozen::{FrozenIndex, NumberSet};
use crate::content::group::copy_of;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::CountAndBytes;
use crate::repository::Repository;
use crate::verify::read_back_rows;
use kopia_format::ContentId;
use parking_lot::Mutex;
use std::collections::HashSet;

/// Prefix of manifest contents.
const MANIFEST_PREFIX: u8 = b'm';

/// Packs as the storage lists them, by their numbers in the index.
pub(super) struct ListedPacks {
    lengths: Vec<Option<u64>>,
    /// Packs that no index entry names.
    pub(super) unindexed: CountAndBytes,
}

impl ListedPacks {
    pub(super) fn list(repository: &Repository) -> Result<Self> {
        let contents = repository.contents();
        let mut found =
            Self { lengths: vec![None; contents.pack_count()], unindexed: CountAndBytes::default() };
        for prefix in ["p", "q"] {
            repository.storage().list(prefix, &mut |blob| {
                let number = contents.pack_number(&blob.id).map(|number| number as usize);
                match number.and_then(|number| found.lengths.get_mut(number)) {
                    Some(length) => *length = Some(blob.length),
                    None => found.unindexed.add(blob.length),
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Whether no index entry names any pack.
    pub(super) fn none_is_indexed(&self) -> bool {
        self.lengths.is_empty()
    }
}

/// Whether an error says that what was to be read is not there any more, at no time.
pub(super) fn is_loss(error: &Error) -> bool {
    matches!(
        error.kind,
        ErrorKind::BlobNotFound
            | ErrorKind::ContentNotFound
            | ErrorKind::ObjectNotFound
            | ErrorKind::InvalidRange
            | ErrorKind::Corrupted
    )
}

/// Rows of contents that are lost, deleted ones too: snapshots may still need them.
pub(super) fn find(
    repository: &Repository,
    index: &FrozenIndex,
    packs: &ListedPacks,
    options: &RepairOptions,
    report: &mut LostContents,
) -> Result<NumberSet> {
    let rows = index.no_rows();
    places(repository, index, packs, &rows, report)?;
    manifests(repository, index, &rows, report)?;
    if options.read_packs {
        unreadable(repository, index, &rows, options, report)?;
    }
    Ok(rows)
}

fn places(
    repository: &Repository,
    index: &FrozenIndex,
    packs: &ListedPacks,
    rows: &NumberSet,
    report: &mut LostContents,
) -> Result<()> {
    let contents = repository.contents();
    let (mut gone, mut short) = (HashSet::new(), HashSet::new());
    contents.for_each_place(index, &mut |content| {
        let pack = content.place.pack;
        let end = u64::from(content.place.offset) + u64::from(content.length);
        let lost_with = match packs.lengths.get(pack as usize).copied().flatten() {
            None => &mut gone,
            Some(length) if end > length => &mut short,
            Some(_) => return Ok(()),
        };
        lost_with.insert(pack);
        rows.add(content.place.row as usize);
        report.contents.add(content.length.into());
        Ok(())
    })?;
    let names = |numbers: HashSet<u32>| -> Result<Vec<String>> {
        let mut names = numbers
            .into_iter()
            .map(|number| Ok(contents.pack_name(number)?.as_str().to_owned()))
            .collect::<Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    };
    report.packs = names(gone)?;
    report.short_packs = names(short)?;
    Ok(())
}

/// Reads the manifest contents and leaves those out that are lost.
fn manifests(
    repository: &Repository,
    index: &FrozenIndex,
    rows: &NumberSet,
    report: &mut LostContents,
) -> Result<()> {
    let contents = repository.contents();
    let mut found = Vec::new();
    contents.for_each_prefixed(MANIFEST_PREFIX, false, &mut |info| {
        found.push(info);
        Ok(())
    })?;
    let mut lost: HashSet<ContentId> = HashSet::new();
    let mut bytes = Vec::new();
    for info in found {
        let Some(row) = index.row_of(&info.id)? else { continue };
        if !rows.contains(row) {
            match contents.read(&info.id, &mut bytes) {
                Err(error) if is_loss(&error) => {
                    rows.add(row);
                    report.damaged.add(info.packed_length.into());
                }
                read => {
                    read?;
                    continue;
                }
            }
        }
        lost.insert(info.id);
    }
    report.manifest_contents = lost.len() as u64;
    repository.manifests().leave_out(lost);
    Ok(())
}

/// Reads all that is not lost already.
fn unreadable(
    repository: &Repository,
    index: &FrozenIndex,
    rows: &NumberSet,
    options: &RepairOptions,
    report: &mut LostContents,
) -> Result<()> {
    let damaged = Mutex::new(CountAndBytes::default());
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    // What is found meanwhile is added afterwards: the walk asks the set which rows to leave out.
    let found = index.no_rows();
    read_back_rows(repository, index, rows, (&options.progress, &options.cancel), &|row, info, error| {
        if is_loss(error) {
            found.add(row);
            damaged.lock().add(info.packed_length.into());
        } else {
            failure.lock().get_or_insert_with(|| copy_of(error));
        }
    })?;
    if let Some(failure) = failure.into_inner() {
        return Err(failure.while_doing("not everything could be read, so no loss was looked after"));
    }
    found.numbers().for_each(|row| {
        rows.add(row);
    });
    let damaged = damaged.into_inner();
    report.damaged.count += damaged.count;
    report.damaged.bytes += damaged.bytes;
    Ok(())
}
