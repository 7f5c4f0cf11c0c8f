//! Blobs in memory: for tests and for repositories that nobody keeps.
//!
//! Keeps every promise of the seam. Times come from the given clock and can be set by hand,
//! because the protocol (epochs, maintenance) depends on them.

use super::collecting::CollectingWriter;
use super::storage::{BlobMetadata, BlobWriter, PutOptions, Storage};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::{BlobId, Timestamp};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A storage that ends with the process; clones show the same blobs.
#[derive(Debug, Clone)]
pub struct MemoryStorage {
    blobs: Arc<RwLock<BTreeMap<BlobId, StoredBlob>>>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct StoredBlob {
    bytes: Arc<[u8]>,
    timestamp: Timestamp,
}

impl std::fmt::Debug for StoredBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {}", self.bytes.len(), self.timestamp.seconds)
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }
}

impl MemoryStorage {
    /// An empty storage with the system's clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty storage whose blobs get their times from `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { blobs: Arc::default(), clock }
    }

    /// Sets the time of a blob, as a copy of a repository does.
    ///
    /// # Errors
    /// `BlobNotFound`.
    pub fn set_timestamp(&self, id: &BlobId, timestamp: Timestamp) -> Result<()> {
        let mut blobs = self.blobs.write();
        blobs.get_mut(id).ok_or_else(|| not_found(id))?.timestamp = timestamp;
        Ok(())
    }

    fn find(&self, id: &BlobId) -> Result<StoredBlob> {
        self.blobs.read().get(id).cloned().ok_or_else(|| not_found(id))
    }
}

fn not_found(id: &BlobId) -> Error {
    Error::new(ErrorKind::BlobNotFound, format!("blob {id} not found in memory")).with("blob", id)
}

/// `offset..offset + length` of `bytes`, if it is inside.
fn range_of(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(length)?).ok()?;
    bytes.get(start..end)
}

impl Storage for MemoryStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.extend_from_slice(&self.find(id)?.bytes);
        Ok(())
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let bytes = self.find(id)?.bytes;
        let range = range_of(&bytes, offset, length).ok_or_else(|| {
            let size = bytes.len();
            let message = format!("blob {id} has {size} bytes, {length} from offset {offset} were asked for");
            Error::new(ErrorKind::InvalidRange, message).with("blob", id)
        })?;
        out.extend_from_slice(range);
        Ok(())
    }

    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        let blob = self.find(id)?;
        Ok(BlobMetadata { id: id.clone(), length: blob.bytes.len() as u64, timestamp: blob.timestamp })
    }

    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        let blob = StoredBlob { bytes: pieces.concat().into(), timestamp: self.clock.now() };
        let mut blobs = self.blobs.write();
        if options.do_not_replace && blobs.contains_key(id) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("blob {id} exists already")));
        }
        blobs.insert(id.clone(), blob);
        Ok(())
    }

    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(CollectingWriter::new(self.clone(), id, options)))
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.blobs.write().remove(id);
        Ok(())
    }

    /// The lock is not held while `each` runs, so `each` may call this storage.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        let found: Vec<_> = self
            .blobs
            .read()
            .range(BlobId::new(prefix)..)
            .take_while(|(id, _)| id.as_str().starts_with(prefix))
            .map(|(id, blob)| BlobMetadata {
                id: id.clone(),
                length: blob.bytes.len() as u64,
                timestamp: blob.timestamp,
            })
            .collect();
        found.into_iter().try_for_each(each)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn is_local(&self) -> bool {
        true
    }
}
