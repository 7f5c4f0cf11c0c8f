//! Bounds bytes and requests per second, evenly.
//!
//! Over any two seconds no more than 110 % of a limit passes: what is large passes in slices. An
//! object store cannot slice a request: its provider paces the bodies with the same [`Throttle`], and only
//! requests are counted here. Limits can be changed while requests wait.

use super::pass_through;
use super::waiting::{MonotonicClock, SystemMonotonicClock, sleep_unless_canceled};
use crate::blob::storage::{BlobMetadata, BlobWriter, PutOptions, RetentionMode, Storage};
use crate::cancel::CancelToken;
use crate::error::Result;
use bytes::Bytes;
use kopia_format::BlobId;
use parking_lot::Mutex;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// What may pass at once after a pause, and the length of a slice, in seconds of the limit:
/// together 5 % of two seconds.
const BURST_SECONDS: f64 = 0.05;
const SLICE_SECONDS: f64 = 0.05;
/// Below 80 KiB/s this, not the limit, is the length of a slice.
const SLICE_BYTES_MIN: u64 = 4 << 10;
const SLICE_BYTES_MAX: u64 = 8 << 20;
/// A waiting request looks this often whether the limits have changed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Limits; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Bytes put.
    pub upload_bytes_per_second: Option<NonZeroU64>,
    /// Bytes got.
    pub download_bytes_per_second: Option<NonZeroU64>,
    /// Requests of any kind.
    pub requests_per_second: Option<NonZeroU64>,
}

/// What has passed and not yet drained away at the rate of the limit.
#[derive(Debug, Default)]
struct Bucket {
    debt: f64,
    updated: Duration,
}

impl Bucket {
    /// Takes `amount`, or says how long to wait before asking again.
    fn take(&mut self, amount: u64, per_second: NonZeroU64, now: Duration) -> Option<Duration> {
        let rate = per_second.get() as f64;
        let passed = now.saturating_sub(self.updated).as_secs_f64();
        self.updated = self.updated.max(now);
        self.debt = (self.debt - passed * rate).max(0.0);
        let excess = self.debt - rate * BURST_SECONDS;
        if excess <= 0.0 {
            self.debt += amount as f64;
            return None;
        }
        // Rounded up to a nanosecond at least, or a fake clock would never arrive.
        Some(Duration::try_from_secs_f64(excess / rate).unwrap_or(WAIT_MAX) + Duration::from_nanos(1))
    }
}

#[derive(Debug, Default)]
struct State {
    limits: ThrottleLimits,
    upload: Bucket,
    download: Bucket,
    requests: Bucket,
}

impl State {
    fn of(&mut self, flow: Flow) -> (&mut Bucket, Option<NonZeroU64>) {
        match flow {
            Flow::Upload => (&mut self.upload, self.limits.upload_bytes_per_second),
            Flow::Download => (&mut self.download, self.limits.download_bytes_per_second),
            Flow::Requests => (&mut self.requests, self.limits.requests_per_second),
        }
    }
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Bytes put.
    Upload,
    /// Bytes got.
    Download,
    /// Requests.
    Requests,
}

/// Lets bytes and requests pass no faster than the limits; shared by all that use one storage.
#[derive(Debug)]
pub struct Throttle {
    state: Mutex<State>,
    clock: Arc<dyn MonotonicClock>,
    cancel: CancelToken,
}

impl Throttle {
    /// A throttle on the system's clock; waiting ends with `Canceled` once `cancel` is set.
    pub fn new(limits: ThrottleLimits, cancel: CancelToken) -> Self {
        Self::with_clock(limits, cancel, Arc::new(SystemMonotonicClock::default()))
    }

    /// A throttle on another clock.
    pub fn with_clock(limits: ThrottleLimits, cancel: CancelToken, clock: Arc<dyn MonotonicClock>) -> Self {
        Self { state: Mutex::new(State { limits, ..State::default() }), clock, cancel }
    }

    /// Changes the limits, also for what waits at this moment.
    pub fn set_limits(&self, limits: ThrottleLimits) {
        self.state.lock().limits = limits;
    }

    /// Waits until `amount` may pass. More than a slice passes at once, but is waited for after it.
    ///
    /// # Errors
    /// `Canceled`.
    pub fn pass(&self, flow: Flow, amount: u64) -> Result<()> {
        while let Some(wait) = self.take(flow, amount) {
            sleep_unless_canceled(&*self.clock, wait, &self.cancel)?;
        }
        Ok(())
    }

    /// Waits until `bytes` have passed, slice by slice.
    ///
    /// # Errors
    /// `Canceled`.
    pub fn pass_in_slices(&self, flow: Flow, bytes: u64) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let slice = left.min(self.slice_bytes(flow).unwrap_or(left));
            self.pass(flow, slice)?;
            left -= slice;
        }
        Ok(())
    }

    /// Whether whoever waits here should give up.
    pub fn is_canceled(&self) -> bool {
        self.cancel.is_canceled()
    }

    /// Lets `amount` pass now, or says how long to wait before asking again.
    pub fn take(&self, flow: Flow, amount: u64) -> Option<Duration> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let (bucket, limit) = state.of(flow);
        bucket.take(amount, limit?, now).map(|wait| wait.min(WAIT_MAX))
    }

    /// How much should pass at once; `None` without a limit.
    pub fn slice_bytes(&self, flow: Flow) -> Option<u64> {
        let limit = self.state.lock().of(flow).1?.get();
        Some(((limit as f64 * SLICE_SECONDS) as u64).clamp(SLICE_BYTES_MIN, SLICE_BYTES_MAX))
    }
}

/// A storage behind a throttle.
#[derive(Debug)]
pub struct ThrottlingStorage {
    inner: Arc<dyn Storage>,
    throttle: Arc<Throttle>,
    /// The provider does not pace its bodies.
    counts_bytes: bool,
}

impl ThrottlingStorage {
    /// Wraps `inner`, whose bytes are let pass here.
    pub fn new(inner: Arc<dyn Storage>, throttle: Arc<Throttle>) -> Self {
        Self { inner, throttle, counts_bytes: true }
    }

    /// Wraps `inner`, which has the same throttle and paces its bodies itself.
    pub fn of_requests(inner: Arc<dyn Storage>, throttle: Arc<Throttle>) -> Self {
        Self { inner, throttle, counts_bytes: false }
    }

    fn pass_request(&self) -> Result<()> {
        self.throttle.pass(Flow::Requests, 1)
    }

    /// Reads a range slice by slice. One request, as a caller counts them.
    fn get_in_slices(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        let (mut read, mut slice) = (Vec::new(), Vec::new());
        while (read.len() as u64) < length {
            let done = read.len() as u64;
            let wanted = (length - done).min(self.throttle.slice_bytes(Flow::Download).unwrap_or(length));
            self.throttle.pass(Flow::Download, wanted)?;
            self.inner.get_range(id, offset + done, wanted, &mut slice)?;
            read.extend_from_slice(&slice);
        }
        *out = read;
        Ok(())
    }

    fn put_in_slices(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        let inner = self.inner.create(id, options)?;
        let mut writer = ThrottledWriter { inner, throttle: Arc::clone(&self.throttle) };
        pieces.iter().try_for_each(|piece| writer.write(piece))?;
        writer.inner.finish()
    }

    /// Whether `length` bytes have to pass in more than one slice, and can.
    fn in_slices(&self, flow: Flow, length: u64) -> bool {
        self.inner.is_local() && self.throttle.slice_bytes(flow).is_some_and(|slice| length > slice)
    }
}

impl Storage for ThrottlingStorage {
    pass_through!(describe, is_local, protection);

    /// Blobs that are replaced in place are read at once, lest two versions be mixed.
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.pass_request()?;
        if !self.counts_bytes {
            return self.inner.get(id, out);
        }
        if self.throttle.slice_bytes(Flow::Download).is_some() && !id.as_str().starts_with("kopia.") {
            let length = self.inner.metadata(id)?.length;
            if self.in_slices(Flow::Download, length) {
                return self.get_in_slices(id, 0, length, out);
            }
        }
        self.inner.get(id, out)?;
        self.throttle.pass_in_slices(Flow::Download, out.len() as u64)
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.pass_request()?;
        if !self.counts_bytes {
            return self.inner.get_range(id, offset, length, out);
        }
        if self.in_slices(Flow::Download, length) && offset.checked_add(length).is_some() {
            return self.get_in_slices(id, offset, length, out);
        }
        // One slice before, the rest after: a length out of a damaged index must fail, not wait
        // for years.
        let before = length.min(self.throttle.slice_bytes(Flow::Download).unwrap_or(0));
        self.throttle.pass(Flow::Download, before)?;
        self.inner.get_range(id, offset, length, out)?;
        self.throttle.pass_in_slices(Flow::Download, length - before)
    }

    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.pass_request()?;
        self.inner.metadata(id)
    }

    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.pass_request()?;
        if !self.counts_bytes {
            return self.inner.put(id, pieces, options);
        }
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        if self.in_slices(Flow::Upload, length) {
            return self.put_in_slices(id, pieces, options);
        }
        self.throttle.pass_in_slices(Flow::Upload, length)?;
        self.inner.put(id, pieces, options)
    }

    fn put_shared(&self, id: &BlobId, pieces: &[Bytes], options: &PutOptions) -> Result<()> {
        if self.counts_bytes {
            let slices: Vec<&[u8]> = pieces.iter().map(Bytes::as_ref).collect();
            return self.put(id, &slices, options);
        }
        self.pass_request()?;
        self.inner.put_shared(id, pieces, options)
    }

    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        self.pass_request()?;
        let inner = self.inner.create(id, options)?;
        if !self.counts_bytes {
            return Ok(inner);
        }
        Ok(Box::new(ThrottledWriter { inner, throttle: Arc::clone(&self.throttle) }))
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.pass_request()?;
        self.inner.delete(id)
    }

    fn extend_retention(&self, id: &BlobId, mode: RetentionMode, period: std::time::Duration) -> Result<()> {
        self.pass_request()?;
        self.inner.extend_retention(id, mode, period)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        self.pass_request()?;
        self.inner.list(prefix, each)
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }
}

struct ThrottledWriter {
    inner: Box<dyn BlobWriter>,
    throttle: Arc<Throttle>,
}

impl BlobWriter for ThrottledWriter {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        let mut rest = piece;
        while !rest.is_empty() {
            let slice = self.throttle.slice_bytes(Flow::Upload).unwrap_or(u64::MAX);
            let length = usize::try_from(slice).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(length);
            self.throttle.pass(Flow::Upload, now.len() as u64)?;
            self.inner.write(now)?;
            rest = later;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.inner.finish()
    }
}

#[cfg(test)]
mod tests;
