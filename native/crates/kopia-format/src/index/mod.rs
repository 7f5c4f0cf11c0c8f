//! The index: where each content is (format document §4.4).
//!
//! Here are the entry, the winner rule and the simple encoder. The two layouts are in `v1`
//! and `v2`, reading in `reader`, streaming encoding in `writer`, merging in `merge`,
//! sharding in `shard`. Sealing and naming index blobs is not here: see
//! [`crate::index_blob`]. The surprise: bytes after the computed end are legal (32 random
//! bytes make local indexes unique) and are ignored on reading.

mod layout;
mod merge;
mod reader;
mod shard;
mod v1;
mod v2;
mod writer;

#[cfg(test)]
mod tests;

use crate::compression::CompressorId;
use crate::error::Result;
use crate::ids::{BlobId, ContentId};

pub use merge::{Merge, MergedEntry};
pub use reader::{Entries, IndexReader};
pub use shard::{SHARD_ENTRIES_MAX, shard_count, shard_of};
pub use writer::{IndexSurvey, IndexWriter};

/// Where a content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The content.
    pub content: ContentId,
    /// The pack that holds it.
    pub pack: BlobId,
    /// First byte of the sealed content inside the pack.
    pub pack_offset: u32,
    /// Length of the sealed content, in bytes.
    pub packed_length: u32,
    /// Length of the plain content, in bytes; index version 1 does not store it (packed − 28).
    pub original_length: u32,
    /// Unix seconds at which this entry was made; decides between entries of one content.
    pub timestamp_seconds: i64,
    /// Compressor of the content; [`CompressorId::NONE`] in index version 1.
    pub compressor: CompressorId,
    /// Version of the repository format that wrote the content.
    pub format_version: u8,
    /// Always 0 today.
    pub encryption_key_id: u8,
    /// Hidden from listing and deduplication, but still readable.
    pub deleted: bool,
}

/// An [`IndexEntry`] that names its pack by number, so that iterating allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEntry {
    /// The content.
    pub content: ContentId,
    /// Number of the pack: see [`IndexReader::pack_name`]. Means something only with its reader.
    pub pack_index: u32,
    /// First byte of the sealed content inside the pack.
    pub pack_offset: u32,
    /// Length of the sealed content, in bytes.
    pub packed_length: u32,
    /// Length of the plain content, in bytes.
    pub original_length: u32,
    /// Unix seconds at which this entry was made.
    pub timestamp_seconds: i64,
    /// Compressor, format version and key.
    pub format: ContentFormat,
    /// Hidden from listing and deduplication, but still readable.
    pub deleted: bool,
}

/// How a content was written; indexes of version 2 store each distinct one once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentFormat {
    /// Compressor of the content.
    pub compressor: CompressorId,
    /// Version of the repository format that wrote the content.
    pub format_version: u8,
    /// Always 0 today.
    pub encryption_key_id: u8,
}

impl IndexEntry {
    /// Whether this entry wins over `other` for the same content: later, else live, else greater
    /// pack name (§4.4.3). Of two equal entries neither wins.
    ///
    /// Source: Kopia `repo/content/index/merged.go`.
    pub fn supersedes(&self, other: &IndexEntry) -> bool {
        self.raw(0).supersedes(self.pack.as_str(), &other.raw(0), other.pack.as_str())
    }

    /// Whether the deletion watermark (Unix seconds, 0 if none) makes this entry absent.
    pub fn is_masked(&self, deletion_watermark: i64) -> bool {
        self.raw(0).is_masked(deletion_watermark)
    }

    /// The same entry with its pack as a number of the caller's.
    pub fn raw(&self, pack_index: u32) -> RawEntry {
        RawEntry {
            content: self.content,
            pack_index,
            pack_offset: self.pack_offset,
            packed_length: self.packed_length,
            original_length: self.original_length,
            timestamp_seconds: self.timestamp_seconds,
            format: ContentFormat {
                compressor: self.compressor,
                format_version: self.format_version,
                encryption_key_id: self.encryption_key_id,
            },
            deleted: self.deleted,
        }
    }
}

impl RawEntry {
    /// [`IndexEntry::supersedes`] for entries whose packs are `pack` and `other_pack`.
    pub fn supersedes(&self, pack: &str, other: &RawEntry, other_pack: &str) -> bool {
        let rank = (self.timestamp_seconds, !self.deleted, pack);
        rank > (other.timestamp_seconds, !other.deleted, other_pack)
    }

    /// Whether the deletion watermark (Unix seconds, 0 if none) makes this entry absent.
    ///
    /// The bound is inclusive: an entry deleted at the very second of the watermark is gone.
    pub fn is_masked(&self, deletion_watermark: i64) -> bool {
        self.deleted && self.timestamp_seconds <= deletion_watermark
    }

    /// The entry with the name of its pack.
    pub fn named(&self, pack: BlobId) -> IndexEntry {
        IndexEntry {
            content: self.content,
            pack,
            pack_offset: self.pack_offset,
            packed_length: self.packed_length,
            original_length: self.original_length,
            timestamp_seconds: self.timestamp_seconds,
            compressor: self.format.compressor,
            format_version: self.format.format_version,
            encryption_key_id: self.format.encryption_key_id,
            deleted: self.deleted,
        }
    }
}

/// Encodes `entries`, in any order, as an index of `version` 1 or 2; of several entries for one
/// content the winner is kept, of equal ones the first. `random_suffix` is appended as it is: local indexes and legacy
/// compactions have one, regular index blobs and epoch compactions have none.
///
/// # Errors
/// `OutOfRange` for no entries, for keys of different lengths and for values that the version
/// cannot hold (version 1: any compressed content); `Unsupported` for other versions.
pub fn encode(
    version: u32,
    mut entries: Vec<IndexEntry>,
    random_suffix: Option<[u8; 32]>,
) -> Result<Vec<u8>> {
    entries.sort_by(|a, b| a.content.cmp(&b.content).then_with(|| b.supersedes(a).cmp(&a.supersedes(b))));
    entries.dedup_by(|later, kept| later.content == kept.content);
    let mut survey = IndexSurvey::new(version)?;
    for entry in &entries {
        survey.add(&entry.raw(0), entry.pack.as_str())?;
    }
    let mut writer = survey.finish()?;
    let mut out = Vec::new();
    writer.write_header(&mut out);
    for entry in &entries {
        writer.write_entry(&entry.raw(0), entry.pack.as_str(), &mut out)?;
    }
    writer.write_tables(random_suffix, &mut out)?;
    Ok(out)
}
