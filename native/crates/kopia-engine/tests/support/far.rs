//! A storage that is far: requests of several threads overlap, and their order is noted.

use kopia_engine::Result;
use kopia_engine::blob::collecting::CollectingWriter;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::{BlobMetadata, BlobWriter, PutOptions, Storage};
use kopia_format::BlobId;
use parking_lot::Mutex;
use std::sync::Arc;

/// A memory storage that says it is far.
#[derive(Debug, Clone, Default)]
pub struct FarStorage {
    pub inner: MemoryStorage,
    /// `begin put p…`, `end put p…`, and so on.
    pub log: Arc<Mutex<Vec<String>>>,
    /// What stands for a remembered format blob.
    pub remembered: Option<Vec<u8>>,
}

impl FarStorage {
    fn noted<T>(&self, what: &str, id: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.log.lock().push(format!("begin {what} {id}"));
        let result = work();
        self.log.lock().push(format!("end {what} {id}"));
        result
    }
}

impl Storage for FarStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.noted("get", id.as_str(), || self.inner.get(id, out))
    }
    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.noted("get", id.as_str(), || self.inner.get_range(id, offset, length, out))
    }
    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.inner.metadata(id)
    }
    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.noted("put", id.as_str(), || self.inner.put(id, pieces, options))
    }
    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(CollectingWriter::new(self.clone(), id, options)))
    }
    fn delete(&self, id: &BlobId) -> Result<()> {
        self.noted("delete", id.as_str(), || self.inner.delete(id))
    }
    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        self.noted("list", prefix, || self.inner.list(prefix, each))
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    fn describe(&self) -> String {
        "far".into()
    }
    fn remembered(&self, _id: &BlobId) -> Option<Vec<u8>> {
        self.remembered.clone()
    }
}
