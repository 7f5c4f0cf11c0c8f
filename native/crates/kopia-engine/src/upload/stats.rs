//! Counters of an upload as the manifest and the result hold them.

use super::options::IncrementalInfo;
use crate::content::Written;
use crate::progress::Progress;
use kopia_format::snapshot::SnapshotStats;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters; each worker adds to them.
#[derive(Debug, Default)]
pub(super) struct Stats {
    total_size: AtomicU64,
    files: AtomicU64,
    cached_files: AtomicU64,
    cached_bytes: AtomicU64,
    non_cached_files: AtomicU64,
    directories: AtomicU64,
    excluded_files: AtomicU64,
    excluded_bytes: AtomicU64,
    excluded_directories: AtomicU64,
    ignored_errors: AtomicU64,
    errors: AtomicU64,
    listed: AtomicU64,
    vanished: AtomicU64,
    not_utf8: AtomicU64,
    bytes_read: AtomicU64,
    bytes_uploaded: AtomicU64,
    bytes_deduplicated: AtomicU64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
fn count(counter: &AtomicU64) -> i32 {
    i32::try_from(counter.load(Ordering::Relaxed)).unwrap_or(i32::MAX)
}
fn bytes(counter: &AtomicU64) -> i64 {
    i64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
}

impl Stats {
    /// Files that are started.
    pub(super) fn count_started(&self, files: u64) {
        add(&self.non_cached_files, files);
    }
    /// A file, or a part of one, was uploaded.
    pub(super) fn count_uploaded(&self, files: u64, length: u64) {
        add(&self.files, files);
        add(&self.total_size, length);
    }
    /// Entries taken from a parent, their lengths, and how much of these is data of files.
    pub(super) fn count_cached(&self, files: u64, length: u64, data: u64) {
        add(&self.cached_files, files);
        add(&self.cached_bytes, data);
        add(&self.total_size, length);
    }
    /// A directory is entered.
    pub(super) fn count_entered(&self) {
        add(&self.directories, 1);
    }
    /// Entries of a directory that is finished: what was listed, and what of it was gone when its turn came.
    pub(super) fn count_listed(&self, listed: u64, vanished: u64) {
        add(&self.listed, listed);
        add(&self.vanished, vanished);
    }
    /// Names of a directory that are not UTF-8.
    pub(super) fn count_not_utf8(&self, names: u64) {
        add(&self.not_utf8, names);
    }
    /// Names that are not UTF-8.
    pub(super) fn not_utf8(&self) -> u64 {
        self.not_utf8.load(Ordering::Relaxed)
    }
    /// Entries that were listed, and what of it was gone when its turn came.
    pub(super) fn listed(&self) -> (u64, u64) {
        (self.listed.load(Ordering::Relaxed), self.vanished.load(Ordering::Relaxed))
    }
    /// An entry was excluded by a rule.
    pub(super) fn count_excluded(&self, is_directory: bool, length: u64) {
        if is_directory {
            add(&self.excluded_directories, 1);
        } else {
            add(&self.excluded_files, 1);
            add(&self.excluded_bytes, length);
        }
    }
    /// An entry could not be read.
    pub(super) fn count_error(&self, ignored: bool) {
        add(if ignored { &self.ignored_errors } else { &self.errors }, 1);
    }
    /// Bytes of the source are done with.
    pub(super) fn count_read(&self, length: u64) {
        add(&self.bytes_read, length);
    }
    /// A content was stored or found there.
    pub(super) fn count_written(&self, written: Written, length: u64, progress: &Progress) {
        match written {
            Written::New { packed_length } => {
                add(&self.bytes_uploaded, u64::from(packed_length));
                Progress::add(&progress.bytes_uploaded, u64::from(packed_length));
            }
            Written::Deduplicated => {
                add(&self.bytes_deduplicated, length);
                Progress::add(&progress.bytes_deduplicated, length);
            }
        }
    }
    /// As the manifest holds them.
    pub(super) fn of_manifest(&self) -> SnapshotStats {
        SnapshotStats {
            total_file_size: bytes(&self.total_size),
            excluded_total_file_size: bytes(&self.excluded_bytes),
            total_file_count: count(&self.files),
            cached_files: count(&self.cached_files),
            non_cached_files: count(&self.non_cached_files),
            total_directory_count: count(&self.directories),
            excluded_file_count: count(&self.excluded_files),
            excluded_directory_count: count(&self.excluded_directories),
            ignored_error_count: count(&self.ignored_errors),
            error_count: count(&self.errors),
        }
    }
    /// How much was new.
    pub(super) fn incremental(&self) -> IncrementalInfo {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        IncrementalInfo {
            files_cached: read(&self.cached_files),
            bytes_cached: read(&self.cached_bytes),
            bytes_read: read(&self.bytes_read),
            bytes_uploaded: read(&self.bytes_uploaded),
            bytes_deduplicated: read(&self.bytes_deduplicated),
        }
    }
}
