//! One run of maintenance as its tasks see it: what they work with, what they give back, and how each is recorded
//! in the history and reported. Which tasks run, and in what order, is `run`'s business.

use super::report::{Outcome, TaskDetails, TaskReport};
use super::schedule;
use crate::cancel::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repository::Repository;
use kopia_format::maintenance::{
    MaintenanceParameters, MaintenanceRun, MaintenanceSchedule, MaintenanceTask, SafetyParameters,
};
use kopia_format::{BlobId, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;

/// What a task works with.
pub struct Cycle<'a> {
    pub(super) repository: &'a Repository,
    pub(super) parameters: MaintenanceParameters,
    pub(super) safety: SafetyParameters,
    pub(super) dry_run: bool,
    pub(super) cancel: CancelToken,
    pub(super) progress: Arc<Progress>,
    /// Storage time of the schedule blob: what is younger is not looked at.
    pub(super) start: Timestamp,
    /// Start of the task that runs, by the local clock.
    pub(super) task_started: Timestamp,
    pub(super) tasks: Vec<TaskReport>,
    pub(super) refused: Mutex<Refused>,
}

/// Blobs that a task could not delete.
#[derive(Debug, Default)]
pub(super) struct Refused {
    count: u64,
    /// What the storage says of the first.
    why: Option<String>,
}

/// What a task gives back.
pub(super) enum Finished {
    /// All was done.
    Done(TaskDetails),
    /// There was nothing to do, and why.
    Nothing(String),
    /// A part was done and the rest failed. `counts` says whether later runs may rely on it.
    Partly { details: TaskDetails, error: String, counts: bool },
}

impl Cycle<'_> {
    pub(super) fn now(&self) -> Timestamp {
        self.repository.clock().now()
    }

    /// So many more entries or contents were looked at.
    pub(super) fn looked_at(&self, count: u64) {
        Progress::add(&self.progress.files_done, count);
    }

    /// Deletes a blob that nobody needs; whether it is gone. One that the storage keeps, under a lock or for want of
    /// rights, stays and is told: nothing else depends on it.
    pub(super) fn delete(&self, id: &BlobId) -> Result<bool> {
        match self.repository.storage().delete(id) {
            Err(error) if error.kind == ErrorKind::AccessDenied && !error.temporary => {
                let mut refused = self.refused.lock();
                refused.count += 1;
                refused.why.get_or_insert_with(|| error.to_string());
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    /// What is to be said of the blobs that the task could not delete.
    fn said_of_refused(&self) -> Option<String> {
        let Refused { count, why } = std::mem::take(&mut *self.refused.lock());
        let message = format!("{count} blobs that are not needed stay: {}", why?);
        tracing::warn!("{message}");
        Some(message)
    }

    pub(super) fn has_epochs(&self) -> bool {
        self.repository.config().epoch_parameters.enabled
    }

    pub(super) fn schedule(&self) -> Result<MaintenanceSchedule> {
        schedule::load(self.repository)
    }

    pub(super) fn skip(&mut self, task: MaintenanceTask, why: String) {
        let now = self.now();
        self.tasks.push(TaskReport {
            task: task.name(),
            outcome: Outcome::Skipped,
            why: Some(why),
            started: now,
            finished: now,
            details: None,
        });
    }

    /// Runs a task, records it in the history, and reports it.
    pub(super) fn perform(
        &mut self,
        task: MaintenanceTask,
        work: impl FnOnce(&Self) -> Result<Finished>,
    ) -> Result<()> {
        self.cancel.check()?;
        let started = self.now();
        self.task_started = started;
        let result = work(self);
        let finished = self.now();
        if !self.dry_run {
            let run = run_of(&result, started, finished);
            schedule::record(self.repository, task, run)?;
        }
        let kept = self.said_of_refused();
        let (outcome, why, details, error) = match result {
            Ok(Finished::Done(details)) if self.dry_run => (Outcome::DryRun, None, Some(details), None),
            Ok(Finished::Done(details)) => (Outcome::Done, kept, Some(details), None),
            Ok(Finished::Nothing(why)) => (Outcome::Skipped, Some(why), None, None),
            Ok(Finished::Partly { details, error, .. }) => {
                let failure = Error::new(ErrorKind::Corrupted, format!("{}: {error}", task.name()));
                (Outcome::Failed, Some(error), Some(details), Some(failure))
            }
            Err(error) => {
                let why = error.to_string();
                (Outcome::Failed, Some(why), None, Some(error.while_doing(task.name())))
            }
        };
        self.tasks.push(TaskReport { task: task.name(), outcome, why, started, finished, details });
        error.map_or(Ok(()), Err)
    }
}

fn run_of(result: &Result<Finished>, start: Timestamp, end: Timestamp) -> MaintenanceRun {
    let mut run = MaintenanceRun { start, end, success: true, ..MaintenanceRun::default() };
    match result {
        Ok(Finished::Done(details)) => run.extra.extend(details.statistics()),
        Ok(Finished::Nothing(_)) => {}
        Ok(Finished::Partly { details, error, counts }) => {
            run.success = *counts;
            run.error.clone_from(error);
            run.extra.extend(details.statistics());
        }
        Err(error) => {
            run.success = false;
            run.error = error.to_string();
        }
    }
    run
}
