//! A maintenance run: may we, what is due, and the cycles with their tasks in Kopia's order
//! (format document §8.3, §8.6, §8.8). Source: Kopia `repo/maintenance/maintenance_run.go`.
//!
//! The schedule is written first, so that a crash does not loop; the time that the storage gives to
//! that write is the "now" of all ages. Each task is recorded (`cycle`) whether it succeeds or fails; after
//! a failure the run ends, as Kopia's does, and the report says what was not reached.

use super::cycle::Cycle;
use super::report::{MaintenanceReport, TaskReport};
use super::{owner, schedule, tasks};
use crate::cancel::CancelToken;
use crate::content::frozen::NumberSet;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repository::Repository;
use kopia_format::maintenance::{
    MaintenanceParameters, MaintenanceSchedule, MaintenanceTask, SCHEDULE_BLOB, SafetyParameters,
};
use kopia_format::{BlobId, Timestamp};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The owner of every repository of Velero: all its Jobs have this one identity.
pub const SHARED_OWNER: &str = "default@default";
/// Storage and local clock may differ by this much.
const CLOCK_SKEW_MAX_NANOSECONDS: u128 = 5 * 60 * 1_000_000_000;

/// Which cycle to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// What the schedule says; nothing if nothing is due.
    #[default]
    Auto,
    /// The quick cycle now.
    Quick,
    /// The full cycle now.
    Full,
}

/// Whether to keep the margins that make maintenance safe beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Safety {
    /// Keep them.
    #[default]
    Full,
    /// No margins: only if nobody else uses the repository.
    None,
}

/// How maintenance runs.
#[derive(Debug, Clone, Default)]
pub struct MaintenanceOptions {
    /// Which cycle.
    pub mode: Mode,
    /// Which margins.
    pub safety: Safety,
    /// Change nothing: say what would be done.
    pub dry_run: bool,
    /// Run though another client is the owner.
    pub force: bool,
    /// The caller knows that no other client with the identity [`SHARED_OWNER`] maintains now.
    pub shared_owner_is_alone: bool,
    /// Local lock: two maintainers of this machine exclude each other.
    pub lock_file: Option<PathBuf>,
    /// Asks for the end; tasks stop where a later run can go on.
    pub cancel: CancelToken,
    /// Moved: `files_done` by entries and contents looked at, `bytes_uploaded` by bytes stored anew.
    pub progress: Arc<Progress>,
}

/// Runs what `options` ask for.
///
/// # Errors
/// `AccessDenied` if the repository is read only, another client is the owner, or the owner is
/// shared and nobody says that we are alone; temporary `AccessDenied` if another process of this machine maintains;
/// `Storage` if the clocks differ too much. What fails inside of a task is in the report.
pub fn run(repository: &Repository, options: &MaintenanceOptions) -> Result<MaintenanceReport> {
    let parameters = owner::parameters(repository)?;
    if !options.dry_run {
        repository.contents().check_writable()?;
        check_owner(repository, &parameters, options)?;
    }
    let before = schedule::load(repository)?;
    let Some(full) = choose(&before, &parameters, options.mode, repository.clock().now()) else {
        return Ok(report("none", options, &parameters, &before, Vec::new(), None));
    };
    let _lock = options.lock_file.as_deref().filter(|_| !options.dry_run).map(lock).transpose()?;
    let start =
        if options.dry_run { repository.clock().now() } else { begin(repository, &parameters, full)? };
    repository.refresh()?;
    let mut cycle = Cycle {
        repository,
        safety: match options.safety {
            Safety::Full => SafetyParameters::FULL,
            Safety::None => SafetyParameters::NONE,
        },
        dry_run: options.dry_run,
        cancel: options.cancel.clone(),
        progress: Arc::clone(&options.progress),
        start,
        task_started: start,
        parameters,
        tasks: Vec::new(),
        refused: Mutex::default(),
    };
    let failed = if full { cycle.full() } else { cycle.quick() }.err().map(|error| error.to_string());
    let after = schedule::load(repository)?;
    let name = if full { "full" } else { "quick" };
    Ok(report(name, options, &cycle.parameters, &after, cycle.tasks, failed))
}

fn report(
    cycle: &'static str,
    options: &MaintenanceOptions,
    parameters: &MaintenanceParameters,
    schedule: &MaintenanceSchedule,
    tasks: Vec<TaskReport>,
    failed: Option<String>,
) -> MaintenanceReport {
    MaintenanceReport {
        cycle,
        dry_run: options.dry_run,
        owner: parameters.owner.clone(),
        tasks,
        next_full: schedule.next_full,
        next_quick: schedule.next_quick,
        failed,
    }
}

fn check_owner(
    repository: &Repository,
    parameters: &MaintenanceParameters,
    options: &MaintenanceOptions,
) -> Result<()> {
    let owner = &parameters.owner;
    let we = format!("{}@{}", repository.username(), repository.hostname());
    if *owner != we && !options.force {
        let whose = if owner.is_empty() { "nobody".to_owned() } else { owner.clone() };
        let message = format!(
            "maintenance of this repository belongs to {whose}, we are {we}: run it there, or make {we} the owner first"
        );
        return Err(Error::new(ErrorKind::AccessDenied, message).with("owner", owner));
    }
    if owner == SHARED_OWNER && !options.shared_owner_is_alone {
        let message = format!(
            "all maintenance jobs of Velero run as {SHARED_OWNER}, so nothing here tells whether one runs now: \
             make sure that none does, and say so"
        );
        return Err(Error::new(ErrorKind::AccessDenied, message).with("owner", owner));
    }
    Ok(())
}

/// Whether the full cycle is to run (`Some(true)`), the quick one, or none.
fn choose(
    schedule: &MaintenanceSchedule,
    parameters: &MaintenanceParameters,
    mode: Mode,
    now: Timestamp,
) -> Option<bool> {
    match mode {
        Mode::Full => Some(true),
        Mode::Quick => Some(false),
        Mode::Auto if parameters.full.enabled && now >= schedule.next_full => Some(true),
        Mode::Auto if parameters.quick.enabled && now >= schedule.next_quick => Some(false),
        Mode::Auto => None,
    }
}

fn lock(path: &Path) -> Result<File> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot open the maintenance lock {}", path.display());
        Error::new(ErrorKind::Filesystem, message).caused_by(error)
    };
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let message =
            format!("another process of this machine maintains the repository (lock {})", path.display());
        Error::new(ErrorKind::AccessDenied, message).temporary()
    })?;
    Ok(file)
}

/// Writes when the next cycles are due; the time that the storage gives to it.
fn begin(repository: &Repository, parameters: &MaintenanceParameters, full: bool) -> Result<Timestamp> {
    let now = repository.clock().now();
    let due = |interval: i64| now.plus_nanoseconds(interval.into());
    schedule::update(repository, |schedule| {
        if full {
            schedule.next_full = due(parameters.full.interval_nanoseconds);
        }
        schedule.next_quick = due(parameters.quick.interval_nanoseconds);
    })?;
    let start = repository.storage().metadata(&BlobId::new(SCHEDULE_BLOB))?.timestamp;
    let local = repository.clock().now();
    if start.nanoseconds_since(local).unsigned_abs() > CLOCK_SKEW_MAX_NANOSECONDS {
        let message = format!(
            "the clock of the storage ({start}) and the local clock ({local}) differ by more than 5 minutes: \
             set the clock; maintenance decides by times"
        );
        return Err(Error::new(ErrorKind::Storage, message));
    }
    Ok(start)
}

impl Cycle<'_> {
    fn full(&mut self) -> Result<()> {
        use MaintenanceTask::{FullDeleteBlobs, FullDropDeletedContent, FullRewriteContents, SnapshotGc};
        self.perform(SnapshotGc, tasks::snapshot_gc::collect)?;
        if schedule::may_rewrite_full(&self.schedule()?, &self.safety) {
            self.perform(FullRewriteContents, |cycle| tasks::rewrite_contents::rewrite(cycle, &["p", "q"]))?;
        } else {
            self.skip(FullRewriteContents, "what the last rewrite left behind is not deleted yet".into());
        }
        let used_before = self.packs_before_drop()?;
        match tasks::drop_deleted::time(self)? {
            Some(time) => {
                self.perform(FullDropDeletedContent, |cycle| tasks::drop_deleted::drop(cycle, time))?
            }
            None => {
                let why = "needs two garbage collections more than 4 hours apart; the next one may do it";
                self.skip(FullDropDeletedContent, why.into());
            }
        }
        self.delete_blobs(FullDeleteBlobs, &["p", "q", "s"], used_before)?;
        self.extend_retention()?;
        if self.has_epochs() {
            self.epochs()?;
        }
        self.perform(MaintenanceTask::CleanupLogs, tasks::logs::clean_up)
    }

    fn quick(&mut self) -> Result<()> {
        use MaintenanceTask::{FullDeleteBlobs, IndexCompaction, QuickDeleteBlobs, QuickRewriteContents};
        if self.has_epochs() {
            self.perform(MaintenanceTask::CompactSingleEpoch, tasks::epochs::compact_single)?;
            return self.perform(MaintenanceTask::AdvanceEpoch, tasks::epochs::advance);
        }
        let schedule = self.schedule()?;
        if schedule::may_rewrite_quick(&schedule, &self.safety) {
            self.perform(QuickRewriteContents, |cycle| tasks::rewrite_contents::rewrite(cycle, &["q"]))?;
        } else {
            self.skip(QuickRewriteContents, "what the last rewrite left behind is not deleted yet".into());
        }
        // What a full rewrite left only a full deletion finds; a quick rewrite before it would hide that.
        if schedule::last_rewrite_was_full(&self.schedule()?) {
            self.delete_blobs(FullDeleteBlobs, &["p", "q", "s"], None)?;
        } else {
            self.delete_blobs(QuickDeleteBlobs, &["q"], None)?;
        }
        self.perform(IndexCompaction, tasks::compact_index::compact)?;
        self.perform(MaintenanceTask::CleanupLogs, tasks::logs::clean_up)
    }

    /// In this order: an epoch is compacted before a range that could hold it.
    fn epochs(&mut self) -> Result<()> {
        self.perform(MaintenanceTask::CompactSingleEpoch, tasks::epochs::compact_single)?;
        self.perform(MaintenanceTask::AdvanceEpoch, tasks::epochs::advance)?;
        self.perform(MaintenanceTask::GenerateEpochRangeIndex, tasks::epochs::compact_range)?;
        self.perform(MaintenanceTask::CleanupEpochMarkers, tasks::epochs::clean_markers)?;
        self.perform(MaintenanceTask::DeleteSupersededEpochIndexes, tasks::epochs::delete_superseded)
    }

    /// Packs that stay in this cycle though dropping frees them.
    ///
    /// Without epochs another maintainer may at this moment join an older part of the indexes, which brings
    /// back entries that we drop. Their packs go in the next cycle, when that would show.
    fn packs_before_drop(&self) -> Result<Option<NumberSet>> {
        if self.has_epochs() || !self.safety.require_two_gc_cycles {
            return Ok(None);
        }
        self.repository.contents().packs_in_use().map(Some)
    }

    fn delete_blobs(
        &mut self,
        task: MaintenanceTask,
        prefixes: &[&str],
        used_before: Option<NumberSet>,
    ) -> Result<()> {
        let from = schedule::deletion_allowed_from(&self.schedule()?, &self.safety);
        if self.now() < from {
            self.skip(
                task,
                format!("other clients may still read packs that were rewritten; next from {from}"),
            );
            return Ok(());
        }
        self.perform(task, |cycle| tasks::delete_blobs::delete(cycle, prefixes, used_before.as_ref()))
    }

    fn extend_retention(&mut self) -> Result<()> {
        let task = MaintenanceTask::ExtendBlobRetentionTime;
        if self.parameters.extend_object_locks {
            return self.perform(task, tasks::extend_retention::extend);
        }
        self.skip(task, "extending object locks is not switched on".into());
        Ok(())
    }
}
