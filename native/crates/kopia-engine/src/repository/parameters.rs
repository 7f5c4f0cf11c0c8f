//! Parameters that may change while a repository lives: pack size, index version, object lock, epochs, required
//! features (format document §2.1, §2.4, §4.7.5). Source: Kopia `repo/format/format_set_parameters.go`.
//!
//! The settings blob is written first, as Kopia does: a format blob that says less is never the worse of the two.

use super::create::{HOUR, MINUTE, check_object_lock};
use super::format::OpenFormat;
use super::{OpenOptions, Repository};
use crate::blob::retention::BlobRetention;
use crate::blob::{RetentionMode, Storage};
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance;
use kopia_format::format_blob::{EpochParameters, RepositoryConfig, RequiredFeature};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Bounds of the pack size. Source: Kopia `repo/format/content_format.go`.
const PACK_SIZE_BYTES: std::ops::RangeInclusive<u64> = 10 << 20..=120 << 20;
const INDEX_VERSION_MAX: u32 = 2;
/// Locks must outlast a full cycle by this, where maintenance extends them.
const LOCK_MARGIN: i64 = 24 * HOUR;
/// Other clients may go on with their copy of the format blob for so long.
const COPIES_LIVE: Duration = Duration::from_secs(15 * 60);

/// What is to change; `None` leaves things as they are.
#[derive(Debug, Clone, Default)]
pub struct ParameterChanges {
    /// Packs are closed at this length.
    pub max_pack_size_bytes: Option<u64>,
    /// Version of new indexes; never lower than it is.
    pub index_version: Option<u32>,
    /// Object lock of what is stored from now on.
    pub retention: Option<RetentionChange>,
    /// Epochs of the index.
    pub epochs: EpochChanges,
    /// A feature that every client must know from now on.
    pub add_feature: Option<RequiredFeature>,
    /// A feature that clients need not know any more.
    pub remove_feature: Option<String>,
}

/// How object locks change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionChange {
    /// None from now on.
    Off,
    /// Mode and period; each stays as it is if it is `None`.
    Set(Option<RetentionMode>, Option<Duration>),
}

/// Epoch parameters by Kopia's names; durations in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct EpochChanges {
    pub refresh_frequency: Option<i64>,
    pub min_duration: Option<i64>,
    pub cleanup_safety_margin: Option<i64>,
    pub advance_on_count: Option<i64>,
    pub advance_on_size_bytes: Option<i64>,
    pub delete_parallelism: Option<i64>,
    pub checkpoint_frequency: Option<i64>,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParameterReport {
    /// Name, value before, value now.
    pub changes: Vec<(&'static str, String, String)>,
    /// Clients that are running see it at the latest after this.
    pub copies_live_seconds: u64,
}

impl Repository {
    /// Changes parameters of the repository.
    ///
    /// # Errors
    /// `InvalidArgument`, before anything is written, for what Kopia would refuse; a temporary `AccessDenied`
    /// during an upgrade.
    pub fn set_parameters(
        storage: &Arc<dyn Storage>,
        password: impl AsRef<[u8]>,
        changes: &ParameterChanges,
        options: &OpenOptions,
    ) -> Result<ParameterReport> {
        let password = password.as_ref();
        let mut format = OpenFormat::read(storage.as_ref(), password)?;
        format.check_lock(options.clock.now())?;
        let config = changed_config(&format.config, changes)?;
        let retention = changed_retention(format.retention, changes.retention)?;
        let told = differences(&format, &config, retention);
        if retention != format.retention {
            check_object_lock(storage.as_ref(), retention.0.is_some())?;
            check_lock_outlasts_cycle(storage, password, retention, options)?;
            format.store_retention(storage.as_ref(), retention)?;
        }
        if !told.is_empty() {
            format.store_config(storage.as_ref(), config)?;
        }
        Ok(ParameterReport { changes: told, copies_live_seconds: COPIES_LIVE.as_secs() })
    }
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, why)
}

fn changed_config(now: &RepositoryConfig, changes: &ParameterChanges) -> Result<RepositoryConfig> {
    let mut config = now.clone();
    if let Some(bytes) = changes.max_pack_size_bytes {
        if !PACK_SIZE_BYTES.contains(&bytes) {
            return Err(refused(format!("a pack size of {} MiB is not in 10 to 120", bytes >> 20)));
        }
        config.max_pack_size = bytes;
    }
    if let Some(version) = changes.index_version {
        if version < now.index_version || version > INDEX_VERSION_MAX {
            let message =
                format!("the index version is {}; it can only be raised, up to 2", now.index_version);
            return Err(refused(message));
        }
        config.index_version = version;
    }
    config.epoch_parameters = changed_epochs(&now.epoch_parameters, &changes.epochs)?;
    let named = [changes.add_feature.as_ref().map(|one| &one.feature), changes.remove_feature.as_ref()];
    config.required_features.retain(|known| !named.contains(&Some(&known.feature)));
    config.required_features.extend(changes.add_feature.clone());
    Ok(config)
}

fn changed_epochs(now: &EpochParameters, changes: &EpochChanges) -> Result<EpochParameters> {
    if *changes == EpochChanges::default() {
        return Ok(now.clone());
    }
    if !now.enabled {
        return Err(refused(
            "the indexes of this repository have no epochs: upgrade it first (repo upgrade)",
        ));
    }
    let or = |change: Option<i64>, now: i64| change.unwrap_or(now);
    let epochs = EpochParameters {
        enabled: true,
        epoch_refresh_frequency: or(changes.refresh_frequency, now.epoch_refresh_frequency),
        full_checkpoint_frequency: or(changes.checkpoint_frequency, now.full_checkpoint_frequency),
        cleanup_safety_margin: or(changes.cleanup_safety_margin, now.cleanup_safety_margin),
        min_epoch_duration: or(changes.min_duration, now.min_epoch_duration),
        epoch_advance_on_count_threshold: or(changes.advance_on_count, now.epoch_advance_on_count_threshold),
        epoch_advance_on_total_size_bytes_threshold: or(
            changes.advance_on_size_bytes,
            now.epoch_advance_on_total_size_bytes_threshold,
        ),
        delete_parallelism: or(changes.delete_parallelism, now.delete_parallelism),
    };
    check_epochs(&epochs)?;
    Ok(epochs)
}

/// Kopia's rules. Source: Kopia `internal/epoch/epoch_manager.go`.
fn check_epochs(epochs: &EpochParameters) -> Result<()> {
    let rules = [
        (epochs.min_epoch_duration >= 10 * MINUTE, "an epoch must last 10 minutes or longer"),
        (
            epochs.epoch_refresh_frequency > 0
                && epochs.epoch_refresh_frequency.saturating_mul(3) <= epochs.min_epoch_duration,
            "the refresh frequency must be a third of an epoch's least duration or shorter",
        ),
        (epochs.full_checkpoint_frequency > 0, "the checkpoint frequency must be above 0"),
        (
            epochs.cleanup_safety_margin >= epochs.epoch_refresh_frequency.saturating_mul(3),
            "the safety margin of cleaning must be three times the refresh frequency or longer",
        ),
        (epochs.epoch_advance_on_count_threshold >= 10, "an epoch must hold 10 index blobs or more"),
        (epochs.epoch_advance_on_total_size_bytes_threshold >= 1 << 20, "an epoch must hold 1 MiB or more"),
        (epochs.delete_parallelism >= 0, "the parallelism of deletion must not be negative"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, why)) => Err(refused(why)),
        None => Ok(()),
    }
}

fn changed_retention(now: BlobRetention, change: Option<RetentionChange>) -> Result<BlobRetention> {
    let retention = match change {
        None => return Ok(now),
        Some(RetentionChange::Off) => BlobRetention(None),
        Some(RetentionChange::Set(mode, period)) => {
            let mode = mode.or(now.0.map(|(mode, _)| mode));
            let period = period.or(now.0.map(|(_, period)| period));
            let both = mode.zip(period).ok_or_else(|| refused("retention needs a mode and a period"))?;
            BlobRetention(Some(both))
        }
    };
    retention.to_config().check().map_err(|error| refused(error.to_string()))?;
    Ok(retention)
}

/// Where maintenance extends locks, they must not end before it comes again.
fn check_lock_outlasts_cycle(
    storage: &Arc<dyn Storage>,
    password: &[u8],
    retention: BlobRetention,
    options: &OpenOptions,
) -> Result<()> {
    if retention.0.is_none() {
        return Ok(());
    }
    let read_only = OpenOptions { read_only: true, ..options.clone() };
    let repository = Repository::open(Arc::clone(storage), password, read_only)?;
    let parameters = maintenance::parameters(&repository)?;
    let period = retention.to_config().retention_period;
    if parameters.extend_object_locks
        && period.saturating_sub(parameters.full.interval_nanoseconds) < LOCK_MARGIN
    {
        let hours = (parameters.full.interval_nanoseconds + LOCK_MARGIN) / HOUR;
        return Err(refused(format!(
            "full maintenance extends the locks: they must last {hours} h or longer, a day more than its interval"
        )));
    }
    Ok(())
}

fn differences(
    format: &OpenFormat,
    config: &RepositoryConfig,
    retention: BlobRetention,
) -> Vec<(&'static str, String, String)> {
    let (old, new) = (values(&format.config, format.retention), values(config, retention));
    let pairs = old.into_iter().zip(new);
    pairs
        .filter(|((_, before), (_, now))| before != now)
        .map(|((name, before), (_, now))| (name, before, now))
        .collect()
}

/// Every parameter as a text.
fn values(config: &RepositoryConfig, retention: BlobRetention) -> Vec<(&'static str, String)> {
    let epochs = &config.epoch_parameters;
    let duration = |nanoseconds: i64| format!("{} s", nanoseconds / 1_000_000_000);
    let settings = retention.to_config();
    let features: Vec<&str> = config.required_features.iter().map(|one| one.feature.as_str()).collect();
    vec![
        ("max pack size", format!("{} MiB", config.max_pack_size >> 20)),
        ("index version", config.index_version.to_string()),
        ("retention mode", if retention.0.is_some() { settings.retention_mode } else { "none".into() }),
        ("retention period", duration(settings.retention_period)),
        ("epoch refresh frequency", duration(epochs.epoch_refresh_frequency)),
        ("epoch min duration", duration(epochs.min_epoch_duration)),
        ("epoch cleanup safety margin", duration(epochs.cleanup_safety_margin)),
        ("epoch advance on count", epochs.epoch_advance_on_count_threshold.to_string()),
        (
            "epoch advance on size",
            format!("{} MiB", epochs.epoch_advance_on_total_size_bytes_threshold >> 20),
        ),
        ("epoch delete parallelism", epochs.delete_parallelism.to_string()),
        ("epoch checkpoint frequency", epochs.full_checkpoint_frequency.to_string()),
        ("required features", features.join(", ")),
    ]
}
