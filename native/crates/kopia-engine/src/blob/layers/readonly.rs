//! Refuses everything that would change the storage.

use super::pass_through;
use crate::blob::storage::{BlobMetadata, BlobWriter, PutOptions, RetentionMode, Storage};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use kopia_format::BlobId;
use std::sync::Arc;

/// A storage that can only be read.
#[derive(Debug)]
pub struct ReadonlyStorage {
    inner: Arc<dyn Storage>,
}

impl ReadonlyStorage {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner }
    }

    fn refuse<T>(&self, what: &str, id: &BlobId) -> Result<T> {
        let place = self.describe();
        let message = format!("cannot {what} blob {id}: {place} is connected read-only");
        Err(Error::new(ErrorKind::AccessDenied, message))
    }
}

impl Storage for ReadonlyStorage {
    pass_through!(get, get_range, metadata, list, sync, describe, is_local, protection, remembered);

    fn put(&self, id: &BlobId, _pieces: &[&[u8]], _options: &PutOptions) -> Result<()> {
        self.refuse("put", id)
    }

    fn put_shared(&self, id: &BlobId, _pieces: &[Bytes], _options: &PutOptions) -> Result<()> {
        self.refuse("put", id)
    }

    fn create(&self, id: &BlobId, _options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        self.refuse("put", id)
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.refuse("delete", id)
    }

    fn extend_retention(&self, id: &BlobId, mode: RetentionMode, period: std::time::Duration) -> Result<()> {
        let _ = (mode, period);
        self.refuse("extend the lock of", id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::memory::MemoryStorage;

    #[test]
    fn reads_pass_and_writes_are_refused() {
        let memory = MemoryStorage::new();
        let (id, options) = (BlobId::new("xe1"), PutOptions::default());
        memory.put(&id, &[b"1"], &options).expect("put");
        let storage = ReadonlyStorage::new(Arc::new(memory));
        let mut out = Vec::new();
        storage.get(&id, &mut out).expect("get");
        for result in
            [storage.put(&id, &[], &options), storage.delete(&id), storage.create(&id, &options).map(drop)]
        {
            assert_eq!(result.expect_err("refused").kind, ErrorKind::AccessDenied);
        }
        storage.get(&id, &mut out).expect("still there");
        assert_eq!(out, b"1");
    }
}
