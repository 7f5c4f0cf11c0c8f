//! What callers see of a content, and the buffers they lend for writing one.

use super::sealing::NonceSource;
use kopia_format::compression::{Compressor, CompressorId};
use kopia_format::{BlobId, ContentId};

/// Where a content is and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentInfo {
    /// Its name.
    pub id: ContentId,
    /// The pack blob that holds it.
    pub pack: BlobId,
    /// Offset in the pack, in bytes.
    pub offset: u32,
    /// Stored length (sealed, with ECC), in bytes.
    pub packed_length: u32,
    /// Plain length, in bytes; an index of version 1 only lets it be guessed (packed − 28).
    pub original_length: u32,
    /// Time of writing, Unix seconds.
    pub timestamp_seconds: i64,
    /// Compressor of the stored bytes.
    pub compressor: CompressorId,
    /// Marked as deleted: hidden from listing and deduplication, still readable.
    pub deleted: bool,
    /// Format version of the repository when it was written.
    pub format_version: u8,
}

/// What became of a content that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was stored.
    New {
        /// Bytes that it takes in the pack.
        packed_length: u32,
    },
    /// The repository had it already.
    Deduplicated,
}

/// Buffers and compressor contexts of one writing thread; reused from content to content.
#[derive(Default)]
pub struct WriteScratch {
    pub(crate) compressor: Compressor,
    pub(crate) compressed: Vec<u8>,
    pub(crate) sealed: Vec<u8>,
    pub(crate) nonces: NonceSource,
    pub(crate) nonce: [u8; 12],
    pub(crate) tag: [u8; 16],
}
