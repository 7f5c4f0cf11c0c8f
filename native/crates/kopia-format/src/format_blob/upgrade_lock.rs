//! The upgrade lock of a repository (format document §2.6): when it holds, by arithmetic alone.
//!
//! Who waits and who refuses is decided in the engine. The surprise: without enough advance
//! notice the lock holds at once, even before the time it was created at.

use crate::go_json::{is_default, time_text};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The upgrade lock (format document §2.6); durations in nanoseconds.
///
/// Source: Kopia `repo/format/upgrade_lock_intent.go`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct UpgradeLock {
    #[serde(rename = "ownerID", skip_serializing_if = "is_default")]
    pub owner_id: String,
    #[serde(with = "time_text")]
    pub creation_time: Timestamp,
    #[serde(skip_serializing_if = "is_default")]
    pub advance_notice_duration: i64,
    #[serde(rename = "ioDrainTimeout", skip_serializing_if = "is_default")]
    pub io_drain_timeout: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub status_poll_interval: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
    #[serde(skip_serializing_if = "is_default")]
    pub max_permitted_clock_drift: i64,
}

impl UpgradeLock {
    /// Nanoseconds until every other client has noticed the lock.
    fn drain_nanoseconds(&self) -> i128 {
        i128::from(self.max_permitted_clock_drift) + 2 * i128::from(self.io_drain_timeout)
    }

    fn creation_nanoseconds(&self) -> i128 {
        unix_nanoseconds(self.creation_time)
    }

    /// Whether clients other than the owner must refuse all storage operations at `now`.
    pub fn is_locked(&self, now: Timestamp) -> bool {
        let notice = i128::from(self.advance_notice_duration);
        let drain = self.drain_nanoseconds();
        notice < drain || unix_nanoseconds(now) >= self.creation_nanoseconds() + notice - drain
    }

    /// Whether at `now` every other client is sure to have stopped, so that the upgrade may begin.
    pub fn writers_drained(&self, now: Timestamp) -> bool {
        let wait = i128::from(self.advance_notice_duration).max(self.drain_nanoseconds());
        unix_nanoseconds(now) >= self.creation_nanoseconds() + wait
    }
}

/// Wide enough for any `Timestamp`.
fn unix_nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}
