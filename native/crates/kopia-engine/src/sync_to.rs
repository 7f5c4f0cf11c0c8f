//! Copying a repository to another storage, blob by blob and sealed as it is: no password is needed.
//! Source: Kopia `cli/command_repository_sync.go`.
//!
//! Safe while others write to the source, and after any interruption: index blobs are listed *before* the packs and
//! stored *after* them, so the copy never has an index that names a pack which is still to come. What maintenance
//! took away meanwhile is why a pass may be repeated.

use crate::blob::exclusive::put_new;
use crate::blob::{BlobMetadata, PutOptions, Storage};
use crate::cancel::CancelToken;
use crate::content::parallel::workers;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::CountAndBytes;
use crate::progress::Progress;
use crate::repository::{FORMAT_BLOB, get_format_blob};
use kopia_format::BlobId;
use kopia_format::format_blob::FormatBlob;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Index blobs of every kind.
const INDEXES: [&str; 4] = ["n", "m", "l", "x"];
/// Everything else of a repository: packs, sessions, logs, `kopia.*`.
const OTHERS: [&str; 5] = ["p", "q", "s", "_", "k"];
/// Passes over a source that maintenance changes meanwhile.
const PASSES_MAX: usize = 3;
/// Blobs copied side by side unless the caller says otherwise; each worker holds one blob.
const PARALLEL: usize = 4;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct SyncToOptions {
    /// Delete what the source does not have.
    pub delete: bool,
    /// Change nothing: say what would be done.
    pub dry_run: bool,
    /// Fail unless the target holds this repository already.
    pub must_exist: bool,
    /// Blobs copied side by side.
    pub parallel: Option<NonZeroUsize>,
    /// Asks for the end; a later run goes on.
    pub cancel: CancelToken,
}

/// What was found and done.
#[derive(Debug, Default, Clone, Serialize)]
pub struct SyncToReport {
    /// Blobs that the target had already.
    pub present: CountAndBytes,
    /// Blobs copied, or to be copied.
    pub copied: CountAndBytes,
    /// Blobs of the target that the source does not have.
    pub extra: CountAndBytes,
    /// Those of them that were deleted.
    pub deleted: CountAndBytes,
    /// Whether the copies have the modification times of their originals.
    pub keeps_times: bool,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Makes `target` hold what `source` holds.
///
/// # Errors
/// `RepositoryNotFound` if there is none at `source`, or none at `target` and it must exist; `AlreadyExists` if
/// `target` holds another repository, or anything else; `Corrupted` if a blob comes shorter or longer than listed;
/// what the storages say.
pub fn sync_to(
    source: &dyn Storage,
    target: &dyn Storage,
    options: &SyncToOptions,
    progress: &Progress,
) -> Result<SyncToReport> {
    let copy = Copying { source, target, options, progress };
    let report =
        SyncToReport { keeps_times: target.is_local(), dry_run: options.dry_run, ..SyncToReport::default() };
    let mut report = copy.format_blob(report)?;
    let mut present = CountAndBytes::default();
    for pass in 0..PASSES_MAX {
        let whole = copy.pass(&mut present, &mut report)?;
        if pass == 0 {
            // later passes find what the first one copied
            report.present.count += present.count;
            report.present.bytes += present.bytes;
        }
        if whole {
            break;
        }
    }
    copy.extra(&mut report)?;
    if !options.dry_run {
        target.sync()?;
    }
    Ok(report)
}

struct Copying<'a> {
    source: &'a dyn Storage,
    target: &'a dyn Storage,
    options: &'a SyncToOptions,
    progress: &'a Progress,
}

impl Copying<'_> {
    /// The format blob first: it says whose place the target is.
    fn format_blob(&self, mut report: SyncToReport) -> Result<SyncToReport> {
        let bytes = get_format_blob(self.source)?;
        let length = bytes.len() as u64;
        let is_new = match get_format_blob(self.target) {
            Ok(there) => {
                self.check_same(&bytes, &there)?;
                if there == bytes {
                    report.present.add(length);
                    return Ok(report);
                }
                false
            }
            Err(error) if error.kind == ErrorKind::RepositoryNotFound && !self.options.must_exist => {
                self.check_empty()?;
                true
            }
            Err(error) => return Err(error),
        };
        report.copied.add(length);
        if self.options.dry_run {
            return Ok(report);
        }
        let original = self.source.metadata(&BlobId::new(FORMAT_BLOB))?;
        if is_new {
            put_new(self.target, &original.id, &bytes, &as_old_as(&original))?;
        } else {
            self.target.put(&original.id, &[&bytes], &as_old_as(&original))?;
        }
        Ok(report)
    }

    fn check_same(&self, ours: &[u8], theirs: &[u8]) -> Result<()> {
        if FormatBlob::parse(ours)?.unique_id == FormatBlob::parse(theirs)?.unique_id {
            return Ok(());
        }
        let place = self.target.describe();
        let message = format!("{place} holds another repository: choose a place of its own for the copy");
        Err(Error::new(ErrorKind::AlreadyExists, message))
    }

    fn check_empty(&self) -> Result<()> {
        self.target.list("", &mut |blob| {
            let place = self.target.describe();
            let message = format!("{place} holds blobs ({}) but no repository: nothing was copied", blob.id);
            Err(Error::new(ErrorKind::AlreadyExists, message).with("blob", blob.id))
        })
    }

    /// `false` if something vanished from the source meanwhile.
    fn pass(&self, present: &mut CountAndBytes, report: &mut SyncToReport) -> Result<bool> {
        let indexes = missing(self.source, self.target, &INDEXES, present)?;
        let others = missing(self.source, self.target, &OTHERS, present)?;
        let bytes = others.iter().chain(&indexes).map(|blob| blob.length).sum();
        self.progress.bytes_total.store(bytes, Ordering::Relaxed);
        if self.options.dry_run {
            others.iter().chain(&indexes).for_each(|blob| report.copied.add(blob.length));
            return Ok(true);
        }
        let before_indexes = self.copy_all(&others, report)?;
        // what the indexes name is on stable storage before they are
        self.target.sync()?;
        Ok(self.copy_all(&indexes, report)? && before_indexes)
    }

    fn copy_all(&self, blobs: &[BlobMetadata], report: &mut SyncToReport) -> Result<bool> {
        let next = AtomicUsize::new(0);
        let outcome = Mutex::new((CountAndBytes::default(), true, None::<Error>));
        let work = || {
            let mut bytes = Vec::new();
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let copied = self.copy(blob, &mut bytes);
                let mut outcome = outcome.lock();
                match copied {
                    Ok(true) => outcome.0.add(blob.length),
                    Ok(false) => outcome.1 = false,
                    Err(error) => {
                        outcome.2.get_or_insert(error);
                        next.store(blobs.len(), Ordering::Relaxed);
                        return;
                    }
                }
            }
        };
        let workers = workers(self.options.parallel.map(NonZeroUsize::get), PARALLEL).min(blobs.len());
        std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
        let (copied, whole, failed) = outcome.into_inner();
        report.copied.count += copied.count;
        report.copied.bytes += copied.bytes;
        failed.map_or(Ok(whole), Err)
    }

    /// `false` if the source has the blob no more.
    fn copy(&self, blob: &BlobMetadata, bytes: &mut Vec<u8>) -> Result<bool> {
        self.options.cancel.check()?;
        match self.source.get(&blob.id, bytes) {
            Err(error) if error.kind == ErrorKind::BlobNotFound => return Ok(false),
            result => result?,
        }
        // `kopia.*` are written anew in place, so theirs may have changed since the listing
        if bytes.len() as u64 != blob.length && !blob.id.as_str().starts_with('k') {
            let message = format!(
                "blob {} of {} is listed with {} bytes and has {}",
                blob.id,
                self.source.describe(),
                blob.length,
                bytes.len()
            );
            return Err(Error::new(ErrorKind::Corrupted, message).with("blob", &blob.id));
        }
        self.target.put(&blob.id, &[bytes], &as_old_as(blob))?;
        Progress::add(&self.progress.bytes_uploaded, blob.length);
        Progress::add(&self.progress.files_done, 1);
        Ok(true)
    }

    /// Counts what only the target has, and deletes it if asked to: indexes first, so that nothing names what is gone.
    fn extra(&self, report: &mut SyncToReport) -> Result<()> {
        for prefix in INDEXES.iter().chain(&OTHERS) {
            let mut extra = Vec::new();
            self.target.list(prefix, &mut |blob| {
                extra.push(blob);
                Ok(())
            })?;
            let mut ours = HashSet::new();
            self.source.list(prefix, &mut |blob| {
                ours.insert(blob.id);
                Ok(())
            })?;
            for blob in extra.iter().filter(|blob| !ours.contains(&blob.id)) {
                self.options.cancel.check()?;
                report.extra.add(blob.length);
                if self.options.delete && !self.options.dry_run {
                    self.target.delete(&blob.id)?;
                    report.deleted.add(blob.length);
                }
            }
        }
        Ok(())
    }
}

/// What the target lacks, or has in another length or, where blobs are replaced in place, older.
fn missing(
    source: &dyn Storage,
    target: &dyn Storage,
    prefixes: &[&str],
    present: &mut CountAndBytes,
) -> Result<Vec<BlobMetadata>> {
    let mut missing = Vec::new();
    for prefix in prefixes {
        let mut there = HashMap::new();
        target.list(prefix, &mut |blob| {
            there.insert(blob.id, (blob.length, blob.timestamp));
            Ok(())
        })?;
        source.list(prefix, &mut |blob| {
            let same = there.get(&blob.id).is_some_and(|(length, timestamp)| {
                *length == blob.length && (*prefix != "k" || *timestamp >= blob.timestamp)
            });
            if blob.id.as_str() == FORMAT_BLOB {
                // has been seen to
            } else if same {
                present.add(blob.length);
            } else {
                missing.push(blob);
            }
            Ok(())
        })?;
    }
    Ok(missing)
}

fn as_old_as(original: &BlobMetadata) -> PutOptions {
    PutOptions { modified: Some(original.timestamp), ..PutOptions::default() }
}
