//! What a verification is asked for, and what it found.

use crate::content::ReadTraffic;
use crate::content::group::copy_of;
use crate::error::Error;
use crate::progress::Progress;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Share of file bytes that is read back, 0 to 100; chosen by content, the same for the same seed.
    pub percent: f64,
    /// Another seed chooses other contents.
    pub seed: u64,
    /// Threads; `None` is one a core (more where the storage is far away).
    pub parallelism: Option<usize>,
    /// Bytes in buffers at once.
    pub memory_budget_bytes: u64,
    /// Damages kept by name; all are counted.
    pub damages_listed_max: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            percent: 0.0,
            seed: 0,
            parallelism: None,
            memory_budget_bytes: 40 << 20,
            damages_listed_max: 1000,
        }
    }
}

/// Something that cannot be read back.
#[derive(Debug)]
pub struct Damage {
    /// Path of the entry, below its snapshot; empty where only a content is known. Of several entries
    /// with the same object one is told.
    pub path: Vec<u8>,
    /// The snapshot, where it is known.
    pub snapshot: Option<String>,
    /// What is wrong; its context names content and pack.
    pub error: Error,
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct VerifyResult {
    /// Files whose structure was checked (those with an object seen before are not counted again).
    pub file_count: u64,
    /// Directories read.
    pub directory_count: u64,
    /// Contents looked up.
    pub content_count: u64,
    /// Contents read back.
    pub read_count: u64,
    /// Their stored bytes.
    pub read_bytes: u64,
    /// Damages found.
    pub damage_count: u64,
    /// The first of them.
    pub damages: Vec<Damage>,
    /// Reads that the storage was asked for, those of directories left out.
    pub storage_requests: u64,
    /// Bytes that they asked for.
    pub storage_bytes: u64,
}

/// Counters and damages of one verification, shared by its threads.
pub(super) struct Findings<'a> {
    pub(super) progress: &'a Progress,
    pub(super) traffic: ReadTraffic,
    pub(super) files: AtomicU64,
    pub(super) directories: AtomicU64,
    pub(super) contents: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    damaged: AtomicU64,
    damages: Mutex<Vec<Damage>>,
    listed_max: usize,
}

impl<'a> Findings<'a> {
    pub(super) fn new(options: &VerifyOptions, progress: &'a Progress) -> Self {
        Self {
            progress,
            traffic: ReadTraffic::default(),
            files: AtomicU64::new(0),
            directories: AtomicU64::new(0),
            contents: AtomicU64::new(0),
            read: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            damages: Mutex::default(),
            listed_max: options.damages_listed_max,
        }
    }

    /// Notes a damage.
    pub(super) fn damage(&self, snapshot: Option<&str>, path: &[u8], error: &Error) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        Progress::add(&self.progress.entries_failed, 1);
        let mut damages = self.damages.lock();
        if damages.len() < self.listed_max {
            let snapshot = snapshot.map(str::to_owned);
            damages.push(Damage { path: path.to_vec(), snapshot, error: copy_of(error) });
        }
    }

    pub(super) fn finish(self) -> VerifyResult {
        VerifyResult {
            file_count: self.files.into_inner(),
            directory_count: self.directories.into_inner(),
            content_count: self.contents.into_inner(),
            read_count: self.read.into_inner(),
            read_bytes: self.read_bytes.into_inner(),
            damage_count: self.damaged.into_inner(),
            damages: self.damages.into_inner(),
            storage_requests: self.traffic.requests.into_inner(),
            storage_bytes: self.traffic.bytes.into_inner(),
        }
    }
}
