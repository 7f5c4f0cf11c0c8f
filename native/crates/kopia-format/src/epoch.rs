//! Names and order of epoch index blobs: pure decisions over a listing (format document §4.7).

use crate::format_blob::EpochParameters;
use crate::ids::BlobId;
use crate::time::Timestamp;

/// A listed blob.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListedBlob { pub id: BlobId, pub length: u64, pub timestamp: Timestamp }

/// What the epoch blobs of a repository say.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct EpochState {
    /// Current write epoch W.
    pub write_epoch: u64,
    /// Effective deletion watermark, Unix seconds (0 if none).
    pub deletion_watermark: i64,
    pub markers: Vec<(u64, ListedBlob)>,
    pub watermarks: Vec<(i64, ListedBlob)>,
    /// Uncompacted index blobs by epoch, as far as listed.
    pub uncompacted: std::collections::BTreeMap<u64, Vec<ListedBlob>>,
    /// Complete single-epoch compactions.
    pub single: std::collections::BTreeMap<u64, Vec<ListedBlob>>,
    /// Longest chain of complete ranges from 0: (first, last, blobs).
    pub ranges: Vec<(u64, u64, Vec<ListedBlob>)>,
}

impl EpochState {
    /// Builds the state from listings of `xe`, `xw`, `xs`, `xr` and `xn` blobs.
    pub fn from_listing(_blobs: &[ListedBlob]) -> Self { todo!() }
    /// Blobs that together hold every entry (§4.7.3); needs `xn` of all epochs after the range chain that have no `xs`.
    pub fn active_index_blobs(&self) -> Vec<ListedBlob> { todo!() }
    /// Epochs whose `xn` blobs `active_index_blobs` needs.
    pub fn epochs_needing_uncompacted(&self) -> Vec<u64> { todo!() }
    /// Epoch to compact next, if any (§4.7.5).
    pub fn single_compaction_candidate(&self) -> Option<u64> { todo!() }
    /// Whether the write epoch should advance.
    pub fn should_advance(&self, _parameters: &EpochParameters) -> bool { todo!() }
    /// Range to checkpoint next, if any: (first, last).
    pub fn range_checkpoint_candidate(&self, _parameters: &EpochParameters) -> Option<(u64, u64)> { todo!() }
    /// Marker and watermark blobs that may be deleted.
    pub fn deletable_markers(&self, _parameters: &EpochParameters) -> Vec<BlobId> { todo!() }
    /// `xn` blobs that complete `xs` sets made superfluous.
    pub fn superseded_uncompacted(&self, _parameters: &EpochParameters) -> Vec<BlobId> { todo!() }
}
/// Prefix of an uncompacted index blob: `xn<E>_`.
pub fn uncompacted_prefix(_epoch: u64) -> String { todo!() }
/// Epoch number of a blob name, if it has one.
pub fn epoch_of(_name: &str) -> Option<u64> { todo!() }
