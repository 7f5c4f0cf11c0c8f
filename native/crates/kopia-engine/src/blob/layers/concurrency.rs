//! Bounds how many requests are under way at once.
//!
//! A callback of `list` and the time between the pieces of a writer hold no slot: the caller may
//! make other requests there, and would wait for itself.

use super::pass_through;
use crate::blob::storage::{BlobMetadata, BlobWriter, PutOptions, RetentionMode, Storage};
use crate::error::Result;
use bytes::Bytes;
use kopia_format::BlobId;
use parking_lot::{Condvar, Mutex};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// A storage with a bounded number of requests under way.
#[derive(Debug)]
pub struct ConcurrencyStorage {
    inner: Arc<dyn Storage>,
    slots: Arc<Slots>,
}

#[derive(Debug)]
struct Slots {
    free_count: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    /// Waits for a slot; it is given back when the result is dropped.
    fn take(&self) -> Slot<'_> {
        let mut free_count = self.free_count.lock();
        self.freed.wait_while(&mut free_count, |free_count| *free_count == 0);
        *free_count -= 1;
        Slot(self)
    }
}

struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free_count.lock() += 1;
        self.0.freed.notify_one();
    }
}

impl ConcurrencyStorage {
    /// Wraps `inner`: at most `request_count_max` requests reach it at once.
    pub fn new(inner: Arc<dyn Storage>, request_count_max: NonZeroUsize) -> Self {
        let slots = Slots { free_count: Mutex::new(request_count_max.get()), freed: Condvar::new() };
        Self { inner, slots: Arc::new(slots) }
    }
}

impl Storage for ConcurrencyStorage {
    pass_through!(describe, is_local, protection);

    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        let _slot = self.slots.take();
        self.inner.get(id, out)
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        let _slot = self.slots.take();
        self.inner.get_range(id, offset, length, out)
    }

    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        let _slot = self.slots.take();
        self.inner.metadata(id)
    }

    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        let _slot = self.slots.take();
        self.inner.put(id, pieces, options)
    }

    fn put_shared(&self, id: &BlobId, pieces: &[Bytes], options: &PutOptions) -> Result<()> {
        let _slot = self.slots.take();
        self.inner.put_shared(id, pieces, options)
    }

    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        let _slot = self.slots.take();
        let inner = self.inner.create(id, options)?;
        Ok(Box::new(ConcurrencyWriter { inner, slots: Arc::clone(&self.slots) }))
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        let _slot = self.slots.take();
        self.inner.delete(id)
    }

    fn extend_retention(&self, id: &BlobId, mode: RetentionMode, period: std::time::Duration) -> Result<()> {
        let _slot = self.slots.take();
        self.inner.extend_retention(id, mode, period)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        let mut slot = Some(self.slots.take());
        self.inner.list(prefix, &mut |blob| {
            drop(slot.take());
            let result = each(blob);
            slot = Some(self.slots.take());
            result
        })
    }

    fn sync(&self) -> Result<()> {
        let _slot = self.slots.take();
        self.inner.sync()
    }
}

struct ConcurrencyWriter {
    inner: Box<dyn BlobWriter>,
    slots: Arc<Slots>,
}

impl BlobWriter for ConcurrencyWriter {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        let _slot = self.slots.take();
        self.inner.write(piece)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let _slot = self.slots.take();
        self.inner.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::layers::observing::{Observation, ObservedStorage, Observer};
    use crate::blob::memory::MemoryStorage;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Is told before the slot is given back, so what it sees are requests under way.
    #[derive(Debug, Default)]
    struct UnderWay {
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Observer for UnderWay {
        fn observe(&self, _observation: &Observation<'_>) {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(2));
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn no_more_requests_than_slots_are_under_way() {
        let under_way = Arc::new(UnderWay::default());
        let observed = ObservedStorage::new(Arc::new(MemoryStorage::new()), under_way.clone());
        let two = NonZeroUsize::new(2).expect("not zero");
        let storage = ConcurrencyStorage::new(Arc::new(observed), two);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| (0..5).for_each(|_| drop(storage.metadata(&"xe1".into()))));
            }
        });
        assert_eq!(under_way.most.load(Ordering::SeqCst), 2);
    }
}
