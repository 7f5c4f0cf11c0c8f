//! Index entries, builder and reader, versions 1 and 2 (format document §4.4).

use crate::compression::CompressorId;
use crate::error::Result;
use crate::ids::{BlobId, ContentId};

/// Where a content is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct IndexEntry {
    pub content: ContentId,
    pub pack: BlobId,
    pub pack_offset: u32,
    pub packed_length: u32,
    pub original_length: u32,
    pub timestamp_seconds: i64,
    pub compressor: CompressorId,
    pub format_version: u8,
    pub encryption_key_id: u8,
    pub deleted: bool,
}

impl IndexEntry {
    /// Whether this entry wins over `other` for the same content: later, else live, else greater pack name (§4.4.3).
    pub fn supersedes(&self, _other: &IndexEntry) -> bool { todo!() }
}

/// Reads one index of either version over any bytes (a slice, a mapped file).
pub struct IndexReader<B> { _bytes: B }

impl<B: AsRef<[u8]>> IndexReader<B> {
    /// Checks header and bounds of all tables.
    pub fn open(_bytes: B) -> Result<Self> { todo!() }
    /// Number of entries.
    pub fn len(&self) -> usize { todo!() }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool { self.len() == 0 }
    /// Length of a key (1 + hash length).
    pub fn key_length(&self) -> usize { todo!() }
    /// The entry at `position` in key order.
    pub fn entry(&self, _position: usize) -> Result<IndexEntry> { todo!() }
    /// Binary search.
    pub fn find(&self, _content: &ContentId) -> Result<Option<IndexEntry>> { todo!() }
}

/// Encodes `entries` (sorted or not; one per content) as an index of `version` 1 or 2.
pub fn encode(_version: u32, _entries: Vec<IndexEntry>, _random_suffix: Option<[u8; 32]>) -> Result<Vec<u8>> { todo!() }
/// Entries of one shard of `count` by FNV-1a of the text ID (§4.4.4).
pub fn shard_of(_content: &ContentId, _count: u32) -> u32 { todo!() }
