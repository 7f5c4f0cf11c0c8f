//! Names and seals of index blobs and other whole-blob encrypted items; legacy compaction logs (format document §4.5, §4.6).

use crate::encryption::ContentSealer;
use crate::error::Result;
use crate::hashing::ContentHasher;
use crate::ids::BlobId;
use crate::time::Timestamp;

/// Seals a whole blob; its name is `prefix ‖ hex(hash) ‖ ["-" ‖ suffix]`.
pub fn seal_blob(_hasher: &ContentHasher, _sealer: &ContentSealer, _prefix: &str, _suffix: Option<&str>, _nonce: [u8; 12], _plain: &[u8]) -> Result<(BlobId, Vec<u8>)> { todo!() }
/// Opens a whole blob; the initialization vector comes from its name.
pub fn open_blob<'a>(_sealer: &ContentSealer, _name: &BlobId, _sealed: &'a mut Vec<u8>) -> Result<&'a mut [u8]> { todo!() }

/// A blob as a compaction log names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LoggedBlob { pub id: BlobId, pub length: u64, pub timestamp: Timestamp }
/// Body of an `m` blob.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct CompactionLog { pub inputs: Vec<LoggedBlob>, pub outputs: Vec<LoggedBlob> }
/// Body of an `l` blob.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CleanupRecord { pub blob_ids: Vec<BlobId>, pub cleanup_schedule_time: Timestamp }

impl CompactionLog {
    /// JSON.
    pub fn encode(&self) -> Vec<u8> { todo!() }
    /// Parses.
    pub fn decode(_json: &[u8]) -> Result<Self> { todo!() }
}
impl CleanupRecord {
    /// JSON.
    pub fn encode(&self) -> Vec<u8> { todo!() }
    /// Parses.
    pub fn decode(_json: &[u8]) -> Result<Self> { todo!() }
}
/// The poison blob that old clients must not read past (§2.6).
pub const POISON_BLOB: &str = "n00000000000000000000000000000000-repository_unreadable_by_this_kopia_version_upgrade_required";
/// Active legacy index blobs out of `n` blobs and the valid compaction logs among `logs` (name, body).
pub fn active_legacy(_index_blobs: &[BlobId], _logs: &[(BlobId, CompactionLog)]) -> Vec<BlobId> { todo!() }
