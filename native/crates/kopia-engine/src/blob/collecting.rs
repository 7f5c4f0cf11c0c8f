//! A blob writer for storages that can only put whole blobs.
//!
//! The pieces stay in memory until `finish`; nothing reaches the storage before. They are collected in blocks that
//! layers and provider share: a pack is in memory once, however often its put is tried. The filesystem
//! does not use it: it streams to its temporary file.

use super::storage::{BlobWriter, PutOptions, Storage};
use crate::error::Result;
use bytes::Bytes;
use kopia_format::BlobId;

/// Large enough to be memory of its own, which the system has back when the blob is put; what is not filled takes none.
const BLOCK_BYTES: usize = 1 << 20;

/// Collects the pieces of one blob and puts them at once in `finish`.
#[derive(Debug)]
pub struct CollectingWriter<S> {
    storage: S,
    id: BlobId,
    options: PutOptions,
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl<S: Storage> CollectingWriter<S> {
    /// A writer whose `finish` calls `storage.put_shared`; `storage` is a handle of its own.
    pub fn new(storage: S, id: &BlobId, options: &PutOptions) -> Self {
        Self { storage, id: id.clone(), options: options.clone(), full: Vec::new(), open: Vec::new() }
    }

    fn close_block(&mut self) {
        let block = std::mem::take(&mut self.open);
        if !block.is_empty() {
            self.full.push(block.into());
        }
    }
}

impl<S: Storage> BlobWriter for CollectingWriter<S> {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        let mut rest = piece;
        while !rest.is_empty() {
            if self.open.len() == self.open.capacity() {
                self.close_block();
                self.open.reserve_exact(BLOCK_BYTES);
            }
            let room = self.open.capacity() - self.open.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.open.extend_from_slice(now);
            rest = later;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.close_block();
        self.storage.put_shared(&self.id, &self.full, &self.options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::memory::MemoryStorage;

    #[test]
    fn pieces_of_any_length_are_joined() {
        let memory = MemoryStorage::new();
        let lengths = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 7, 5];
        let pieces: Vec<Vec<u8>> =
            lengths.iter().enumerate().map(|(n, length)| vec![n as u8; *length]).collect();
        let id = BlobId::new("p1");
        let mut writer = Box::new(CollectingWriter::new(memory.clone(), &id, &PutOptions::default()));
        pieces.iter().try_for_each(|piece| writer.write(piece)).expect("written");
        writer.finish().expect("put");
        let mut stored = Vec::new();
        memory.get(&id, &mut stored).expect("there");
        assert!(stored == pieces.concat());
    }
}
