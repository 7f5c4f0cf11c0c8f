//! A long listing as an iterator of batches, made by a thread of its own that waits when it is ahead.

use crate::errors::{Failure, Result};
use kopia_engine::tree::WALK_STACK_BYTES;
use kopia_engine::{Error, ErrorKind};
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Documents in a batch.
const BATCH_LENGTH: usize = 256;
/// Batches that may wait to be fetched.
const BATCHES_WAITING: usize = 2;

type Batch = kopia_engine::Result<Vec<String>>;

#[pyclass(frozen, module = "repository._native")]
pub(crate) struct Batches(Mutex<Option<Receiver<Batch>>>);

#[pymethods]
impl Batches {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> Result<Option<Vec<String>>> {
        let received = py.detach(|| self.0.lock().as_ref().and_then(|receiver| receiver.recv().ok()));
        received.transpose().map_err(Failure::from)
    }

    fn close(&self) {
        *self.0.lock() = None;
    }
}

impl Batches {
    /// Runs `list` in a thread; it hands every document to the function it is given, and ends when
    /// that says so.
    pub(crate) fn produce(
        list: impl FnOnce(&mut dyn FnMut(String) -> kopia_engine::Result<()>) -> kopia_engine::Result<()>
        + Send
        + 'static,
    ) -> Result<Self> {
        let (sender, receiver) = sync_channel(BATCHES_WAITING);
        let thread = std::thread::Builder::new().stack_size(WALK_STACK_BYTES);
        let started = thread.spawn(move || fill(&sender, list));
        started.map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot start a thread for the listing").caused_by(error)
        })?;
        Ok(Self(Mutex::new(Some(receiver))))
    }
}

fn fill(
    sender: &SyncSender<Batch>,
    list: impl FnOnce(&mut dyn FnMut(String) -> kopia_engine::Result<()>) -> kopia_engine::Result<()>,
) {
    let mut batch = Vec::new();
    let listed = list(&mut |document| {
        batch.push(document);
        if batch.len() < BATCH_LENGTH {
            return Ok(());
        }
        let closed = |_| Error::new(ErrorKind::Canceled, "the listing was closed");
        sender.send(Ok(std::mem::take(&mut batch))).map_err(closed)
    });
    // Sending fails when the listing was closed: nobody asks then.
    if !batch.is_empty() {
        let _ = sender.send(Ok(batch));
    }
    if let Err(error) = listed {
        let _ = sender.send(Err(error));
    }
}
