//! Kills this process at the n-th storage write: for crash tests only.
//!
//! A real SIGKILL, so that no destructor, buffer or handler helps. The layer exists only where a
//! connection was given a [`KillPoint`]; nothing else pays for it.

use super::pass_through;
use crate::blob::storage::{BlobMetadata, BlobWriter, PutOptions, RetentionMode, Storage};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use kopia_format::BlobId;
use rustix::process::{Signal, getpid, kill_process};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// On which side of the write the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillMoment {
    /// The write is not made. A blob that was written in pieces has all of them in its temporary file.
    Before,
    /// The write is made; its caller never hears of it.
    After,
}

/// The write (put, finish of a writer, or delete; the first is 1) at which the process ends.
///
/// Its text form, for a hidden option, is `before:N` or `after:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillPoint {
    /// Before or after it.
    pub moment: KillMoment,
    /// Which write, counted from 1.
    pub write_number: u64,
}

impl FromStr for KillPoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let message = format!("kill point {text:?} is neither before:N nor after:N");
            Error::new(ErrorKind::InvalidArgument, message)
        };
        let (moment, number) = text.split_once(':').ok_or_else(refused)?;
        let moment = match moment {
            "before" => KillMoment::Before,
            "after" => KillMoment::After,
            _ => return Err(refused()),
        };
        let write_number = number.parse().ok().filter(|number| *number > 0).ok_or_else(refused)?;
        Ok(Self { moment, write_number })
    }
}

/// A storage at whose n-th write the process dies.
#[derive(Debug)]
pub struct KillPointStorage {
    inner: Arc<dyn Storage>,
    counter: Arc<Counter>,
}

#[derive(Debug)]
struct Counter {
    point: KillPoint,
    write_count: AtomicU64,
}

impl Counter {
    fn around<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        let number = self.write_count.fetch_add(1, Ordering::SeqCst) + 1;
        let here = number == self.point.write_number;
        if here && self.point.moment == KillMoment::Before {
            die();
        }
        let result = write();
        if here {
            die();
        }
        result
    }
}

fn die() {
    // Nobody is left to be told if this fails, and a crash test would see that it lives on.
    let _ = kill_process(getpid(), Signal::KILL);
}

impl KillPointStorage {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Storage>, point: KillPoint) -> Self {
        Self { inner, counter: Arc::new(Counter { point, write_count: AtomicU64::new(0) }) }
    }
}

impl Storage for KillPointStorage {
    pass_through!(get, get_range, metadata, list, sync, describe, is_local, protection);

    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.counter.around(|| self.inner.put(id, pieces, options))
    }

    fn put_shared(&self, id: &BlobId, pieces: &[Bytes], options: &PutOptions) -> Result<()> {
        self.counter.around(|| self.inner.put_shared(id, pieces, options))
    }

    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        let inner = self.inner.create(id, options)?;
        Ok(Box::new(KillPointWriter { inner, counter: Arc::clone(&self.counter) }))
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.counter.around(|| self.inner.delete(id))
    }

    fn extend_retention(&self, id: &BlobId, mode: RetentionMode, period: std::time::Duration) -> Result<()> {
        self.counter.around(|| self.inner.extend_retention(id, mode, period))
    }
}

struct KillPointWriter {
    inner: Box<dyn BlobWriter>,
    counter: Arc<Counter>,
}

impl BlobWriter for KillPointWriter {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.inner.write(piece)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let inner = self.inner;
        self.counter.around(|| inner.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_read_and_anything_else_refused() {
        let point: KillPoint = "before:3".parse().expect("valid");
        assert_eq!(point, KillPoint { moment: KillMoment::Before, write_number: 3 });
        let point: KillPoint = "after:1".parse().expect("valid");
        assert_eq!(point, KillPoint { moment: KillMoment::After, write_number: 1 });
        for text in ["", "3", "before", "before:", "before:0", "after:-1", "during:1"] {
            assert!(text.parse::<KillPoint>().is_err(), "{text:?}");
        }
    }
}
