//! What all threads of one restore share: options, counters, failures, the byte budget.

use super::attributes::Refused;
use super::directory::SAME_NAME;
use super::errors::target_error;
use super::options::{Failure, RestoreOptions, RestoreResult};
use crate::cancel::CancelToken;
use crate::content::parallel::workers;
use crate::content::{ContentManager, ReadTraffic};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use kopia_format::snapshot::{DirectoryEntry, EntryType};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Refusals that are kept by name.
const REFUSED_LISTED_MAX: usize = 20;
/// Threads for a storage that is far away: its latency, not the cores, is what is waited for.
const REMOTE_PARALLELISM: usize = 8;

/// One restore.
pub(super) struct Job<'a> {
    pub(super) contents: &'a ContentManager,
    pub(super) options: &'a RestoreOptions,
    pub(super) progress: &'a Progress,
    pub(super) traffic: ReadTraffic,
    pub(super) budget: ByteBudget,
    pub(super) workers: usize,
    /// Bits that the process takes from the mode of new files.
    pub(super) umask: u32,
    pub(super) files: AtomicU64,
    pub(super) directories: AtomicU64,
    pub(super) symlinks: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) deleted: AtomicU64,
    pub(super) file_bytes: AtomicU64,
    /// Handles that directories and files of the target hold.
    pub(super) handles: Arc<Handles>,
    cancel: &'a CancelToken,
    failed: AtomicU64,
    failures: Mutex<Vec<Failure>>,
    refused_count: AtomicU64,
    refused: Mutex<Vec<Failure>>,
    stopped: AtomicBool,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        contents: &'a ContentManager,
        options: &'a RestoreOptions,
        progress: &'a Progress,
        cancel: &'a CancelToken,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let usual = if contents.is_local() { cores } else { cores.max(REMOTE_PARALLELISM) };
        Self {
            contents,
            options,
            progress,
            cancel,
            traffic: ReadTraffic::default(),
            budget: ByteBudget::new(options.memory_budget_bytes),
            workers: workers(options.parallelism, usual),
            umask: read_umask(),
            files: AtomicU64::new(0),
            directories: AtomicU64::new(0),
            symlinks: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            file_bytes: AtomicU64::new(0),
            handles: Arc::new(Handles::new(crate::descriptors::limit() / 2)),
            failed: AtomicU64::new(0),
            failures: Mutex::default(),
            refused_count: AtomicU64::new(0),
            refused: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Takes the totals for the display from the root.
    pub(super) fn expect(&self, root: &DirectoryEntry) {
        let (files, bytes) = match (&root.summary, root.entry_type) {
            (Some(summary), EntryType::Directory) => (summary.total_file_count, summary.total_file_size),
            (_, EntryType::Directory) => (0, 0),
            _ => (1, root.size),
        };
        self.progress.files_total.store(files.max(0).cast_unsigned(), Ordering::Relaxed);
        self.progress.bytes_total.store(bytes.max(0).cast_unsigned(), Ordering::Relaxed);
    }

    /// Whether no more work should be begun.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.cancel.is_canceled()
    }

    /// Notes a failed entry.
    pub(super) fn fail(&self, path: Vec<u8>, error: Error) {
        if error.kind == ErrorKind::Canceled {
            return;
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        Progress::add(&self.progress.entries_failed, 1);
        // Nothing that could be mended first, and no reason to leave the rest unrestored.
        let ends = !error.context.iter().any(|(key, _)| *key == SAME_NAME);
        let mut failures = self.failures.lock();
        if failures.len() < self.options.failures_listed_max.max(1) {
            failures.push(Failure { path, error });
        }
        if ends && !self.options.ignore_errors {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    /// Notes an entry that is there, but for what the system `refused`.
    pub(super) fn note_refused(&self, path: impl FnOnce() -> Vec<u8>, refused: Option<Refused>) {
        let Some(Refused { what, error }) = refused else { return };
        self.refused_count.fetch_add(1, Ordering::Relaxed);
        let mut listed = self.refused.lock();
        if listed.len() < REFUSED_LISTED_MAX {
            let path = path();
            let message = format!("cannot set the {what} of {:?}", String::from_utf8_lossy(&path));
            listed.push(Failure { path, error: target_error(message, error.into()) });
        }
    }

    /// What was done, once all threads are.
    pub(super) fn finish(self) -> Result<RestoreResult> {
        self.cancel.check()?;
        let mut failures = self.failures.into_inner();
        if !self.options.ignore_errors && !failures.is_empty() {
            let Failure { path, error } = failures.swap_remove(0);
            let path = String::from_utf8_lossy(&path).into_owned();
            return Err(error.while_doing(format!("cannot restore {path:?}")).with("path", path));
        }
        Ok(RestoreResult {
            file_count: self.files.into_inner(),
            directory_count: self.directories.into_inner(),
            symlink_count: self.symlinks.into_inner(),
            skipped_count: self.skipped.into_inner(),
            deleted_count: self.deleted.into_inner(),
            file_bytes: self.file_bytes.into_inner(),
            failed_count: self.failed.into_inner(),
            failures,
            refused_count: self.refused_count.into_inner(),
            refused: self.refused.into_inner(),
            storage_requests: self.traffic.requests.into_inner(),
            storage_bytes: self.traffic.bytes.into_inner(),
            needed_bytes: self.traffic.needed.into_inner(),
        })
    }
}

/// The process's umask, without changing it (`umask(2)` would, for all threads).
fn read_umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    // All bits: then every mode is set by hand.
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o777)
}

/// A bound on the descriptors that a restore holds: each directory whose files wait to be written has one.
#[derive(Debug)]
pub(super) struct Handles {
    max: usize,
    held: Mutex<usize>,
    freed: Condvar,
}

/// One of them, until dropped.
#[derive(Debug)]
pub(super) struct Handle(Arc<Handles>);

impl Handles {
    fn new(max: usize) -> Self {
        Self { max, held: Mutex::default(), freed: Condvar::new() }
    }

    /// Counts one more.
    pub(super) fn hold(self: &Arc<Self>) -> Handle {
        *self.held.lock() += 1;
        Handle(Arc::clone(self))
    }

    /// Whether as many are held as may be.
    pub(super) fn are_scarce(&self) -> bool {
        *self.held.lock() >= self.max
    }

    /// Waits until there are enough again, or no more are held than the `own` ones of who waits.
    pub(super) fn wait(&self, own: usize) {
        let mut held = self.held.lock();
        while *held >= self.max && *held > own {
            self.freed.wait(&mut held);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        *self.0.held.lock() -= 1;
        self.0.freed.notify_all();
    }
}

/// A bound on bytes in buffers over all threads.
pub(super) struct ByteBudget {
    bytes_max: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

/// A share of the budget, until dropped.
pub(super) struct Reserved<'a> {
    budget: &'a ByteBudget,
    bytes: u64,
}

impl ByteBudget {
    fn new(bytes_max: u64) -> Self {
        Self { bytes_max, used: Mutex::default(), freed: Condvar::new() }
    }

    /// The whole of it, in bytes.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Waits until `bytes` fit; what is larger than the whole waits until it is alone.
    pub(super) fn reserve(&self, bytes: u64) -> Reserved<'_> {
        let mut used = self.used.lock();
        while *used > 0 && *used + bytes > self.bytes_max {
            self.freed.wait(&mut used);
        }
        *used += bytes;
        Reserved { budget: self, bytes }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        *self.budget.used.lock() -= self.bytes;
        self.budget.freed.notify_all();
    }
}
