//! What changes the format blob, for Python: parameters and upgrades.

use crate::errors::{Result, invalid};
use crate::maintenance::{connect, document};
use crate::password::Password;
use crate::requests::{OpenRequest, parse, retention_mode, seconds};
use kopia_engine::repository::{EpochChanges, ParameterChanges, Repository, RetentionChange, UpgradeOptions};
use kopia_format::format_blob::RequiredFeature;
use pyo3::prelude::*;
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ParametersRequest {
    max_pack_size_bytes: Option<u64>,
    index_version: Option<u32>,
    /// `none`, or Kopia's names.
    retention_mode: Option<String>,
    retention_period_seconds: Option<u64>,
    epoch_refresh_frequency_seconds: Option<f64>,
    epoch_min_duration_seconds: Option<f64>,
    epoch_cleanup_safety_margin_seconds: Option<f64>,
    epoch_advance_on_count: Option<i64>,
    epoch_advance_on_size_bytes: Option<i64>,
    epoch_delete_parallelism: Option<i64>,
    epoch_checkpoint_frequency: Option<i64>,
    add_required_feature: Option<String>,
    warn_on_missing_required_feature: bool,
    remove_required_feature: Option<String>,
}

impl ParametersRequest {
    fn changes(self) -> Result<ParameterChanges> {
        Ok(ParameterChanges {
            max_pack_size_bytes: self.max_pack_size_bytes,
            index_version: self.index_version,
            retention: self.retention()?,
            epochs: EpochChanges {
                refresh_frequency: nanoseconds(self.epoch_refresh_frequency_seconds)?,
                min_duration: nanoseconds(self.epoch_min_duration_seconds)?,
                cleanup_safety_margin: nanoseconds(self.epoch_cleanup_safety_margin_seconds)?,
                advance_on_count: self.epoch_advance_on_count,
                advance_on_size_bytes: self.epoch_advance_on_size_bytes,
                delete_parallelism: self.epoch_delete_parallelism,
                checkpoint_frequency: self.epoch_checkpoint_frequency,
            },
            add_feature: self.add_required_feature.map(|feature| RequiredFeature {
                feature,
                warn: self.warn_on_missing_required_feature,
                ..RequiredFeature::default()
            }),
            remove_feature: self.remove_required_feature,
        })
    }

    fn retention(&self) -> Result<Option<RetentionChange>> {
        let period = self.retention_period_seconds.map(Duration::from_secs);
        Ok(match (self.retention_mode.as_deref(), period) {
            (None, None) => None,
            (Some("none"), None) => Some(RetentionChange::Off),
            (Some("none"), Some(_)) => return Err(invalid("no retention has no period")),
            (mode, period) => Some(RetentionChange::Set(mode.map(retention_mode).transpose()?, period)),
        })
    }
}

fn nanoseconds(value: Option<f64>) -> Result<Option<i64>> {
    let wide = value.map(seconds).transpose()?.map(|time| time.as_nanos());
    wide.map(|wide| i64::try_from(wide).map_err(|_| invalid("a length of time is too long"))).transpose()
}

#[pyfunction]
pub(crate) fn set_parameters(
    py: Python<'_>,
    url: &str,
    password: Password,
    request: &str,
    changes: &str,
) -> Result<String> {
    py.detach(|| {
        let request: OpenRequest = parse(request)?;
        let changes = parse::<ParametersRequest>(changes)?.changes()?;
        let storage = connect(url, &request.connection)?;
        document(&Repository::set_parameters(&storage, &password, &changes, &request.options())?)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpgradeRequest {
    owner_id: String,
    io_drain_timeout_seconds: f64,
    status_poll_interval_seconds: f64,
    max_permitted_clock_drift_seconds: f64,
    advance_notice_seconds: f64,
    allow_unsafe: bool,
    lock_only: bool,
}

impl UpgradeRequest {
    fn options(self) -> Result<UpgradeOptions> {
        Ok(UpgradeOptions {
            owner_id: self.owner_id,
            io_drain_timeout: seconds(self.io_drain_timeout_seconds)?,
            status_poll_interval: seconds(self.status_poll_interval_seconds)?,
            max_permitted_clock_drift: seconds(self.max_permitted_clock_drift_seconds)?,
            advance_notice: seconds(self.advance_notice_seconds)?,
            allow_unsafe: self.allow_unsafe,
            lock_only: self.lock_only,
        })
    }
}

#[pyfunction]
pub(crate) fn upgrade(
    py: Python<'_>,
    url: &str,
    password: Password,
    request: &str,
    upgrade: &str,
) -> Result<String> {
    py.detach(|| {
        let request: OpenRequest = parse(request)?;
        let upgrade = parse::<UpgradeRequest>(upgrade)?.options()?;
        let storage = connect(url, &request.connection)?;
        document(&Repository::upgrade(&storage, &password, &upgrade, &request.options())?)
    })
}

#[pyfunction]
pub(crate) fn roll_back_upgrade(
    py: Python<'_>,
    url: &str,
    password: Password,
    request: &str,
    owner_id: &str,
    force: bool,
) -> Result<()> {
    py.detach(|| {
        let request: OpenRequest = parse(request)?;
        let storage = connect(url, &request.connection)?;
        Ok(Repository::roll_back_upgrade(storage.as_ref(), &password, owner_id, force)?)
    })
}

#[pyfunction]
pub(crate) fn validate_upgrade(py: Python<'_>, url: &str, password: Password, request: &str) -> Result<u64> {
    py.detach(|| {
        let request: OpenRequest = parse(request)?;
        let storage = connect(url, &request.connection)?;
        Ok(Repository::validate_upgrade(&storage, &password, &request.options())?)
    })
}
