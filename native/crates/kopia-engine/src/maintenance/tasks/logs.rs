//! Diagnostic logs (`_` blobs): the newest are kept by size, number and age (format document §8.9).

use super::super::cycle::{Cycle, Finished};
use super::super::report::{CountAndBytes, TaskDetails};
use crate::blob::BlobMetadata;
use crate::error::Result;
use kopia_format::Timestamp;
use kopia_format::maintenance::{LogRetention, MaintenanceParameters};

pub(in crate::maintenance) fn clean_up(cycle: &Cycle<'_>) -> Result<Finished> {
    let mut logs = Vec::new();
    cycle.repository.storage().list("_", &mut |blob| {
        logs.push(blob);
        Ok(())
    })?;
    let (kept, excess) = split(&mut logs, retention(&cycle.parameters), cycle.now());
    let (mut retained, mut to_delete) = (CountAndBytes::default(), CountAndBytes::default());
    kept.iter().for_each(|log| retained.add(log.length));
    excess.iter().for_each(|log| to_delete.add(log.length));
    let mut deleted = CountAndBytes::default();
    for log in excess.iter().filter(|_| !cycle.dry_run) {
        if cycle.delete(&log.id)? {
            deleted.add(log.length);
        }
    }
    Ok(Finished::Done(TaskDetails::Logs { retained, to_delete, deleted }))
}

/// Without any bound the defaults count, as in Kopia.
fn retention(parameters: &MaintenanceParameters) -> LogRetention {
    if parameters.log_retention == LogRetention::default() {
        return MaintenanceParameters::default().log_retention;
    }
    parameters.log_retention
}

/// Sorts `logs` newest first and cuts them before the first that breaks a bound (0 is no bound).
fn split(
    logs: &mut [BlobMetadata],
    bounds: LogRetention,
    now: Timestamp,
) -> (&[BlobMetadata], &[BlobMetadata]) {
    logs.sort_by_key(|log| std::cmp::Reverse(log.timestamp));
    let mut size = 0i128;
    let breaks = |count: usize, log: &BlobMetadata| {
        size += i128::from(log.length);
        let age = now.nanoseconds_since(log.timestamp);
        (bounds.max_total_size_bytes > 0 && size > bounds.max_total_size_bytes.into())
            || (bounds.max_count > 0 && count as u64 >= bounds.max_count.unsigned_abs())
            || (bounds.max_age_nanoseconds != 0 && age > bounds.max_age_nanoseconds.into())
    };
    let mut breaks = breaks;
    let cut = logs.iter().enumerate().position(|(count, log)| breaks(count, log)).unwrap_or(logs.len());
    logs.split_at(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(max_total_size_bytes: i64, max_count: i64, max_age_nanoseconds: i64) -> Vec<i64> {
        let log = |seconds: i64| BlobMetadata {
            id: format!("_log_{seconds}").as_str().into(),
            length: 100,
            timestamp: Timestamp::from_unix_seconds(seconds),
        };
        let mut logs = [log(3), log(9), log(6)];
        let bounds = LogRetention { max_total_size_bytes, max_count, max_age_nanoseconds };
        let (kept, _) = split(&mut logs, bounds, Timestamp::from_unix_seconds(10));
        kept.iter().map(|log| log.timestamp.seconds).collect()
    }

    #[test]
    fn the_first_bound_that_breaks_cuts_the_rest() {
        assert_eq!(kept(0, 0, 0), [9, 6, 3]);
        assert_eq!(kept(299, 0, 0), [9, 6]);
        assert_eq!(kept(0, 1, 0), [9]);
        assert_eq!(kept(0, 0, 4_000_000_000), [9, 6]);
        assert_eq!(kept(99, 3, 1 << 60), [] as [i64; 0]);
    }
}
