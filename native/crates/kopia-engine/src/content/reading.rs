//! Reading contents: locate, fetch, open, check.
//!
//! A pack that vanished was rewritten by maintenance: the newest index says where its contents are.

use super::info::ContentInfo;
use super::manager::{ContentManager, not_found};
use super::sealing;
use crate::error::{ErrorKind, Result};
use kopia_format::ContentId;
use parking_lot::Mutex;
use std::time::Duration;

/// Attempts and first pause when a pack is not where the index says.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Buffers kept for the next read, and the largest that is kept.
const BUFFERS_KEPT: usize = 4;
const BUFFER_BYTES_MAX: usize = 10 << 20;
/// Bytes of contents that are read together.
const LOCAL_GROUP_BYTES: u64 = 1 << 20;
const REMOTE_GROUP_BYTES: u64 = 4 << 20;

/// Buffers for stored bytes: fresh ones cost a page fault every 4 KiB.
#[derive(Default)]
pub(super) struct BufferPool(Mutex<Vec<Vec<u8>>>);

impl BufferPool {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut buffer = self.0.lock().pop().unwrap_or_default();
        let result = work(&mut buffer);
        let mut kept = self.0.lock();
        if kept.len() < BUFFERS_KEPT && buffer.capacity() <= BUFFER_BYTES_MAX {
            kept.push(buffer);
        }
        result
    }
}

impl ContentManager {
    /// Replaces `out` by the plain bytes of a content; a deleted one is still read.
    ///
    /// # Errors
    /// `ContentNotFound`; `Corrupted`, naming content and pack; `BlobNotFound` if the pack is gone
    /// though indexes were read again.
    pub fn read(&self, id: &ContentId, out: &mut Vec<u8>) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let info = self.info(id)?.ok_or_else(|| not_found(id))?;
            match self.read_located(&info, out) {
                Err(error) if error.kind == ErrorKind::BlobNotFound && attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "pack vanished; reading indexes again");
                    std::thread::sleep(pause);
                    self.refresh()?;
                }
                result => return result,
            }
            attempt += 1;
            pause *= 2;
        }
    }

    /// Like [`Self::read`], and hashes what was read in any case: for what is about to be stored again, or is
    /// looked at because the repository is in doubt.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_hashed(&self, id: &ContentId, out: &mut Vec<u8>) -> Result<()> {
        self.read(id, out)?;
        if self.context.check_hashes || self.hasher().hash(out) == *id.hash() {
            return Ok(());
        }
        let info = self.info(id)?.ok_or_else(|| not_found(id))?;
        Err(sealing::wrong_hash(&info))
    }

    /// Like [`Self::read`], for a content that was looked up before; does not look again if the pack is gone.
    ///
    /// # Errors
    /// `Corrupted`, naming content and pack; `BlobNotFound`, `InvalidRange` and others of the storage.
    pub fn read_located(&self, info: &ContentInfo, out: &mut Vec<u8>) -> Result<()> {
        self.ensure_stored(info)?;
        self.buffers.with(|packed| {
            let (offset, length) = (u64::from(info.offset), u64::from(info.packed_length));
            let fetched = self.context.storage.get_range(&info.pack, offset, length, packed);
            fetched.map_err(|error| sealing::named(error, info))?;
            sealing::open(&self.context, info, packed, out)
        })?;
        sealing::check_hash(&self.context, info, out)
    }

    /// Opens and decompresses stored bytes that the caller fetched itself; no hash check. `packed` is scratch afterwards.
    ///
    /// # Errors
    /// `Corrupted`, naming content and pack.
    pub fn open_packed(&self, info: &ContentInfo, packed: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
        sealing::open(&self.context, info, packed, out)
    }

    /// How many contents should be read together at least: as many as are hashed side by side.
    pub(crate) fn read_lanes(&self, hashing: bool) -> usize {
        if hashing || self.context.check_hashes { self.hasher().preferred_lanes() } else { 1 }
    }

    /// Bytes from which on a group of contents is worth a read: few where reading costs a copy, so that they
    /// are still in the processor's cache when they are opened and written; many where each read is a request.
    pub(crate) fn read_group_bytes(&self) -> u64 {
        if self.is_local() { LOCAL_GROUP_BYTES } else { REMOTE_GROUP_BYTES }
    }

    /// Whether the storage answers like a local disk.
    pub fn is_local(&self) -> bool {
        self.context.storage.is_local()
    }

    /// A content of a pack that this process is still writing becomes readable by closing the pack.
    pub(super) fn ensure_stored(&self, info: &ContentInfo) -> Result<()> {
        if self.pending.len() == 0 {
            return Ok(());
        }
        let number = self.catalog.number_of(&info.pack)?;
        if self.catalog.is_open(number) { self.packs.finish_pack(number) } else { Ok(()) }
    }
}
