//! A blob writer for storages that can only put whole blobs.
//!
//! The pieces stay in memory until `finish`; nothing reaches the storage before. The filesystem
//! does not use it: it streams to its temporary file.

use super::storage::{BlobWriter, PutOptions, Storage};
use crate::error::Result;
use kopia_format::BlobId;

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
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.storage.put(&self.id, &[&self.bytes], &self.options)
    }
}
