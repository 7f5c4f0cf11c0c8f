//! Files that may have changed within the same tick of the clock in which they were looked at.
//!
//! Times of files move in ticks of some milliseconds. A file that is written, read by a backup, and written again
//! within one tick keeps its size and its time: nothing tells the two apart. So what a parent read is believed only
//! if the file was older than the parent's backup, which looks at nothing in its first tick; what was modified while
//! it ran is read once more. Git does the same with its index ("racily clean").

use crate::clock::{Clock, SystemClock};
use kopia_format::Timestamp;
use kopia_format::snapshot::SnapshotManifest;
use rustix::time::{ClockId, clock_getres, clock_gettime};
use std::time::{Duration, Instant};

/// What file systems without fractions of a second (their times end in zeros) round to: FAT to two seconds.
const COARSE_NANOSECONDS: i128 = 2_000_000_000;
/// No kernel ticks slower.
const TICK_MAX: Duration = Duration::from_millis(10);
/// A clock that does not go on (it was set back) is not waited for.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Times at which files may have been looked at.
#[derive(Debug, Clone)]
pub(super) struct Racy {
    /// When this upload began.
    started: Timestamp,
    /// Begin and end of the parents' uploads.
    parents: Vec<(Timestamp, Timestamp)>,
}

impl Racy {
    /// An upload that begins now, with these parents. (What a parent's recorded start was moved to by hand says nothing.)
    pub(super) fn begin(parents: &[SnapshotManifest]) -> Self {
        let parents = parents.iter().map(|parent| (parent.start_time, parent.end_time)).collect();
        let started = SystemClock.now();
        await_tick_after(started);
        Self { started, parents }
    }
    /// Whether a file of this time may differ from what a parent read, though size and time are equal.
    pub(super) fn concerns_parents(&self, modified: Timestamp) -> bool {
        self.parents.iter().any(|(start, end)| is_since(modified, *start) && modified <= *end)
    }
    /// Whether a file of this time may change again without a sign after this upload has read it.
    pub(super) fn concerns_now(&self, changed: Timestamp) -> bool {
        is_since(changed, self.started)
    }
}

/// Whether a recorded time may stand for a moment at or after `start`.
fn is_since(time: Timestamp, start: Timestamp) -> bool {
    let rounded = if time.nanoseconds == 0 { COARSE_NANOSECONDS } else { 0 };
    time.nanoseconds_since(start) + rounded >= 0
}

/// Waits until whatever is written from here on has a time of `started` or later. The clock of file times moves in
/// ticks, and a virtual machine that is not run misses some: that clock is looked at, not only its tick slept.
fn await_tick_after(started: Timestamp) {
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        std::thread::sleep(tick());
        let coarse = clock_gettime(ClockId::RealtimeCoarse);
        let nanoseconds = u32::try_from(coarse.tv_nsec).unwrap_or_default();
        if (Timestamp { seconds: coarse.tv_sec, nanoseconds }).nanoseconds_since(started) >= 0 {
            return;
        }
    }
}

/// The tick in which times of files move.
fn tick() -> Duration {
    let tick = clock_getres(ClockId::RealtimeCoarse);
    Duration::from_nanos(tick.tv_nsec.unsigned_abs()).min(TICK_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp { seconds, nanoseconds }
    }

    #[test]
    fn what_was_modified_while_a_parent_ran_is_not_believed() {
        let racy =
            Racy { started: at(200, 5), parents: vec![(at(100, 5), at(110, 0)), (at(120, 0), at(121, 0))] };
        for (seconds, nanoseconds, expected) in [
            (100, 4, false),
            (100, 5, true),
            (109, 7, true),
            (110, 1, false),
            (120, 1, true),
            (300, 1, false),
        ] {
            assert_eq!(racy.concerns_parents(at(seconds, nanoseconds)), expected, "{seconds}.{nanoseconds}");
        }
        // Whole seconds: the write may have been up to two seconds later.
        assert!(racy.concerns_parents(at(99, 0)) && !racy.concerns_parents(at(97, 0)));
        assert!(racy.concerns_now(at(200, 5)) && !racy.concerns_now(at(200, 4)));
    }
}
