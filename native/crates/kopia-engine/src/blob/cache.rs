//! Index blobs and metadata packs on the local disk, each fetched once and whole.
//!
//! Only blobs that never change under their name are kept, as they are stored: sealed; those that this process writes
//! too. Data packs are not: a restore reads each of their bytes once. Presence and listings are always asked of
//! the storage. Of the format blob a copy is remembered, from which the key can be derived while the blob is got
//! again. Without room, or with a broken disk, everything goes on without the cache.

mod directory;

use super::collecting::CollectingWriter;
use super::layers::pass_through;
use super::storage::{BlobMetadata, BlobWriter, PutOptions, Storage};
use crate::error::Result;
use bytes::Bytes;
pub(crate) use directory::CacheDirectory;
use directory::CachedBlob;
use kopia_format::BlobId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The format blob: replaced when the password or the format changes.
const REMEMBERED: &str = "kopia.repository";
/// Checked blobs that are kept open for the next range.
const OPEN_COUNT_MAX: usize = 32;

/// Where blobs are kept, and how many bytes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// Directory; made if it is missing. Several processes and repositories may share it.
    pub directory: PathBuf,
    /// Bound of all files in it together.
    pub bytes_max: u64,
}

/// A storage before which stands a cache.
#[derive(Debug, Clone)]
pub struct CachingStorage {
    inner: Arc<dyn Storage>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    directory: CacheDirectory,
    /// One lock for each blob that is being fetched: nobody fetches it a second time meanwhile.
    fetching: Mutex<HashMap<BlobId, Arc<Mutex<()>>>>,
    /// Newest last.
    open: Mutex<Vec<(BlobId, Arc<CachedBlob>)>>,
    hit_count: AtomicU64,
    fetched_count: AtomicU64,
}

impl CachingStorage {
    /// Wraps `inner`. If the directory cannot be used, says so and keeps nothing.
    pub fn new(inner: Arc<dyn Storage>, options: &CacheOptions) -> Self {
        let directory = CacheDirectory::new(&options.directory, &inner.describe(), options.bytes_max);
        let state = State {
            directory,
            fetching: Mutex::default(),
            open: Mutex::default(),
            hit_count: AtomicU64::new(0),
            fetched_count: AtomicU64::new(0),
        };
        Self { inner, state: Arc::new(state) }
    }

    /// Reads answered from the disk, and blobs fetched, so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.state.hit_count.load(Ordering::Relaxed), self.state.fetched_count.load(Ordering::Relaxed))
    }

    /// The cached blob, checked.
    fn cached(&self, id: &BlobId) -> Option<Arc<CachedBlob>> {
        let mut open = self.state.open.lock();
        if let Some(index) = open.iter().position(|(name, _)| name == id) {
            let entry = open.remove(index);
            let blob = Arc::clone(&entry.1);
            open.push(entry);
            return Some(blob);
        }
        drop(open);
        let blob = Arc::new(self.state.directory.open(id)?);
        self.keep_open(id, &blob);
        Some(blob)
    }

    fn keep_open(&self, id: &BlobId, blob: &Arc<CachedBlob>) {
        let mut open = self.state.open.lock();
        if open.len() >= OPEN_COUNT_MAX {
            open.remove(0);
        }
        open.push((id.clone(), Arc::clone(blob)));
    }

    /// Calls `from_cache` with the blob if it is cached; else fetches it whole to `whole` and keeps it.
    /// `None` if it was fetched now.
    fn cached_or_fetched<T>(
        &self,
        id: &BlobId,
        whole: &mut Vec<u8>,
        mut from_cache: impl FnMut(&CachedBlob) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut hit = || {
            let found = self.cached(id).and_then(|blob| from_cache(&blob));
            self.state.hit_count.fetch_add(u64::from(found.is_some()), Ordering::Relaxed);
            found
        };
        if let Some(found) = hit() {
            return Ok(Some(found));
        }
        let turn = Arc::clone(self.state.fetching.lock().entry(id.clone()).or_default());
        let _turn = turn.lock();
        if let Some(found) = hit() {
            return Ok(Some(found));
        }
        let fetched = self.inner.get(id, whole);
        if fetched.is_ok() {
            self.state.fetched_count.fetch_add(1, Ordering::Relaxed);
            self.state.directory.store(id, std::iter::once(whole.as_slice()));
        }
        self.state.fetching.lock().remove(id);
        fetched.map(|()| None)
    }
}

/// Whether a blob of this name never changes and is read often: metadata packs, index blobs.
fn is_cached(id: &BlobId) -> bool {
    ["q", "n", "xn", "xs", "xr"].iter().any(|prefix| id.as_str().starts_with(prefix))
}

impl Storage for CachingStorage {
    pass_through!(metadata, list, sync, describe, is_local, extend_retention, protection);

    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        if !is_cached(id) {
            self.inner.get(id, out)?;
            self.remember(id, out);
            return Ok(());
        }
        let mut whole = std::mem::take(out);
        let mut cached = Vec::new();
        let hit = self.cached_or_fetched(id, &mut whole, |blob| blob.read(0, blob.length(), &mut cached));
        *out = if matches!(hit, Ok(Some(()))) { cached } else { whole };
        hit.map(drop)
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        // A blob that cannot be kept would be fetched whole for each range.
        if !is_cached(id) || !self.state.directory.is_usable() {
            return self.inner.get_range(id, offset, length, out);
        }
        let mut whole = Vec::new();
        let hit = self.cached_or_fetched(id, &mut whole, |blob| blob.read(offset, length, out))?;
        if hit.is_some() {
            return Ok(());
        }
        let start = usize::try_from(offset).ok();
        let end = offset.checked_add(length).and_then(|end| usize::try_from(end).ok());
        let range = start.zip(end).and_then(|(start, end)| whole.get(start..end));
        let Some(range) = range else {
            // The storage says what is wrong with the range.
            return self.inner.get_range(id, offset, length, out);
        };
        out.clear();
        out.extend_from_slice(range);
        Ok(())
    }

    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.forget(id);
        self.inner.put(id, pieces, options)?;
        self.keep_written(id, pieces.iter().copied());
        Ok(())
    }

    fn put_shared(&self, id: &BlobId, pieces: &[Bytes], options: &PutOptions) -> Result<()> {
        self.forget(id);
        self.inner.put_shared(id, pieces, options)?;
        self.keep_written(id, pieces.iter().map(Bytes::as_ref));
        Ok(())
    }

    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        if is_cached(id) {
            return Ok(Box::new(CollectingWriter::new(self.clone(), id, options)));
        }
        self.inner.create(id, options)
    }

    fn remembered(&self, id: &BlobId) -> Option<Vec<u8>> {
        let blob = self.state.directory.open(id)?;
        let mut bytes = Vec::new();
        blob.read(0, blob.length(), &mut bytes).map(|()| bytes)
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.forget(id);
        self.inner.delete(id)
    }
}

impl CachingStorage {
    /// What was just written is read next: by the command that follows.
    fn keep_written<'a>(&self, id: &BlobId, pieces: impl Iterator<Item = &'a [u8]> + Clone) {
        if is_cached(id) {
            self.state.directory.store(id, pieces);
        }
    }

    fn remember(&self, id: &BlobId, bytes: &[u8]) {
        if id.as_str() == REMEMBERED && self.remembered(id).as_deref() != Some(bytes) {
            self.state.directory.store(id, std::iter::once(bytes));
        }
    }

    fn forget(&self, id: &BlobId) {
        if is_cached(id) {
            self.state.open.lock().retain(|(name, _)| name != id);
            self.state.directory.remove(id.as_str());
        }
    }
}

#[cfg(test)]
mod tests;
