//! What every part of the content layer needs of the open repository.

use super::index_cache::IndexCache;
use crate::blob::Storage;
use crate::blob::retention::BlobRetention;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::compression::CompressorId;
use kopia_format::encryption::ContentSealer;
use kopia_format::format_blob::EpochParameters;
use kopia_format::hashing::ContentHasher;
use kopia_format::index::ContentFormat;
use kopia_format::splitter::SplitterAlgorithm;
use kopia_format::{BlobId, index_blob};
use std::sync::Arc;

/// Keys, parameters and storage of one open repository.
pub struct ContentContext {
    /// Where blobs are.
    pub storage: Arc<dyn Storage>,
    /// The keyed hash.
    pub hasher: ContentHasher,
    /// The cipher, with error correction if there is any.
    pub sealer: ContentSealer,
    /// Object locks.
    pub retention: BlobRetention,
    /// Source of time.
    pub clock: Arc<dyn Clock>,
    /// User of this client, for session markers.
    pub username: String,
    /// Host of this client, for session markers.
    pub hostname: String,
    /// Refuse every write.
    pub read_only: bool,
    /// Hash again what was read, beyond the seal, which binds it to its ID.
    pub check_hashes: bool,
    /// Goes into every new entry.
    pub format_version: u8,
    /// Version of indexes written; below 2 there is no compression at content level.
    pub index_version: u32,
    /// Splitter of objects that do not choose their own.
    pub splitter: SplitterAlgorithm,
    /// Packs are closed at this length.
    pub max_pack_size_bytes: u64,
    /// Epochs, or legacy `n` indexes where not enabled.
    pub epochs: EpochParameters,
    /// Start of every pack: the format blob's copy where passwords cannot be changed, else nothing.
    pub pack_prefix: Vec<u8>,
    /// Bound of the process's memory from which tables and buffers are sized.
    pub memory_limit_bytes: u64,
    /// Where merged indexes are kept on the local disk, if anywhere.
    pub(crate) index_cache: Option<IndexCache>,
    /// Called before indexes are read again: checks that the repository may still be used.
    pub before_refresh: Box<dyn Fn() -> Result<()> + Send + Sync>,
}

impl ContentContext {
    /// Current time in Unix seconds, as entries hold it.
    pub(crate) fn now_seconds(&self) -> u32 {
        self.clock.now().seconds.clamp(0, i64::from(u32::MAX)) as u32
    }

    /// How contents that are written now are stored.
    pub(crate) fn content_format(&self, compressor: CompressorId) -> ContentFormat {
        ContentFormat { compressor, format_version: self.format_version, encryption_key_id: 0 }
    }

    /// Length of an index key.
    pub(crate) fn key_length(&self) -> usize {
        index_key_length(&self.hasher)
    }

    /// # Errors
    /// `AccessDenied` if the repository was opened for reading only.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::new(ErrorKind::AccessDenied, "repository was opened for reading only"));
        }
        Ok(())
    }

    /// Puts a small blob under the repository's retention rules.
    pub(crate) fn put(&self, id: &BlobId, bytes: &[u8]) -> Result<()> {
        self.storage.put(id, &[bytes], &self.retention.put_options(id))
    }

    /// Seals a whole blob (index, session marker) and puts it.
    pub(crate) fn put_sealed(&self, prefix: &str, suffix: Option<&str>, plain: &[u8]) -> Result<BlobId> {
        let mut nonce = [0; 12];
        fill_random(&mut nonce)?;
        let (id, sealed) = index_blob::seal_blob(&self.hasher, &self.sealer, prefix, suffix, nonce, plain)?;
        self.put(&id, &sealed)?;
        Ok(id)
    }
}

/// Length of an index key: prefix byte and hash.
pub(crate) fn index_key_length(hasher: &ContentHasher) -> usize {
    1 + hasher.algorithm().output_length()
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("no random bytes from the system: {error}")))
}
