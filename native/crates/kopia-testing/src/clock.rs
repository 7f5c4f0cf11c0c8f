//! A wall clock that is set by hand.

use kopia_engine::clock::Clock;
use kopia_format::Timestamp;
use parking_lot::Mutex;
use std::sync::Arc;

/// Stands still until it is moved; clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock at `seconds` after 1970.
    pub fn at(seconds: i64) -> Self {
        let clock = Self::default();
        clock.set(Timestamp { seconds, nanoseconds: 0 });
        clock
    }
    /// Shows `time` from now on.
    pub fn set(&self, time: Timestamp) {
        *self.0.lock() = time;
    }
    /// Moves by `seconds`, which may be negative.
    pub fn advance(&self, seconds: i64) {
        self.0.lock().seconds += seconds;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}
