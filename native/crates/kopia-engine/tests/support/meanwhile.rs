//! A storage in whose calls something else happens: how two clients that take turns at any point are
//! simulated in one thread.

use kopia_engine::Result;
use kopia_engine::blob::{BlobMetadata, BlobWriter, PutOptions, Storage};
use kopia_format::BlobId;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

type Event = Box<dyn FnOnce() + Send>;

/// Calls go to `inner`; before the one that was chosen, the event happens.
#[derive(Clone)]
pub struct MeanwhileStorage {
    inner: Arc<dyn Storage>,
    planned: Arc<Mutex<Option<(u64, Event)>>>,
}

impl fmt::Debug for MeanwhileStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeanwhileStorage")
    }
}

impl MeanwhileStorage {
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, planned: Arc::default() }
    }

    /// Lets `event` happen before the call after the next `calls`.
    pub fn plan(&self, calls: u64, event: impl FnOnce() + Send + 'static) {
        *self.planned.lock() = Some((calls, Box::new(event)));
    }

    /// Forgets what did not happen.
    pub fn forget(&self) {
        *self.planned.lock() = None;
    }

    fn pass(&self) {
        let mut planned = self.planned.lock();
        let due = match &mut *planned {
            Some((0, _)) => planned.take(),
            Some((calls, _)) => {
                *calls -= 1;
                None
            }
            None => None,
        };
        drop(planned);
        if let Some((_, event)) = due {
            event();
        }
    }
}

struct MeanwhileWriter {
    inner: Box<dyn BlobWriter>,
    storage: MeanwhileStorage,
}

impl BlobWriter for MeanwhileWriter {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.inner.write(piece)
    }
    fn finish(self: Box<Self>) -> Result<()> {
        self.storage.pass();
        self.inner.finish()
    }
}

impl Storage for MeanwhileStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.pass();
        self.inner.get(id, out)
    }
    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.pass();
        self.inner.get_range(id, offset, length, out)
    }
    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.pass();
        self.inner.metadata(id)
    }
    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.pass();
        self.inner.put(id, pieces, options)
    }
    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        let inner = self.inner.create(id, options)?;
        Ok(Box::new(MeanwhileWriter { inner, storage: self.clone() }))
    }
    fn delete(&self, id: &BlobId) -> Result<()> {
        self.pass();
        self.inner.delete(id)
    }
    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        self.pass();
        self.inner.list(prefix, each)
    }
    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn is_local(&self) -> bool {
        true
    }
}
