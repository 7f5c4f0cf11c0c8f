//! Care of a repository for Python: maintenance, health, passwords, repair, copying.

use crate::errors::{Result, invalid};
use crate::password::Password;
use crate::progress::{CancelToken, Progress};
use crate::repository::Repository;
use crate::requests::{ConnectionRequest, OpenRequest, parse};
use kopia_engine::blob::Storage;
use kopia_engine::blob::connection::Connection;
use kopia_engine::blob::url::ProviderConfig;
use kopia_engine::maintenance::{self, MaintenanceOptions, Mode, Safety};
use kopia_engine::repair::{RepairOptions, run as run_repair};
use kopia_engine::repository as engine;
use kopia_engine::snapshot_copy::{SnapshotCopyOptions, copy as run_snapshot_copy};
use kopia_engine::sync_to::{SyncToOptions, sync_to as run_sync_to};
use kopia_format::ManifestId;
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaintainRequest {
    mode: String,
    safety: String,
    dry_run: bool,
    force: bool,
    no_job_running: bool,
    lock_file: Option<PathBuf>,
}

impl MaintainRequest {
    fn options(self, progress: &Progress, cancel: &CancelToken) -> Result<MaintenanceOptions> {
        Ok(MaintenanceOptions {
            mode: match self.mode.as_str() {
                "auto" => Mode::Auto,
                "quick" => Mode::Quick,
                "full" => Mode::Full,
                other => return Err(invalid(format!("unknown cycle {other:?}"))),
            },
            safety: match self.safety.as_str() {
                "full" => Safety::Full,
                "none" => Safety::None,
                other => return Err(invalid(format!("unknown safety {other:?}"))),
            },
            dry_run: self.dry_run,
            force: self.force,
            shared_owner_is_alone: self.no_job_running,
            lock_file: self.lock_file,
            cancel: cancel.0.clone(),
            progress: Arc::clone(&progress.0),
        })
    }
}

pub(crate) fn document(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| invalid(format!("cannot write the report: {error}")))
}

#[pyfunction]
pub(crate) fn maintain(
    py: Python<'_>,
    repository: &Repository,
    request: &str,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<String> {
    let options = parse::<MaintainRequest>(request)?.options(progress, cancel)?;
    repository.detached(py, |repository| document(&maintenance::run(repository, &options)?))
}

#[pyfunction]
pub(crate) fn maintenance_info(py: Python<'_>, repository: &Repository) -> Result<String> {
    repository.detached(py, |repository| document(&maintenance::info(repository)?))
}

#[pyfunction]
pub(crate) fn set_maintenance_owner(py: Python<'_>, repository: &Repository, owner: &str) -> Result<()> {
    repository.detached(py, |repository| Ok(maintenance::take_over(repository, owner)?))
}

#[pyfunction]
pub(crate) fn health(py: Python<'_>, repository: &Repository) -> Result<String> {
    repository.detached(py, |repository| document(&maintenance::health(repository)?))
}

pub(crate) fn connect(url: &str, connection: &ConnectionRequest) -> Result<Arc<dyn Storage>> {
    let config = ProviderConfig::parse(url)?;
    let cancel = kopia_engine::cancel::CancelToken::new();
    Ok(Connection::open(&config, &connection.options()?, &cancel)?.storage)
}

#[pyfunction]
pub(crate) fn change_password(
    py: Python<'_>,
    url: &str,
    old: Password,
    new: Password,
    request: &str,
) -> Result<String> {
    py.detach(|| {
        let request: OpenRequest = parse(request)?;
        let storage = connect(url, &request.connection)?;
        let change = engine::Repository::change_password(storage.as_ref(), &old, &new, &request.options())?;
        let seconds = change.copies_live.as_secs();
        document(&json!({"resumed": change.resumed, "copies_live_seconds": seconds}))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RepairRequest {
    dry_run: bool,
    all_packs: bool,
    read_packs: bool,
    open: OpenRequest,
}

#[pyfunction]
pub(crate) fn repair(
    py: Python<'_>,
    url: &str,
    password: Password,
    request: &str,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<String> {
    py.detach(|| {
        let RepairRequest { dry_run, all_packs, read_packs, open } = parse(request)?;
        let storage = connect(url, &open.connection)?;
        let (progress, cancel) = (Arc::clone(&progress.0), cancel.0.clone());
        let options = RepairOptions { dry_run, all_packs, read_packs, progress, cancel };
        let report = run_repair(&storage, &password, &open.options(), &options)?;
        document(&json!({"sound": report.is_sound(), "report": report}))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyncToRequest {
    delete: bool,
    dry_run: bool,
    must_exist: bool,
    parallel: Option<NonZeroUsize>,
    connection: ConnectionRequest,
}

#[pyfunction]
pub(crate) fn sync_to(
    py: Python<'_>,
    url: &str,
    target: &str,
    request: &str,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<String> {
    py.detach(|| {
        let request: SyncToRequest = parse(request)?;
        let source = connect(url, &request.connection)?;
        let config = ProviderConfig::parse(target)?;
        let connection = request.connection.options()?;
        let place = if request.dry_run || request.must_exist {
            Connection::open(&config, &connection, &cancel.0)?
        } else {
            Connection::initialize(&config, None, &connection, &cancel.0)?
        };
        let options = SyncToOptions {
            delete: request.delete,
            dry_run: request.dry_run,
            must_exist: request.must_exist,
            parallel: request.parallel,
            cancel: cancel.0.clone(),
        };
        document(&run_sync_to(source.as_ref(), place.storage.as_ref(), &options, &progress.0)?)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CopySnapshotsRequest {
    snapshots: Vec<String>,
    incomplete: bool,
    dry_run: bool,
}

#[pyfunction]
pub(crate) fn copy_snapshots(
    py: Python<'_>,
    source: &Repository,
    target: &Repository,
    request: &str,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<String> {
    let request: CopySnapshotsRequest = parse(request)?;
    let options = SnapshotCopyOptions {
        snapshots: request.snapshots.iter().map(ManifestId::new).collect(),
        incomplete: request.incomplete,
        dry_run: request.dry_run,
        cancel: cancel.0.clone(),
    };
    let target = target.engine()?;
    source.detached(py, |source| document(&run_snapshot_copy(source, &target, &options, &progress.0)?))
}
