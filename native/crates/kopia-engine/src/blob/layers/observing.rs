//! Measures each request and tells an observer: the ground of metrics and logging.
//!
//! A blob written in pieces is one `put`: its seconds are those spent inside the storage, not
//! those between the pieces.

use super::pass_through;
use crate::blob::storage::{BlobMetadata, BlobWriter, PutOptions, RetentionMode, Storage};
use crate::error::{Error, Result};
use bytes::Bytes;
use kopia_format::BlobId;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `get` and `get_range`.
    Get,
    /// `metadata`.
    Metadata,
    /// `put`, or `create` up to `finish`.
    Put,
    /// `delete`.
    Delete,
    /// `list`, the time in the callback included.
    List,
    /// `sync`.
    Sync,
}

impl Operation {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 6] = [Self::Get, Self::Metadata, Self::Put, Self::Delete, Self::List, Self::Sync];

    /// The label of metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Metadata => "metadata",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Sync => "sync",
        }
    }
}

/// A request that has ended.
#[derive(Debug)]
pub struct Observation<'a> {
    /// What was asked for.
    pub operation: Operation,
    /// On which blob, or prefix of blobs.
    pub blob: &'a str,
    /// Bytes read or written; 0 if it failed.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// How it failed, if it did.
    pub error: Option<&'a Error>,
}

/// Is told of each request, on the thread that made it.
pub trait Observer: Send + Sync + Debug {
    /// A request has ended.
    fn observe(&self, observation: &Observation<'_>);
}

/// A storage whose requests are observed.
#[derive(Debug)]
pub struct ObservedStorage {
    inner: Arc<dyn Storage>,
    observer: Arc<dyn Observer>,
}

impl ObservedStorage {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Storage>, observer: Arc<dyn Observer>) -> Self {
        Self { inner, observer }
    }

    fn measure<T>(
        &self,
        operation: Operation,
        blob: &str,
        request: impl FnOnce() -> Result<T>,
        bytes_of: impl FnOnce(&T) -> u64,
    ) -> Result<T> {
        let started = Instant::now();
        let result = request();
        let bytes = result.as_ref().map_or(0, bytes_of);
        let elapsed = started.elapsed();
        let error = result.as_ref().err();
        self.observer.observe(&Observation { operation, blob, bytes, elapsed, error });
        result
    }
}

impl Storage for ObservedStorage {
    pass_through!(describe, is_local, protection);

    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        let request = || self.inner.get(id, out).map(|()| out.len() as u64);
        self.measure(Operation::Get, id.as_str(), request, |bytes| *bytes).map(drop)
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        let request = || self.inner.get_range(id, offset, length, out);
        self.measure(Operation::Get, id.as_str(), request, |()| length)
    }

    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.measure(Operation::Metadata, id.as_str(), || self.inner.metadata(id), |_| 0)
    }

    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.measure(Operation::Put, id.as_str(), || self.inner.put(id, pieces, options), |()| bytes)
    }

    fn put_shared(&self, id: &BlobId, pieces: &[Bytes], options: &PutOptions) -> Result<()> {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.measure(Operation::Put, id.as_str(), || self.inner.put_shared(id, pieces, options), |()| bytes)
    }

    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        let started = Instant::now();
        let inner = self.inner.create(id, options)?;
        let observer = Arc::clone(&self.observer);
        Ok(Box::new(ObservedWriter { inner, observer, id: id.clone(), bytes: 0, elapsed: started.elapsed() }))
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.measure(Operation::Delete, id.as_str(), || self.inner.delete(id), |()| 0)
    }

    fn extend_retention(&self, id: &BlobId, mode: RetentionMode, period: std::time::Duration) -> Result<()> {
        self.inner.extend_retention(id, mode, period)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        self.measure(Operation::List, prefix, || self.inner.list(prefix, each), |()| 0)
    }

    fn sync(&self) -> Result<()> {
        self.measure(Operation::Sync, "", || self.inner.sync(), |()| 0)
    }
}

struct ObservedWriter {
    inner: Box<dyn BlobWriter>,
    observer: Arc<dyn Observer>,
    id: BlobId,
    bytes: u64,
    elapsed: Duration,
}

impl BlobWriter for ObservedWriter {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        let started = Instant::now();
        let result = self.inner.write(piece);
        self.elapsed += started.elapsed();
        self.bytes += piece.len() as u64;
        result
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let started = Instant::now();
        let result = self.inner.finish();
        let error = result.as_ref().err();
        self.observer.observe(&Observation {
            operation: Operation::Put,
            blob: self.id.as_str(),
            bytes: if error.is_none() { self.bytes } else { 0 },
            elapsed: self.elapsed + started.elapsed(),
            error,
        });
        result
    }
}
