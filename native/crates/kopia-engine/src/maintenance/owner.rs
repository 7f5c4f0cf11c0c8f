//! Who may maintain a repository, and how often: the `maintenance` manifest (format document §8.1).

use super::report::as_text;
use super::schedule;
use crate::error::Result;
use crate::manifest::Labels;
use crate::repository::Repository;
use kopia_format::Timestamp;
use kopia_format::maintenance::{MAINTENANCE_MANIFEST_TYPE, MaintenanceParameters, MaintenanceRun};
use serde::Serialize;
use std::collections::BTreeMap;

fn labels() -> Labels {
    Labels::from([("type".to_owned(), MAINTENANCE_MANIFEST_TYPE.to_owned())])
}

/// The parameters; of several manifests the newest counts, without one the defaults with no owner.
///
/// # Errors
/// Those of reading manifests.
pub fn parameters(repository: &Repository) -> Result<MaintenanceParameters> {
    let found = repository.manifests().find(&labels())?;
    let Some(newest) = found.last() else { return Ok(MaintenanceParameters::default()) };
    let (_, payload) = repository.manifests().get(&newest.id)?;
    Ok(MaintenanceParameters::decode(payload.get().as_bytes())?)
}

/// Replaces the parameters; the caller flushes.
///
/// # Errors
/// `AccessDenied` when read only; those of reading manifests.
pub fn set_parameters(repository: &Repository, parameters: &MaintenanceParameters) -> Result<()> {
    repository.manifests().replace(labels(), &parameters.encode()?)?;
    Ok(())
}

/// Makes `owner` (`user@host`) the one who maintains, and flushes.
///
/// # Errors
/// As [`set_parameters`].
pub fn take_over(repository: &Repository, owner: &str) -> Result<()> {
    let changed = MaintenanceParameters { owner: owner.to_owned(), ..parameters(repository)? };
    set_parameters(repository, &changed)?;
    repository.flush()
}

/// What `maintenance info` shows.
#[derive(Debug, Clone, Serialize)]
pub struct MaintenanceInfo {
    /// Owner, cycles, log retention.
    pub parameters: MaintenanceParameters,
    /// When the next full cycle is due.
    #[serde(serialize_with = "as_text")]
    pub next_full: Timestamp,
    /// When the next quick cycle is due.
    #[serde(serialize_with = "as_text")]
    pub next_quick: Timestamp,
    /// Newest run first, by Kopia's name of the task.
    pub runs: BTreeMap<String, Vec<MaintenanceRun>>,
}

/// Parameters, schedule and run history.
///
/// # Errors
/// Those of reading manifests and the schedule.
pub fn info(repository: &Repository) -> Result<MaintenanceInfo> {
    let schedule = schedule::load(repository)?;
    Ok(MaintenanceInfo {
        parameters: parameters(repository)?,
        next_full: schedule.next_full,
        next_quick: schedule.next_quick,
        runs: schedule.runs,
    })
}
