//! A blob writer for storages that can only put whole blobs.
//!
//! The pieces stay in memory until `finish`; nothing reaches the storage before. The filesystem
//! does not use it: it streams to its temporary file.

use super::storage::{BlobWriter, PutOptions, Storage};
use crate::error::Result;
use kopia_format::BlobId;

/// Room is made in steps of this much: doubling would hold up to twice a pack, of which several are open.
const GROWTH_BYTES: usize = 4 << 20;

/// Collects the pieces of one blob and puts them at once in `finish`.
#[derive(Debug)]
pub struct CollectingWriter<S> {
    storage: S,
    id: BlobId,
    options: PutOptions,
    bytes: Vec<u8>,
}

impl<S: Storage> CollectingWriter<S> {
    /// A writer whose `finish` calls `storage.put`; `storage` is a handle of its own.
    pub fn new(storage: S, id: &BlobId, options: &PutOptions) -> Self {
        Self { storage, id: id.clone(), options: options.clone(), bytes: Vec::new() }
    }
}

impl<S: Storage> BlobWriter for CollectingWriter<S> {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        if self.bytes.capacity() - self.bytes.len() < piece.len() {
            let growth = if self.bytes.is_empty() { piece.len() } else { GROWTH_BYTES.max(piece.len()) };
            self.bytes.reserve_exact(growth);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.storage.put(&self.id, &[&self.bytes], &self.options)
    }
}
