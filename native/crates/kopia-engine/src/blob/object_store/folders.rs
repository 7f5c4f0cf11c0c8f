//! Objects of a bucket that are no blobs of a repository: listed a folder at a time, as far as they go.

use super::storage::ObjectStorage;
use crate::blob::layers::pass_through;
use crate::blob::storage::{BlobMetadata, BlobWriter, PutOptions, Storage};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::BlobId;

/// A bucket and prefix whose keys have folders in them; for reading.
///
/// Two promises of the seam are others here: `list` gives one level, with folders as names that end in `/`, and
/// `get_range` ends early where the object ends, as HTTP does, so that what is small needs one request.
#[derive(Debug)]
pub struct FolderStorage {
    inner: ObjectStorage,
}

impl FolderStorage {
    /// The objects of `inner`'s bucket and prefix.
    pub fn new(inner: ObjectStorage) -> Self {
        Self { inner }
    }

    /// Whether a read failed because the object ends before. Azurite answers such a range with the last bytes, on
    /// which the crate fails with words of its own.
    fn is_behind_end(&self, id: &BlobId, offset: u64, error: &Error) -> bool {
        match error.kind {
            ErrorKind::InvalidRange => true,
            ErrorKind::Storage => self.inner.metadata(id).is_ok_and(|found| found.length <= offset),
            _ => false,
        }
    }

    fn refuse<T>(&self, id: &BlobId) -> Result<T> {
        let message = format!("cannot change {id}: {} is only read", self.describe());
        Err(Error::new(ErrorKind::AccessDenied, message))
    }
}

impl Storage for FolderStorage {
    pass_through!(get, metadata, sync, describe);

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        if length == 0 || offset.checked_add(length).is_none() {
            return Ok(());
        }
        match self.inner.get_up_to(id, offset, length, out) {
            Err(error) if self.is_behind_end(id, offset, &error) => {
                out.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn put(&self, id: &BlobId, _pieces: &[&[u8]], _options: &PutOptions) -> Result<()> {
        self.refuse(id)
    }

    fn create(&self, id: &BlobId, _options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        self.refuse(id)
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.refuse(id)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        let mut page_token: Option<String> = None;
        loop {
            let (found, next) = self.inner.folder_page(prefix, page_token.as_deref())?;
            found.into_iter().try_for_each(&mut *each)?;
            page_token = next;
            if page_token.is_none() {
                return Ok(());
            }
        }
    }
}
