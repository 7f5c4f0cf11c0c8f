//! The only place that reads the wall clock.

use kopia_format::Timestamp;
use std::fmt::Debug;

/// Source of the current time; tests set it by hand.
pub trait Clock: Send + Sync + Debug {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that may")]
    fn now(&self) -> Timestamp {
        let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp { seconds: elapsed.as_secs() as i64, nanoseconds: elapsed.subsec_nanos() }
    }
}
