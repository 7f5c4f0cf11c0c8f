//! What backup and restore of a device are asked for, and what they say afterwards.

use super::changed::ChangedBlocks;
use kopia_format::ManifestId;
use kopia_format::snapshot::{SnapshotManifest, SourceInfo};
use std::collections::BTreeMap;

/// Reads under way at once: a volume on a network disk is bound by latency.
const READS_UNDER_WAY: usize = 8;
/// Bytes in buffers of a backup, or a restore, that does not say otherwise.
const MEMORY_BUDGET_BYTES: usize = 40 << 20;

/// How to back a device up.
#[derive(Debug, Clone)]
pub struct BlockBackupOptions {
    /// Recorded source.
    pub source: SourceInfo,
    /// Description in the manifest.
    pub description: String,
    /// Tags, that of the device's size excepted, which is added.
    pub tags: BTreeMap<String, String>,
    /// Pins.
    pub pins: Vec<String>,
    /// Snapshot whose pieces are taken over where nothing changed.
    pub parent: Option<ManifestId>,
    /// What to read: with a parent, what changed since; without, what is allocated (the rest reads as zeroes).
    /// `None`: everything.
    pub changed: Option<ChangedBlocks>,
    /// Reads under way at once, 1 to 64.
    pub reads_under_way: usize,
    /// Bytes of all piece buffers together.
    pub memory_budget_bytes: usize,
    /// Read past the page cache, where the device allows it.
    pub direct: bool,
}

impl Default for BlockBackupOptions {
    fn default() -> Self {
        Self {
            source: SourceInfo::default(),
            description: String::new(),
            tags: BTreeMap::new(),
            pins: Vec::new(),
            parent: None,
            changed: None,
            reads_under_way: READS_UNDER_WAY,
            memory_budget_bytes: MEMORY_BUDGET_BYTES,
            direct: true,
        }
    }
}

/// What a backup of a device came to. All but `bytes_uploaded` are bytes of the device.
#[derive(Debug, Clone)]
pub struct BlockBackupResult {
    /// The manifest that was saved.
    pub manifest: SnapshotManifest,
    /// Size of the device.
    pub device_bytes: u64,
    /// Bytes that differ from the parent (without one: from a device of zeroes).
    pub incremental_bytes: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes taken from the parent's list without reading.
    pub bytes_unread: u64,
    /// Bytes of pieces that are all zero, read or not.
    pub bytes_zero: u64,
    /// Bytes of contents that were stored, as they are in packs.
    pub bytes_uploaded: u64,
    /// Bytes that were read and that the repository had already.
    pub bytes_deduplicated: u64,
    /// Pieces of the parent that the repository has lost: they were read from the device.
    pub lost_pieces: u64,
    /// The parent that was used.
    pub parent: Option<ManifestId>,
    /// Why the parent that was asked for was not used: everything was read then.
    pub parent_refused: String,
}

/// How to restore a device.
#[derive(Debug, Clone)]
pub struct BlockRestoreOptions {
    /// Threads that read and write; `None` is one a core (more where the storage is far away).
    pub parallelism: Option<usize>,
    /// Bytes in buffers at once.
    pub memory_budget_bytes: usize,
    /// Whether an image file that is there may be replaced.
    pub overwrite: bool,
}

impl Default for BlockRestoreOptions {
    fn default() -> Self {
        Self { parallelism: None, memory_budget_bytes: MEMORY_BUDGET_BYTES, overwrite: true }
    }
}

/// What a restore of a device did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BlockRestoreResult {
    /// Bytes of the device that was backed up: all of them are as they were then.
    pub device_bytes: u64,
    /// Of these, bytes written.
    pub bytes_written: u64,
    /// Bytes zeroed without writing: deallocated, or left as holes of a new file.
    pub bytes_deallocated: u64,
    /// Bytes asked of the storage.
    pub storage_bytes: u64,
}
