//! A clock in whose ticks something happens: what changes a source at a given point of a backup.

use kopia_engine::clock::{Clock, SystemClock};
use kopia_format::Timestamp;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

type Event = Box<dyn FnOnce() + Send>;

/// The system's clock, asked once for every content that is stored; before the chosen answer the event happens.
#[derive(Clone, Default)]
pub struct TickingClock {
    planned: Arc<Mutex<Option<(u64, Event)>>>,
}

impl fmt::Debug for TickingClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TickingClock")
    }
}

impl TickingClock {
    /// Lets `event` happen before the answer after the next `ticks`.
    pub fn plan(&self, ticks: u64, event: impl FnOnce() + Send + 'static) {
        *self.planned.lock() = Some((ticks, Box::new(event)));
    }

    /// Whether the event has happened.
    pub fn has_happened(&self) -> bool {
        self.planned.lock().is_none()
    }
}

impl Clock for TickingClock {
    fn now(&self) -> Timestamp {
        let mut planned = self.planned.lock();
        let due = match &mut *planned {
            Some((0, _)) => planned.take(),
            Some((ticks, _)) => {
                *ticks -= 1;
                None
            }
            None => None,
        };
        drop(planned);
        if let Some((_, event)) = due {
            event();
        }
        SystemClock.now()
    }
}
