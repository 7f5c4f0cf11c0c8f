//! Index blobs that are listed and fetched while the key is still being derived.
//!
//! Only for storages that are far. Bytes are moved and nothing else: nothing can be opened yet, nor is it known whether the
//! repository has epochs at all. Whatever fails here is left to the reading proper, which asks again and tells.

use super::parallel::map_far;
use crate::blob::Storage;
use crate::error::Result;
use kopia_format::BlobId;
use kopia_format::epoch::{EpochState, ListedBlob};
use parking_lot::Mutex;
use std::collections::HashMap;

/// More than this is not fetched before it is needed: the key derivation has its 64 MiB at the same time.
const FETCHED_BYTES_MAX: u64 = 2 << 20;

/// A listing of epochs, and the sealed bytes of blobs that it names.
pub(crate) struct EarlyIndexes {
    pub(super) listed: Vec<ListedBlob>,
    fetched: Mutex<HashMap<BlobId, Vec<u8>>>,
}

impl EarlyIndexes {
    /// Lists, and fetches what is active if it is little.
    pub(crate) fn read(storage: &dyn Storage) -> Option<Self> {
        let listed = list_epoch_blobs(storage).ok()?;
        let active = EpochState::from_listing(&listed).active_index_blobs();
        let early = Self { listed, fetched: Mutex::default() };
        if active.iter().map(|blob| blob.length).sum::<u64>() <= FETCHED_BYTES_MAX {
            map_far(&active, &|blob| {
                let mut bytes = Vec::new();
                if storage.get(&blob.id, &mut bytes).is_ok() {
                    early.fetched.lock().insert(blob.id.clone(), bytes);
                }
            });
        }
        Some(early)
    }

    /// The sealed bytes of a blob, once.
    pub(super) fn take(&self, id: &BlobId) -> Option<Vec<u8>> {
        self.fetched.lock().remove(id)
    }
}

/// All blobs of epochs as the storage lists them now.
pub(super) fn list_epoch_blobs(storage: &dyn Storage) -> Result<Vec<ListedBlob>> {
    let mut listed = Vec::new();
    storage.list("x", &mut |blob| {
        listed.push(ListedBlob { id: blob.id, length: blob.length, timestamp: blob.timestamp });
        Ok(())
    })?;
    Ok(listed)
}
