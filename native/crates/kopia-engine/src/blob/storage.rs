//! The storage seam.
//!
//! What every provider promises: read-after-write for get and list; a put is atomic (no partial
//! blob is ever visible) and replaces an earlier blob; deleting a missing blob succeeds; timestamps
//! are the storage's own and do not go back by more than minutes. Layers wrap this trait, one concern each.

use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use kopia_format::{BlobId, Timestamp};
use std::fmt::Debug;

/// What a listing says of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMetadata {
    /// Name.
    pub id: BlobId,
    /// Length in bytes.
    pub length: u64,
    /// The storage's time of the last put.
    pub timestamp: Timestamp,
}

/// Options of a put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Object-lock mode and period, on storages that have it.
    pub retention: Option<(RetentionMode, std::time::Duration)>,
    /// Fail with `AlreadyExists` if the blob is there, with `UnsupportedFormat` where the storage knows no conditions.
    pub do_not_replace: bool,
    /// Modification time that the blob shall have, on storages that can set one (file systems); others ignore it.
    pub modified: Option<Timestamp>,
}

/// Object-lock modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RetentionMode {
    Governance,
    Compliance,
}

/// What a bucket does against loss by hand or malice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketProtection {
    /// Replaced and deleted blobs stay as older versions.
    pub has_versions: bool,
    /// Blobs can be put under object lock.
    pub has_object_lock: bool,
}

/// A blob being written in pieces; invisible until `finish`.
pub trait BlobWriter: Send {
    /// Appends a piece.
    fn write(&mut self, piece: &[u8]) -> Result<()>;
    /// Makes the blob visible under its name, whole. Durable after the storage's next `sync`.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A place of blobs.
pub trait Storage: Send + Sync + Debug {
    /// Replaces the contents of `out` by the whole blob.
    ///
    /// # Errors
    /// `BlobNotFound` and what the storage says.
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()>;
    /// Replaces the contents of `out` by exactly `length` bytes from `offset`.
    ///
    /// # Errors
    /// `InvalidRange` if the blob is shorter; `BlobNotFound`.
    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()>;
    /// Metadata of one blob.
    ///
    /// # Errors
    /// `BlobNotFound`.
    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata>;
    /// Stores `pieces`, joined, as one blob.
    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()>;
    /// As [`Self::put`], from memory that is shared: a provider that sends it later, or again, need not copy it.
    fn put_shared(&self, id: &BlobId, pieces: &[Bytes], options: &PutOptions) -> Result<()> {
        let slices: Vec<&[u8]> = pieces.iter().map(Bytes::as_ref).collect();
        self.put(id, &slices, options)
    }
    /// Starts a blob that is written in pieces (packs). Object stores collect in memory and put at the end;
    /// the file system streams to its temporary file.
    /// The writer stands on its own (pack writers outlive the borrow): providers keep what it needs behind an `Arc`.
    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>>;
    /// Deletes; a missing blob is success.
    fn delete(&self, id: &BlobId) -> Result<()>;
    /// Extends the object lock of a blob to `period` from now.
    ///
    /// # Errors
    /// `UnsupportedFormat` on storages without object locks, which is what this default says.
    fn extend_retention(&self, id: &BlobId, mode: RetentionMode, period: std::time::Duration) -> Result<()> {
        let _ = (mode, period);
        let message = format!("{} cannot extend the object lock of blob {id}", self.describe());
        Err(Error::new(ErrorKind::UnsupportedFormat, message).with("blob", id))
    }
    /// What the bucket has of versions and object lock; `None` where nothing is known of them.
    ///
    /// # Errors
    /// Those of the storage that may pass.
    fn protection(&self) -> Result<Option<BucketProtection>> {
        Ok(None)
    }
    /// Calls `each` for every blob whose name begins with `prefix`, in no promised order.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()>;
    /// Returns when everything that was put before is on stable storage.
    fn sync(&self) -> Result<()>;
    /// Where this is, for messages: a URL without secrets.
    fn describe(&self) -> String;
    /// A copy of a blob that may be replaced, as it was when it was last got: at once, and perhaps out of date.
    fn remembered(&self, id: &BlobId) -> Option<Vec<u8>> {
        let _ = id;
        None
    }
    /// Whether latency is that of a local disk (then nothing is cached locally and ranges are not merged).
    fn is_local(&self) -> bool {
        false
    }
}
