//! The door of the content layer: look up, put, read, delete, flush.

use super::info::{ContentInfo, WriteScratch, Written};
use crate::error::Result;
use kopia_format::ContentId;
use kopia_format::compression::CompressorId;
use kopia_format::hashing::ContentHasher;

/// Contents of one open repository. Shared by reference between threads.
pub struct ContentManager {}

impl ContentManager {
    /// The repository's keyed hash.
    pub fn hasher(&self) -> &ContentHasher {
        todo!()
    }
    /// The deduplication test: pending or committed, and not deleted.
    pub fn contains_live(&self, _id: &ContentId) -> Result<bool> {
        todo!()
    }
    /// What is known of a content; deleted ones too.
    pub fn info(&self, _id: &ContentId) -> Result<Option<ContentInfo>> {
        todo!()
    }
    /// Stores a content whose ID was computed by the caller. May encrypt `data` where it stands (its bytes are lost).
    pub fn put_hashed(&self, _id: ContentId, _data: &mut Vec<u8>, _compressor: CompressorId, _scratch: &mut WriteScratch) -> Result<Written> {
        todo!()
    }
    /// Hashes and stores.
    pub fn write(&self, _prefix: Option<u8>, _data: Vec<u8>, _compressor: CompressorId, _scratch: &mut WriteScratch) -> Result<ContentId> {
        todo!()
    }
    /// Replaces `out` by the plain bytes of a content.
    ///
    /// # Errors
    /// `ContentNotFound`; `Corrupted`, naming content and pack.
    pub fn read(&self, _id: &ContentId, _out: &mut Vec<u8>) -> Result<()> {
        todo!()
    }
    /// Like `read`, for a content that was looked up before.
    pub fn read_located(&self, _info: &ContentInfo, _out: &mut Vec<u8>) -> Result<()> {
        todo!()
    }
    /// Opens and decompresses stored bytes that the caller fetched itself; no hash check. `packed` is scratch afterwards.
    pub fn open_packed(&self, _info: &ContentInfo, _packed: &mut Vec<u8>, _out: &mut Vec<u8>) -> Result<()> {
        todo!()
    }
    /// Calls `each` for every content, in no promised order.
    pub fn for_each(&self, _include_deleted: bool, _each: &mut dyn FnMut(ContentInfo) -> Result<()>) -> Result<()> {
        todo!()
    }
    /// Marks a content as deleted.
    pub fn delete(&self, _id: &ContentId) -> Result<()> {
        todo!()
    }
    /// Stores a deleted content again, live (snapshot GC found it in use).
    pub fn undelete(&self, _id: &ContentId, _scratch: &mut WriteScratch) -> Result<()> {
        todo!()
    }
    /// Stores a content again in a new pack with the same compressor and deletion mark.
    pub fn rewrite(&self, _id: &ContentId, _scratch: &mut WriteScratch) -> Result<()> {
        todo!()
    }
    /// Stores all pending packs, then their indexes: after this, other clients see every content put before.
    pub fn flush(&self) -> Result<()> {
        todo!()
    }
}
