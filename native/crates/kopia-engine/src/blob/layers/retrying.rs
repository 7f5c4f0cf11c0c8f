//! Tries again what failed for a temporary reason.
//!
//! Knows nothing of what an error means: `temporary` alone decides. What it cannot repeat: pieces
//! already streamed to a local file, and a listing of which the caller has seen a part; those
//! errors come back at once.
//!
//! Source of the defaults: Kopia `repo/blob/retrying/retrying_storage.go`, `internal/retry`.

use super::pass_through;
use super::waiting::{MonotonicClock, SystemMonotonicClock, sleep_unless_canceled};
use crate::blob::collecting::CollectingWriter;
use crate::blob::storage::{BlobMetadata, BlobWriter, BucketProtection, PutOptions, RetentionMode, Storage};
use crate::cancel::CancelToken;
use crate::error::Result;
use bytes::Bytes;
use kopia_format::BlobId;
use std::sync::Arc;
use std::time::Duration;

/// How often and how long to try: exponential back-off with jitter and bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least one is made.
    pub attempt_count_max: u32,
    /// Wait before the second attempt.
    pub delay_first: Duration,
    /// Growth of the wait from attempt to attempt.
    pub delay_factor: f64,
    /// Longest wait.
    pub delay_max: Duration,
    /// Part of each wait that is random, 0 to 1: clients that failed together come back apart.
    pub jitter: f64,
    /// No attempt is started later than this after the first.
    pub elapsed_max: Duration,
}

impl Default for RetryPolicy {
    /// Kopia's: ten attempts, 100 ms × 1.5ⁿ up to 32 s; jitter is ours.
    fn default() -> Self {
        Self {
            attempt_count_max: 10,
            delay_first: Duration::from_millis(100),
            delay_factor: 1.5,
            delay_max: Duration::from_secs(32),
            jitter: 0.2,
            elapsed_max: Duration::from_secs(15 * 60),
        }
    }
}

impl RetryPolicy {
    /// The wait after `failed_count` failures (1 or more). `random` is in 0..1 and takes away up
    /// to the `jitter` part.
    pub fn delay(&self, failed_count: u32, random: f64) -> Duration {
        let exponent = i32::try_from(failed_count.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.delay_first.as_secs_f64() * self.delay_factor.powi(exponent);
        let bounded = seconds.min(self.delay_max.as_secs_f64());
        let part = 1.0 - self.jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(bounded * part).unwrap_or(self.delay_max)
    }

    /// The wait before the next attempt; `None` to give up.
    fn next_delay(&self, failed_count: u32, elapsed: Duration, random: f64) -> Option<Duration> {
        let delay = self.delay(failed_count, random);
        let again = failed_count < self.attempt_count_max && elapsed + delay <= self.elapsed_max;
        again.then_some(delay)
    }
}

/// A storage whose temporary failures are tried again.
#[derive(Debug, Clone)]
pub struct RetryingStorage {
    inner: Arc<dyn Storage>,
    policy: RetryPolicy,
    cancel: CancelToken,
    clock: Arc<dyn MonotonicClock>,
}

impl RetryingStorage {
    /// Wraps `inner`; waiting ends with `Canceled` once `cancel` is set.
    pub fn new(inner: Arc<dyn Storage>, policy: RetryPolicy, cancel: CancelToken) -> Self {
        Self { inner, policy, cancel, clock: Arc::new(SystemMonotonicClock::default()) }
    }

    fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let started = self.clock.now();
        let mut failed_count = 0;
        loop {
            self.cancel.check()?;
            let error = match attempt() {
                Err(error) if error.temporary => error,
                result => return result,
            };
            failed_count += 1;
            let elapsed = self.clock.now().saturating_sub(started);
            let Some(delay) = self.policy.next_delay(failed_count, elapsed, random()) else {
                return Err(error.with("attempts", failed_count));
            };
            tracing::warn!(%error, failed_count, delay_seconds = delay.as_secs_f64(), "blob request retried");
            sleep_unless_canceled(&*self.clock, delay, &self.cancel)?;
        }
    }
}

/// In 0..1; without random bytes there is no jitter, which only costs politeness.
fn random() -> f64 {
    getrandom::u32().map_or(0.0, |bits| f64::from(bits) / f64::from(u32::MAX))
}

impl Storage for RetryingStorage {
    pass_through!(describe, is_local);

    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.retry(|| self.inner.get(id, out))
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.retry(|| self.inner.get_range(id, offset, length, out))
    }

    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.retry(|| self.inner.metadata(id))
    }

    /// With `do_not_replace`, a repeated put may find the blob of its own first attempt.
    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.retry(|| self.inner.put(id, pieces, options))
    }

    fn put_shared(&self, id: &BlobId, pieces: &[Bytes], options: &PutOptions) -> Result<()> {
        self.retry(|| self.inner.put_shared(id, pieces, options))
    }

    /// Where nothing is streamed, the pieces are kept here, so that the put can be repeated.
    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        if self.inner.is_local() {
            return self.retry(|| self.inner.create(id, options));
        }
        Ok(Box::new(CollectingWriter::new(self.clone(), id, options)))
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.retry(|| self.inner.delete(id))
    }

    fn extend_retention(&self, id: &BlobId, mode: RetentionMode, period: std::time::Duration) -> Result<()> {
        self.retry(|| self.inner.extend_retention(id, mode, period))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        let mut seen = false;
        let mut final_result = Ok(());
        self.retry(|| {
            let result = self.inner.list(prefix, &mut |blob| {
                seen = true;
                each(blob)
            });
            if !seen {
                return result;
            }
            final_result = result;
            Ok(())
        })?;
        final_result
    }

    fn protection(&self) -> Result<Option<BucketProtection>> {
        self.retry(|| self.inner.protection())
    }

    fn sync(&self) -> Result<()> {
        self.retry(|| self.inner.sync())
    }
}

#[cfg(test)]
mod tests;
