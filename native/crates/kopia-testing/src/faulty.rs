//! A storage that fails when and how a test wants it to.
//!
//! Rules are added while it is in use and are looked at in the order they were added; each call
//! takes the first fault whose condition holds. A crash is for good: every later call fails,
//! until [`FaultyStorage::revive`].

use kopia_engine::blob::layers::observing::Operation;
use kopia_engine::blob::{BlobMetadata, BlobWriter, PutOptions, RetentionMode, Storage};
use kopia_engine::{Error, ErrorKind, Result};
use kopia_format::BlobId;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A call that is about to be made.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// What it does. `create` is looked at when it finishes, as a put.
    pub operation: Operation,
    /// The blob, or the prefix of a listing.
    pub blob: &'a str,
    /// How many calls of this operation there were, this one included.
    pub number: u64,
    /// How many writes (puts and deletes) there were, this one included if it is one.
    pub write_number: u64,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; an error of this kind comes back.
    Fail(ErrorKind),
    /// As `Fail` with `Storage`, but temporary.
    FailTemporarily,
    /// Done, but an error (temporary, `Storage`) comes back: the answer was lost.
    LoseAnswer,
    /// The first half of a put is stored under its name, then the crash comes: a storage that is
    /// not atomic, or a disk that lost power.
    TearAndCrash,
    /// Nothing is done, neither by this call nor by any later one.
    Crash,
    /// Done, later.
    Delay(Duration),
    /// A read gives only the first half of its bytes, without an error.
    TruncateRead,
    /// A read gives its bytes with one bit flipped, the lowest of the byte in the middle.
    FlipBitInRead,
}

type Condition = Box<dyn Fn(&Call<'_>) -> bool + Send + Sync>;

/// A storage with chosen faults; clones share them.
#[derive(Clone)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    rules: Vec<(Condition, Fault)>,
    call_counts: [u64; Operation::ALL.len()],
    crashed: bool,
}

impl fmt::Debug for FaultyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStorage").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultyStorage {
    /// Wraps `inner`; without rules nothing fails.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Adds `fault` for the calls for which `condition` holds.
    pub fn when(&self, condition: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static, fault: Fault) {
        self.state.lock().rules.push((Box::new(condition), fault));
    }

    /// Adds `fault` for the `number`-th call of `operation`, counted from 1 since the beginning.
    pub fn at_nth(&self, operation: Operation, number: u64, fault: Fault) {
        self.when(move |call| call.operation == operation && call.number == number, fault);
    }

    /// Lets `write_count` writes happen; the next one, and every call after it, fails.
    pub fn crash_after_writes(&self, write_count: u64) {
        let is_write = |operation| matches!(operation, Operation::Put | Operation::Delete);
        self.when(move |call| is_write(call.operation) && call.write_number > write_count, Fault::Crash);
    }

    /// Makes each call take longer.
    pub fn slow(&self, delay: Duration) {
        self.when(|_| true, Fault::Delay(delay));
    }

    /// How many calls of `operation` there were, failed ones included.
    pub fn call_count(&self, operation: Operation) -> u64 {
        self.state.lock().call_counts[operation as usize]
    }

    /// How many puts and deletes there were, failed ones included.
    pub fn write_count(&self) -> u64 {
        self.call_count(Operation::Put) + self.call_count(Operation::Delete)
    }

    /// Whether a crash has come.
    pub fn has_crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// Ends a crash and forgets all rules: the next process starts.
    pub fn revive(&self) {
        let mut state = self.state.lock();
        state.crashed = false;
        state.rules.clear();
    }

    fn fault_of(&self, operation: Operation, blob: &str) -> Option<Fault> {
        let mut state = self.state.lock();
        state.call_counts[operation as usize] += 1;
        let write_number =
            state.call_counts[Operation::Put as usize] + state.call_counts[Operation::Delete as usize];
        let call = Call { operation, blob, number: state.call_counts[operation as usize], write_number };
        if state.crashed {
            return Some(Fault::Crash);
        }
        let fault = state.rules.iter().find(|(condition, _)| condition(&call)).map(|(_, fault)| *fault);
        state.crashed = matches!(fault, Some(Fault::Crash | Fault::TearAndCrash));
        fault
    }

    /// Makes the call `act`, unless a fault comes first.
    fn call<T>(&self, operation: Operation, blob: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.fault_of(operation, blob) {
            None | Some(Fault::TruncateRead | Fault::FlipBitInRead) => act(),
            Some(fault) => with_fault(fault, operation, blob, act),
        }
    }

    fn read(
        &self,
        id: &BlobId,
        out: &mut Vec<u8>,
        act: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        match self.fault_of(Operation::Get, id.as_str()) {
            None => act(out),
            Some(fault @ (Fault::TruncateRead | Fault::FlipBitInRead)) => {
                act(out)?;
                damage(fault, out);
                Ok(())
            }
            Some(fault) => with_fault(fault, Operation::Get, id.as_str(), || act(out)),
        }
    }

    /// A put of `bytes`; `store` is how it is done where nothing goes wrong.
    fn write(
        &self,
        id: &BlobId,
        options: &PutOptions,
        bytes: &[u8],
        store: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        match self.fault_of(Operation::Put, id.as_str()) {
            None => store(),
            Some(Fault::TearAndCrash) => {
                self.inner.put(id, &[&bytes[..bytes.len() / 2]], options)?;
                Err(injected(ErrorKind::Storage, Operation::Put, id.as_str()))
            }
            Some(fault) => with_fault(fault, Operation::Put, id.as_str(), store),
        }
    }
}

fn injected(kind: ErrorKind, operation: Operation, blob: &str) -> Error {
    Error::new(kind, format!("injected failure of {} {blob}", operation.name()))
}

fn with_fault<T>(
    fault: Fault,
    operation: Operation,
    blob: &str,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let storage_error = || injected(ErrorKind::Storage, operation, blob);
    match fault {
        Fault::Fail(kind) => Err(injected(kind, operation, blob)),
        Fault::FailTemporarily => Err(storage_error().temporary()),
        Fault::LoseAnswer => act().and_then(|_| Err(storage_error().temporary())),
        Fault::Crash | Fault::TearAndCrash => Err(storage_error()),
        Fault::Delay(delay) => {
            std::thread::sleep(delay);
            act()
        }
        Fault::TruncateRead | Fault::FlipBitInRead => act(),
    }
}

fn damage(fault: Fault, bytes: &mut Vec<u8>) {
    let middle = bytes.len() / 2;
    if fault == Fault::TruncateRead {
        bytes.truncate(middle);
    } else if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}

impl Storage for FaultyStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.read(id, out, |out| self.inner.get(id, out))
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.read(id, out, |out| self.inner.get_range(id, offset, length, out))
    }

    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.call(Operation::Metadata, id.as_str(), || self.inner.metadata(id))
    }

    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.write(id, options, &pieces.concat(), || self.inner.put(id, pieces, options))
    }

    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        let inner = self.inner.create(id, options)?;
        let (storage, id, options) = (self.clone(), id.clone(), options.clone());
        Ok(Box::new(FaultyWriter { inner, storage, id, options, bytes: Vec::new() }))
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.call(Operation::Delete, id.as_str(), || self.inner.delete(id))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        self.call(Operation::List, prefix, || self.inner.list(prefix, each))
    }

    /// A write like a put, as far as faults are concerned.
    fn extend_retention(&self, id: &BlobId, mode: RetentionMode, period: Duration) -> Result<()> {
        self.call(Operation::Put, id.as_str(), || self.inner.extend_retention(id, mode, period))
    }

    fn sync(&self) -> Result<()> {
        self.call(Operation::Sync, "", || self.inner.sync())
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn is_local(&self) -> bool {
        self.inner.is_local()
    }
}

/// Keeps a copy of the pieces, for the case that the blob is to be torn.
struct FaultyWriter {
    inner: Box<dyn BlobWriter>,
    storage: FaultyStorage,
    id: BlobId,
    options: PutOptions,
    bytes: Vec<u8>,
}

impl BlobWriter for FaultyWriter {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        if self.storage.has_crashed() {
            return Err(injected(ErrorKind::Storage, Operation::Put, self.id.as_str()));
        }
        self.bytes.extend_from_slice(piece);
        self.inner.write(piece)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { inner, storage, id, options, bytes } = *self;
        storage.write(&id, &options, &bytes, || inner.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kopia_engine::blob::memory::MemoryStorage;

    fn faulty() -> FaultyStorage {
        FaultyStorage::new(Arc::new(MemoryStorage::new()))
    }

    fn put(storage: &FaultyStorage, id: &str) -> Result<()> {
        storage.put(&id.into(), &[b"1234"], &PutOptions::default())
    }

    fn get(storage: &FaultyStorage, id: &str) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        storage.get(&id.into(), &mut out).map(|()| out)
    }

    #[test]
    fn the_nth_put_fails_and_no_other() {
        let storage = faulty();
        storage.at_nth(Operation::Put, 2, Fault::Fail(ErrorKind::NoSpace));
        put(&storage, "p1").unwrap();
        assert_eq!(put(&storage, "p2").unwrap_err().kind, ErrorKind::NoSpace);
        put(&storage, "p3").unwrap();
        assert_eq!(get(&storage, "p2").unwrap_err().kind, ErrorKind::BlobNotFound);
        assert_eq!(storage.call_count(Operation::Put), 3);
    }

    #[test]
    fn after_a_crash_everything_fails_until_revived() {
        let storage = faulty();
        storage.crash_after_writes(2);
        let mut writer = storage.create(&"p0".into(), &PutOptions::default()).unwrap();
        put(&storage, "p1").unwrap();
        storage.delete(&"p9".into()).unwrap();
        get(&storage, "p1").unwrap();
        assert!(put(&storage, "p2").is_err() && storage.has_crashed());
        assert!(get(&storage, "p1").is_err() && storage.sync().is_err());
        assert!(writer.write(b"1").is_err() && writer.finish().is_err());
        storage.revive();
        assert_eq!(get(&storage, "p1").unwrap(), b"1234");
        assert!(get(&storage, "p2").is_err() && get(&storage, "p0").is_err());
    }

    #[test]
    fn a_torn_put_leaves_half_a_blob() {
        for by_writer in [false, true] {
            let storage = faulty();
            storage.when(|call| call.blob.starts_with('p'), Fault::TearAndCrash);
            if by_writer {
                let mut writer = storage.create(&"p1".into(), &PutOptions::default()).unwrap();
                writer.write(b"1234").unwrap();
                writer.finish().unwrap_err();
            } else {
                put(&storage, "p1").unwrap_err();
            }
            storage.revive();
            assert_eq!(get(&storage, "p1").unwrap(), b"12");
        }
    }

    #[test]
    fn reads_are_damaged_as_asked_for() {
        let storage = faulty();
        put(&storage, "p1").unwrap();
        storage.at_nth(Operation::Get, 1, Fault::TruncateRead);
        storage.at_nth(Operation::Get, 2, Fault::FlipBitInRead);
        storage.at_nth(Operation::Get, 3, Fault::FailTemporarily);
        assert_eq!(get(&storage, "p1").unwrap(), b"12");
        assert_eq!(get(&storage, "p1").unwrap(), b"1224");
        assert!(get(&storage, "p1").unwrap_err().temporary);
        assert_eq!(get(&storage, "p1").unwrap(), b"1234");
    }

    #[test]
    fn a_lost_answer_leaves_the_blob() {
        let storage = faulty();
        storage.at_nth(Operation::Put, 1, Fault::LoseAnswer);
        assert!(put(&storage, "p1").unwrap_err().temporary);
        assert_eq!(get(&storage, "p1").unwrap(), b"1234");
    }
}
