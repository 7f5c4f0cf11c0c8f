//! A storage that writes down what is done to it, and fails where it is told to.

use kopia_engine::blob::{BlobMetadata, BlobWriter, PutOptions, Storage};
use kopia_engine::{Error, ErrorKind, Result};
use kopia_format::BlobId;
use parking_lot::Mutex;
use std::sync::Arc;

/// One thing done, as `put NAME`, `create NAME`, `finish NAME`, `delete NAME`, `sync`.
pub type Log = Arc<Mutex<Vec<String>>>;

#[derive(Debug)]
pub struct RecordingStorage {
    inner: Arc<dyn Storage>,
    pub log: Log,
    /// Operations that begin with this text fail.
    pub failing: Arc<Mutex<Option<String>>>,
}

impl RecordingStorage {
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, log: Log::default(), failing: Arc::default() }
    }
}

fn record(log: &Log, failing: &Mutex<Option<String>>, what: String) -> Result<()> {
    if failing.lock().as_ref().is_some_and(|prefix| what.starts_with(prefix)) {
        return Err(Error::new(ErrorKind::Storage, format!("{what}: failed as told")));
    }
    log.lock().push(what);
    Ok(())
}

struct RecordingWriter {
    inner: Box<dyn BlobWriter>,
    id: BlobId,
    log: Log,
    failing: Arc<Mutex<Option<String>>>,
}

impl BlobWriter for RecordingWriter {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.inner.write(piece)
    }
    fn finish(self: Box<Self>) -> Result<()> {
        record(&self.log, &self.failing, format!("finish {}", self.id))?;
        self.inner.finish()
    }
}

impl Storage for RecordingStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.inner.get(id, out)
    }
    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.inner.get_range(id, offset, length, out)
    }
    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.inner.metadata(id)
    }
    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        record(&self.log, &self.failing, format!("put {id}"))?;
        self.inner.put(id, pieces, options)
    }
    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        record(&self.log, &self.failing, format!("create {id}"))?;
        let inner = self.inner.create(id, options)?;
        let (log, failing) = (Arc::clone(&self.log), Arc::clone(&self.failing));
        Ok(Box::new(RecordingWriter { inner, id: id.clone(), log, failing }))
    }
    fn delete(&self, id: &BlobId) -> Result<()> {
        record(&self.log, &self.failing, format!("delete {id}"))?;
        self.inner.delete(id)
    }
    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, each)
    }
    fn sync(&self) -> Result<()> {
        record(&self.log, &self.failing, "sync".into())?;
        self.inner.sync()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn is_local(&self) -> bool {
        true
    }
}
