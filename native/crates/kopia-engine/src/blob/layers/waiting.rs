//! Monotonic time and waiting, for the layers that wait; tests put their own time in its place.

use crate::cancel::CancelToken;
use crate::error::Result;
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Longest sleep before a cancellation is looked for.
const SLICE_MAX: Duration = Duration::from_millis(50);

/// A clock that only goes forward, and sleep on it.
pub trait MonotonicClock: Send + Sync + Debug {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
    /// Returns when `duration` has passed.
    fn sleep(&self, duration: Duration);
}

/// The system's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemMonotonicClock(Instant);

impl Default for SystemMonotonicClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl MonotonicClock for SystemMonotonicClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// Sleeps for `duration`, but no longer than a moment after `cancel` was set.
///
/// # Errors
/// `Canceled`.
pub fn sleep_unless_canceled(
    clock: &dyn MonotonicClock,
    duration: Duration,
    cancel: &CancelToken,
) -> Result<()> {
    let mut left = duration;
    cancel.check()?;
    while !left.is_zero() {
        let slice = left.min(SLICE_MAX);
        clock.sleep(slice);
        cancel.check()?;
        left -= slice;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use parking_lot::Mutex;

    /// Time that passes only by sleeping on it.
    #[derive(Debug, Default)]
    pub(crate) struct FakeClock(pub(crate) Mutex<Duration>);

    impl MonotonicClock for FakeClock {
        fn now(&self) -> Duration {
            *self.0.lock()
        }
        fn sleep(&self, duration: Duration) {
            *self.0.lock() += duration;
        }
    }
}
