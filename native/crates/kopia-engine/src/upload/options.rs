//! What an upload is asked to do and what it says at the end.

use crate::source::ahead::Ahead;
use kopia_format::compression::CompressorId;
use kopia_format::snapshot::{EntryError, SnapshotManifest, SourceInfo};
use kopia_format::{ManifestId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest and usual time between checkpoints: garbage collection assumes no longer gaps.
pub const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_secs(45 * 60);

/// Upload buffers of an upload that does not say otherwise.
const MEMORY_BUDGET_BYTES: usize = 50 << 20;

/// Which earlier snapshots tell what is unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Parents {
    /// Kopia's rule: the newest complete snapshot of the source and all incomplete ones after it.
    #[default]
    Automatic,
    /// These manifests.
    Explicit(Vec<ManifestId>),
    /// None: every file is read.
    None,
}

/// How to upload.
#[derive(Debug, Clone)]
pub struct UploadOptions {
    /// Recorded source. `None`: user and host of the repository connection and the absolute path.
    pub source: Option<SourceInfo>,
    /// Description in the manifest.
    pub description: String,
    /// Tags; they become labels of the manifest as they are.
    pub tags: BTreeMap<String, String>,
    /// Tags of checkpoint manifests.
    pub checkpoint_tags: BTreeMap<String, String>,
    /// Pins.
    pub pins: Vec<String>,
    /// Worker threads. `None`: the policy's number, else the number of processors.
    pub parallelism: Option<usize>,
    /// Compressor of file data instead of the policy's.
    pub compressor: Option<CompressorId>,
    /// Compressor of directories instead of the policy's (Velero writes them uncompressed).
    pub directory_compressor: Option<CompressorId>,
    /// Never use a splitter of a policy, always the repository's (Velero's writer does so).
    pub repository_splitter: bool,
    /// Parents.
    pub parents: Parents,
    /// Share of unchanged files that are read nevertheless, 0 to 100.
    pub force_hash_percent: f64,
    /// Time between checkpoints.
    pub checkpoint_interval: Duration,
    /// Stop at the first error that is not ignored.
    pub fail_fast: bool,
    /// Recorded start time instead of the clock's; the recorded end moves along.
    pub start_time: Option<Timestamp>,
    /// Bytes of all chunk buffers together.
    pub memory_budget_bytes: usize,
    /// Files above this size are uploaded in parts, instead of the policy's number.
    pub parallel_upload_above_bytes: Option<u64>,
    /// Read files with no regard to ignore rules.
    pub disable_ignore_rules: bool,
    /// Save the manifest, apply retention and flush. Otherwise the caller does.
    pub save_manifest: bool,
    /// Save nothing if the root object equals the newest parent's; `None`: as the policy says.
    pub ignore_identical: Option<bool>,
    /// What was seen of the source before the repository was open; the upload ends it.
    pub ahead: Option<Arc<Ahead>>,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self {
            source: None,
            description: String::new(),
            tags: BTreeMap::new(),
            checkpoint_tags: BTreeMap::new(),
            pins: Vec::new(),
            parallelism: None,
            compressor: None,
            directory_compressor: None,
            repository_splitter: false,
            parents: Parents::Automatic,
            force_hash_percent: 0.0,
            checkpoint_interval: CHECKPOINT_INTERVAL_MAX,
            fail_fast: false,
            start_time: None,
            memory_budget_bytes: MEMORY_BUDGET_BYTES,
            parallel_upload_above_bytes: None,
            disable_ignore_rules: false,
            save_manifest: true,
            ignore_identical: None,
            ahead: None,
        }
    }
}

/// How much of the source was new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IncrementalInfo {
    /// Files and links taken from a parent without reading.
    pub files_cached: u64,
    /// Their bytes.
    pub bytes_cached: u64,
    /// Bytes read from the source, holes included.
    pub bytes_read: u64,
    /// Bytes of contents that were stored, as they are in packs.
    pub bytes_uploaded: u64,
    /// Plain bytes of contents that the repository had already.
    pub bytes_deduplicated: u64,
}

/// What an upload came to.
#[derive(Debug, Clone)]
pub struct UploadResult {
    /// The manifest; its `id` is set if it was saved.
    pub manifest: SnapshotManifest,
    /// Whether it was saved (not if identical to the parent and so asked for).
    pub saved: bool,
    /// The parents that were used.
    pub parents: Vec<ManifestId>,
    /// Entries that could not be read, ignored ones too.
    pub errors: Vec<EntryError>,
    /// Entries that were listed and deleted before their turn came: passed over.
    pub vanished_count: u64,
    /// Names that are not UTF-8: the format keeps U+FFFD for each byte of them that is not, so they come back changed.
    pub not_utf8_count: u64,
    /// Packs that index entries name and the storage does not have, if it was looked.
    pub lost_pack_count: u64,
    /// How much was new.
    pub incremental: IncrementalInfo,
}
