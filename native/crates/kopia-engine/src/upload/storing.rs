//! Storing the data of files: chunks, small objects, zeros, and inodes that were read already.
//!
//! In repositories of the first index version compression belongs to objects: the content is then
//! the compressed bytes and the object ID says so.

use super::engine::{Scratch, Upload};
use crate::error::Result;
use crate::progress::Progress;
use crate::source::metadata::Metadata;
use kopia_format::compression::CompressorId;
use kopia_format::{ContentId, ObjectId, Timestamp};

/// Hard-linked inodes that are remembered.
const LINKS_MAX: usize = 50_000;

/// An inode that was read under one of its names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    version: Version,
    object: ObjectId,
    length: u64,
}

/// What changes with every write: size, time of the contents, time of anything.
type Version = (u64, Timestamp, Timestamp);

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.device, metadata.inode)
}
fn version(metadata: &Metadata) -> Version {
    (metadata.size, metadata.modified, metadata.changed)
}

impl Upload<'_> {
    /// Stores bytes whose hash is known.
    pub(super) fn put(
        &self,
        hash: kopia_format::ContentHash,
        data: &mut Vec<u8>,
        compressed: bool,
        compressor: CompressorId,
        scratch: &mut Scratch,
    ) -> Result<ObjectId> {
        let id = ContentId::new(None, hash)?;
        let length = data.len() as u64;
        let compressor = if self.object_compression { CompressorId::NONE } else { compressor };
        Progress::add(&self.progress.bytes_hashed, length);
        let written = self.contents.put_hashed(id, data, compressor, &mut scratch.write)?;
        self.stats.count_written(written, length, self.progress);
        Ok(ObjectId { compressed, ..ObjectId::direct(id) })
    }
    /// Stores a small object whose plain bytes hash to `hash`.
    pub(super) fn put_small(
        &self,
        hash: kopia_format::ContentHash,
        data: &mut Vec<u8>,
        compressor: CompressorId,
        scratch: &mut Scratch,
    ) -> Result<ObjectId> {
        if self.object_compression && compressor != CompressorId::NONE {
            return self.put_whole(std::mem::take(data), compressor, scratch);
        }
        self.put(hash, data, false, compressor, scratch)
    }
    /// Compresses where compression belongs to objects; says whether it did.
    pub(super) fn compress_object(
        &self,
        data: Vec<u8>,
        compressor: CompressorId,
        scratch: &mut Scratch,
    ) -> Result<(Vec<u8>, bool)> {
        if !self.object_compression || compressor == CompressorId::NONE {
            return Ok((data, false));
        }
        let mut compressed = Vec::new();
        if !scratch.compressor.compress(compressor, &data, &mut compressed)? {
            return Ok((data, false));
        }
        self.work.lock().pool.give(data);
        Ok((compressed, true))
    }
    /// Hashes and stores a small object without splitting.
    pub(super) fn put_whole(
        &self,
        data: Vec<u8>,
        compressor: CompressorId,
        scratch: &mut Scratch,
    ) -> Result<ObjectId> {
        let mut compressed = Vec::new();
        let is_compressed = self.object_compression
            && compressor != CompressorId::NONE
            && scratch.compressor.compress(compressor, &data, &mut compressed)?;
        let mut data = if is_compressed { compressed } else { data };
        let hash = self.contents.hasher().hash(&data);
        self.put(hash, &mut data, is_compressed, compressor, scratch)
    }
    /// The object of a whole chunk of zeros; stored once.
    pub(super) fn zeros(
        &self,
        length: u64,
        compressor: CompressorId,
        scratch: &mut Scratch,
    ) -> Result<ObjectId> {
        let mut zeros = self.zeros.lock();
        if let Some(object) = zeros.get(&(length, compressor)) {
            return Ok(*object);
        }
        let object = self.put_whole(vec![0; length as usize], compressor, scratch)?;
        zeros.insert((length, compressor), object);
        Ok(object)
    }
    /// The object and length of an inode that was read under another name.
    pub(super) fn linked(&self, metadata: &Metadata) -> Option<(ObjectId, u64)> {
        let found = (metadata.links > 1).then(|| self.links.lock().get(&inode(metadata)).copied())??;
        (found.version == version(metadata)).then_some((found.object, found.length))
    }
    /// Remembers an inode with several names, as it was before it was read. Another write in the same tick would not show.
    pub(super) fn remember_link(&self, metadata: &Metadata, object: ObjectId, length: u64) {
        if metadata.links > 1 && !self.racy.concerns_now(metadata.changed) {
            let mut links = self.links.lock();
            if links.len() < LINKS_MAX {
                links.insert(inode(metadata), Link { version: version(metadata), object, length });
            }
        }
    }
}
