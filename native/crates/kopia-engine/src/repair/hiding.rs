//! A storage without some of its blobs: a repository opens as if the damaged ones were gone.

use crate::blob::{BlobMetadata, BlobWriter, PutOptions, Storage};
use crate::error::Result;
use kopia_format::BlobId;
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct HidingStorage {
    inner: Arc<dyn Storage>,
    hidden: HashSet<BlobId>,
}

impl HidingStorage {
    pub(super) fn new(inner: Arc<dyn Storage>, hidden: HashSet<BlobId>) -> Self {
        Self { inner, hidden }
    }
}

impl Storage for HidingStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.inner.get(id, out)
    }
    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.inner.get_range(id, offset, length, out)
    }
    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.inner.metadata(id)
    }
    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.inner.put(id, pieces, options)
    }
    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        self.inner.create(id, options)
    }
    fn delete(&self, id: &BlobId) -> Result<()> {
        self.inner.delete(id)
    }
    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, &mut |blob| if self.hidden.contains(&blob.id) { Ok(()) } else { each(blob) })
    }
    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn is_local(&self) -> bool {
        self.inner.is_local()
    }
}
