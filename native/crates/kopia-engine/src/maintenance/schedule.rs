//! The schedule blob in the storage, and what its run history allows (format document §8.2, §8.6).
//!
//! The blob is read, changed and written without a lock. So it is read again right before each
//! write, and only the one run is added: two maintainers seldom lose each other's runs. A lost
//! run delays something; no decision here becomes unsafe by it.

use crate::content::context::fill_random;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use kopia_format::maintenance::{
    MaintenanceRun, MaintenanceSchedule, MaintenanceTask, NEVER, SCHEDULE_BLOB, SafetyParameters,
};
use kopia_format::{BlobId, Timestamp};

/// Reads the schedule; an absent blob is an empty one.
///
/// # Errors
/// `Corrupted` if the seal does not match; the storage's.
pub(crate) fn load(repository: &Repository) -> Result<MaintenanceSchedule> {
    let mut sealed = Vec::new();
    match repository.storage().get(&BlobId::new(SCHEDULE_BLOB), &mut sealed) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => return Ok(MaintenanceSchedule::default()),
        result => result?,
    }
    let opened = MaintenanceSchedule::open(repository.schedule_key(), &sealed);
    opened.map_err(|error| Error::from(error).with("blob", SCHEDULE_BLOB))
}

/// Reads the schedule, changes it and writes it.
///
/// # Errors
/// As [`load`].
pub(crate) fn update(
    repository: &Repository,
    change: impl FnOnce(&mut MaintenanceSchedule),
) -> Result<MaintenanceSchedule> {
    let mut schedule = load(repository)?;
    change(&mut schedule);
    let mut nonce = [0; 12];
    fill_random(&mut nonce)?;
    let sealed = schedule.seal(repository.schedule_key(), nonce)?;
    repository.contents().context().put(&BlobId::new(SCHEDULE_BLOB), &sealed)?;
    Ok(schedule)
}

/// Records a run; one of the same task with the same start is replaced.
///
/// # Errors
/// As [`load`].
pub(crate) fn record(repository: &Repository, task: MaintenanceTask, run: MaintenanceRun) -> Result<()> {
    update(repository, |schedule| {
        if let Some(runs) = schedule.runs.get_mut(task.name()) {
            runs.retain(|known| known.start != run.start);
        }
        schedule.report_run(task, run);
    })
    .map(|_| ())
}

/// End of the last successful run of any of `tasks`; [`NEVER`] if there is none.
fn last_end(schedule: &MaintenanceSchedule, tasks: &[MaintenanceTask]) -> Timestamp {
    let runs = tasks.iter().flat_map(|task| schedule.runs_of(*task));
    runs.filter(|run| run.success).map(|run| run.end).max().unwrap_or(NEVER)
}

const REWRITES: [MaintenanceTask; 2] =
    [MaintenanceTask::FullRewriteContents, MaintenanceTask::QuickRewriteContents];
const DELETIONS: [MaintenanceTask; 2] = [MaintenanceTask::FullDeleteBlobs, MaintenanceTask::QuickDeleteBlobs];

/// Whether short packs may be rewritten: what the rewrite before made orphans is deleted, so that
/// rewriting never starves deletion. `of` are the rewrites that count.
fn may_rewrite(schedule: &MaintenanceSchedule, safety: &SafetyParameters, of: &[MaintenanceTask]) -> bool {
    let rewritten = last_end(schedule, of);
    rewritten == NEVER
        || safety.min_rewrite_to_orphan_deletion_delay.is_zero()
        || last_end(schedule, &DELETIONS) >= rewritten
}

/// [`may_rewrite`] in the full cycle: a full rewrite may follow a quick one.
pub(crate) fn may_rewrite_full(schedule: &MaintenanceSchedule, safety: &SafetyParameters) -> bool {
    may_rewrite(schedule, safety, &REWRITES[..1])
}

/// [`may_rewrite`] in the quick cycle.
pub(crate) fn may_rewrite_quick(schedule: &MaintenanceSchedule, safety: &SafetyParameters) -> bool {
    may_rewrite(schedule, safety, &REWRITES)
}

/// The time from which orphaned packs may be deleted: clients with an older index may still read
/// packs that were rewritten.
pub(crate) fn deletion_allowed_from(schedule: &MaintenanceSchedule, safety: &SafetyParameters) -> Timestamp {
    match last_end(schedule, &REWRITES) {
        NEVER => NEVER,
        rewritten => {
            let delay = safety.min_rewrite_to_orphan_deletion_delay.as_nanos() as i128;
            rewritten.plus_nanoseconds(delay)
        }
    }
}

/// Whether the last rewrite was a full one, whose orphans only a full deletion finds.
pub(crate) fn last_rewrite_was_full(schedule: &MaintenanceSchedule) -> bool {
    last_end(schedule, &REWRITES[..1]) >= last_end(schedule, &REWRITES[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(runs: &[(MaintenanceTask, i64, bool)]) -> MaintenanceSchedule {
        let mut schedule = MaintenanceSchedule::default();
        for &(task, end, success) in runs {
            let end = Timestamp::from_unix_seconds(end);
            schedule
                .report_run(task, MaintenanceRun { start: end, end, success, ..MaintenanceRun::default() });
        }
        schedule
    }

    #[test]
    fn a_rewrite_waits_for_the_deletion_of_what_the_last_one_left() {
        use MaintenanceTask::{FullDeleteBlobs, FullRewriteContents, QuickDeleteBlobs, QuickRewriteContents};
        let full = &SafetyParameters::FULL;
        assert!(may_rewrite_full(&schedule(&[]), full));
        assert!(may_rewrite_full(&schedule(&[(FullRewriteContents, 100, false)]), full));
        let rewritten = [(FullRewriteContents, 100, true)];
        assert!(!may_rewrite_full(&schedule(&rewritten), full));
        assert!(may_rewrite_full(&schedule(&rewritten), &SafetyParameters::NONE));
        let deleted = [rewritten[0], (QuickDeleteBlobs, 100, true)];
        assert!(may_rewrite_full(&schedule(&deleted), full) && may_rewrite_quick(&schedule(&deleted), full));
        // A quick rewrite holds back the next quick one, not a full one.
        let quick = [(QuickRewriteContents, 200, true), (FullDeleteBlobs, 150, true)];
        assert!(may_rewrite_full(&schedule(&quick), full) && !may_rewrite_quick(&schedule(&quick), full));
    }

    #[test]
    fn deletion_waits_an_hour_after_any_rewrite() {
        use MaintenanceTask::{FullRewriteContents, QuickRewriteContents};
        let history = schedule(&[(FullRewriteContents, 100, true), (QuickRewriteContents, 200, true)]);
        let from = |safety| deletion_allowed_from(&history, safety).seconds;
        assert_eq!(from(&SafetyParameters::FULL), 3800);
        assert_eq!(from(&SafetyParameters::NONE), 200);
        assert_eq!(deletion_allowed_from(&schedule(&[]), &SafetyParameters::FULL), NEVER);
        assert!(!last_rewrite_was_full(&history));
    }
}
