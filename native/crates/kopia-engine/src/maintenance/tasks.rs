//! The tasks of maintenance, one a file. Each gets the cycle and gives what it found and did;
//! whether it is due was decided before.

pub(super) mod compact_index;
pub(super) mod delete_blobs;
pub(super) mod drop_deleted;
pub(super) mod epochs;
pub(super) mod extend_retention;
pub(super) mod logs;
mod marking;
pub(super) mod rewrite_contents;
pub(super) mod snapshot_gc;

use super::cycle::Cycle;
use crate::error::Result;
use kopia_format::Timestamp;

/// Indexes are read again after this long within a task: what others did meanwhile must be seen
/// well within the hour that a rewritten pack still lives.
const REFRESH_SECONDS: i64 = 5 * 60;

/// Keeps the indexes fresh during a long task.
struct Freshness {
    refreshed: Timestamp,
}

impl Freshness {
    /// Reads the indexes now.
    fn new(cycle: &Cycle<'_>) -> Result<Self> {
        cycle.repository.contents().refresh()?;
        Ok(Self { refreshed: cycle.now() })
    }

    /// Reads them again if that was long ago; whether it did.
    fn keep(&mut self, cycle: &Cycle<'_>) -> Result<bool> {
        cycle.cancel.check()?;
        let due = cycle.now().seconds - self.refreshed.seconds >= REFRESH_SECONDS;
        if due {
            *self = Self::new(cycle)?;
        }
        Ok(due)
    }
}
