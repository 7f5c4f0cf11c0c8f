//! All contents of a repository, whether a snapshot uses them or not.

use super::bytes::{self, Reading};
use super::choice::Choice;
use super::packs::PackLengths;
use super::report::{Findings, VerifyOptions, VerifyResult};
use crate::cancel::CancelToken;
use crate::content::ContentInfo;
use crate::content::frozen::{FrozenIndex, NumberSet};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repository::Repository;
use kopia_format::BlobId;
use kopia_format::ContentId;
use kopia_format::compression::CompressorId;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// Contents taken together when they are sorted by pack: about 40 bytes each.
const SORTED_MAX: usize = 500_000;

/// Checks that the pack of every live content is long enough, and reads `percent` of them back,
/// pack by pack. They are hashed whatever the repository was opened with: this is care, not reading.
///
/// # Errors
/// `Canceled`; those of listing the storage and reading indexes. Damage is in the result.
pub fn verify_contents(
    repository: &Repository,
    options: &VerifyOptions,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<VerifyResult> {
    let contents = repository.contents();
    let findings = Findings::new(options, progress);
    let packs = PackLengths::list(repository.storage().as_ref())?;
    let choice = Choice::new(options.percent, options.seed);
    bytes::run(contents, options, &findings, cancel, Reading::unobserved(true), |queue| {
        let mut sorted = Sorted::default();
        contents.for_each(false, &mut |info| {
            cancel.check()?;
            findings.contents.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = packs.check(&info) {
                findings.damage(None, b"", &error);
            } else if choice.is_chosen(&info.id) {
                sorted.push(&info);
                if sorted.rows.len() >= SORTED_MAX {
                    sorted.drain(&mut |info| queue.push(info, None))?;
                }
            }
            Ok(())
        })?;
        sorted.drain(&mut |info| queue.push(info, None))
    })?;
    Ok(findings.finish())
}

/// Reads back the contents of a frozen index, deleted ones too, except the rows of `skipped`; `wrong` is
/// told of the row of each that is not whole, and why.
///
/// # Errors
/// `Canceled`; those of reading indexes. What is wrong with a content is told to `wrong`.
pub(crate) fn read_back_rows(
    repository: &Repository,
    index: &FrozenIndex,
    skipped: &NumberSet,
    (progress, cancel): (&Progress, &CancelToken),
    wrong: &(dyn Fn(usize, &ContentInfo, &Error) + Sync),
) -> Result<()> {
    let contents = repository.contents();
    let options = VerifyOptions { damages_listed_max: 0, ..VerifyOptions::default() };
    let findings = Findings::new(&options, progress);
    let observe = |info: &ContentInfo, error: Option<&Error>| {
        Progress::add(&progress.files_done, 1);
        if let Some(error) = error
            && let Ok(Some(row)) = index.row_of(&info.id)
        {
            wrong(row, info, error);
        }
    };
    bytes::run(contents, &options, &findings, cancel, Reading { hashing: true, observe: &observe }, |queue| {
        let mut sorted = Sorted::default();
        contents.for_each_place(index, &mut |content| {
            cancel.check()?;
            let row = content.place.row as usize;
            if !skipped.contains(row) {
                Progress::add(&progress.bytes_total, content.length.into());
                sorted.push(&contents.info_at(index, row)?);
                if sorted.rows.len() >= SORTED_MAX {
                    sorted.drain(&mut |info| queue.push(info, None))?;
                }
            }
            Ok(())
        })?;
        sorted.drain(&mut |info| queue.push(info, None))
    })
}

/// Contents in few bytes each, until they are sorted.
#[derive(Default)]
struct Sorted {
    packs: Vec<BlobId>,
    numbers: HashMap<BlobId, u32>,
    rows: Vec<Row>,
}

struct Row {
    pack: u32,
    offset: u32,
    packed_length: u32,
    original_length: u32,
    compressor: CompressorId,
    format_version: u8,
    id: ContentId,
}

impl Sorted {
    fn push(&mut self, info: &ContentInfo) {
        let next = self.packs.len() as u32;
        let pack = *self.numbers.entry(info.pack.clone()).or_insert(next);
        if pack == next {
            self.packs.push(info.pack.clone());
        }
        let ContentInfo { id, offset, packed_length, original_length, compressor, format_version, .. } =
            *info;
        self.rows.push(Row { pack, offset, packed_length, original_length, compressor, format_version, id });
    }

    fn drain(&mut self, each: &mut dyn FnMut(ContentInfo) -> Result<()>) -> Result<()> {
        self.rows.sort_unstable_by_key(|row| (row.pack, row.offset));
        for row in self.rows.drain(..) {
            let Row { pack, offset, packed_length, original_length, compressor, format_version, id } = row;
            each(ContentInfo {
                id,
                pack: self.packs[pack as usize].clone(),
                offset,
                packed_length,
                original_length,
                timestamp_seconds: 0,
                compressor,
                deleted: false,
                format_version,
            })?;
        }
        Ok(())
    }
}
