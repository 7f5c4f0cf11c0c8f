//! Margins that keep maintenance safe while others write (format document §8.5, §8.6).
//!
//! Numbers and the one decision that rests on the run history alone. The surprise: a content is
//! dropped for good only after *two* garbage collections far enough apart, because the second
//! may bring back what the first wrongly marked.

use super::MaintenanceRun;
use crate::time::Timestamp;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Margins of maintenance. Source: Kopia `repo/maintenance/maintenance_safety.go`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafetyParameters {
    /// Younger contents are not collected.
    pub min_content_age_subject_to_gc: Duration,
    /// Between the end of one garbage collection and the start of one that confirms it.
    pub margin_between_snapshot_gc: Duration,
    /// Whether dropping needs two garbage collections.
    pub require_two_gc_cycles: bool,
    /// Taken off the time before which deleted contents are dropped.
    pub drop_content_from_index_extra_margin: Duration,
    /// Younger contents are not rewritten.
    pub rewrite_min_age: Duration,
    /// Between a rewrite and the deletion of the packs that it made orphans.
    pub min_rewrite_to_orphan_deletion_delay: Duration,
    /// Younger packs are not deleted.
    pub pack_delete_min_age: Duration,
    /// Packs of sessions with a younger checkpoint are not deleted.
    pub session_expiration_age: Duration,
    /// Before the inputs of a legacy index compaction are deleted.
    pub index_settle_time: Duration,
}

impl SafetyParameters {
    /// The default: safe while others write.
    pub const FULL: Self = Self {
        min_content_age_subject_to_gc: HOUR.saturating_mul(24),
        margin_between_snapshot_gc: HOUR.saturating_mul(4),
        require_two_gc_cycles: true,
        drop_content_from_index_extra_margin: HOUR,
        rewrite_min_age: HOUR.saturating_mul(2),
        min_rewrite_to_orphan_deletion_delay: HOUR,
        pack_delete_min_age: HOUR.saturating_mul(24),
        session_expiration_age: HOUR.saturating_mul(96),
        index_settle_time: HOUR,
    };

    /// No margins: only if nobody else uses the repository, and the storage is strongly consistent.
    pub const NONE: Self = Self {
        min_content_age_subject_to_gc: Duration::ZERO,
        margin_between_snapshot_gc: Duration::ZERO,
        require_two_gc_cycles: false,
        drop_content_from_index_extra_margin: Duration::ZERO,
        rewrite_min_age: Duration::ZERO,
        min_rewrite_to_orphan_deletion_delay: Duration::ZERO,
        pack_delete_min_age: Duration::ZERO,
        session_expiration_age: Duration::ZERO,
        index_settle_time: Duration::ZERO,
    };
}

/// The time before which deleted contents may be dropped from the indexes; `None` if nothing may
/// be dropped yet (format document §8.6, step 2).
///
/// `gc_runs` are the runs of `snapshot-gc`, in any order. A run counts as confirmed by the newest
/// successful one if that started more than the margin after it ended; everything deleted
/// before the confirmed run (less an extra margin) is safe to drop.
pub fn drop_deleted_before(
    gc_runs: &[MaintenanceRun],
    safety: &SafetyParameters,
    now: Timestamp,
) -> Option<Timestamp> {
    if !safety.require_two_gc_cycles {
        return Some(now);
    }
    let mut successful: Vec<_> = gc_runs.iter().filter(|run| run.success).collect();
    successful.sort_by_key(|run| std::cmp::Reverse(run.start));
    let (newest, older) = successful.split_first()?;
    let is_confirmed =
        |run: &&&MaintenanceRun| newest.start > shifted(run.end, safety.margin_between_snapshot_gc, 1);
    let confirmed = older.iter().find(is_confirmed)?;
    Some(shifted(confirmed.start, safety.drop_content_from_index_extra_margin, -1))
}

/// `time` plus (`sign` 1) or minus (`sign` −1) `duration`; it stops at the ends of what a `Timestamp` can say.
fn shifted(time: Timestamp, duration: Duration, sign: i128) -> Timestamp {
    const SECOND: i128 = 1_000_000_000;
    let nanoseconds = i128::from(time.seconds) * SECOND + i128::from(time.nanoseconds);
    // A `Duration` has at most 2^64 seconds, so its nanoseconds are far inside of an i128.
    let sum = nanoseconds + sign * duration.as_nanos() as i128;
    let seconds = sum.div_euclid(SECOND).clamp(i64::MIN.into(), i64::MAX.into());
    Timestamp { seconds: seconds as i64, nanoseconds: sum.rem_euclid(SECOND) as u32 }
}
