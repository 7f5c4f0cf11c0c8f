//! Upgrading a repository to format 3, as Kopia does it: lock, wait until every client has seen the lock, write
//! the indexes anew as epoch 0, compare, commit (format document §2.6, §4.7.6).
//!
//! Each call looks at the storage and goes as far as it can, so a cut-off upgrade goes on with the next call. Until the commit the old
//! index blobs and a backup of the format blob say what was, and a roll-back brings it again. The surprise: index
//! blobs of an attempt that was rolled back must go, or they would bring back what was deleted since.
//! Source: Kopia `cli/command_repository_upgrade.go`, `repo/format/upgrade_lock.go`.

use super::create::default_epochs;
use super::format::{FORMAT_BLOB, OpenFormat, get_format_blob};
use super::{OpenOptions, Repository, content_context};
use crate::blob::exclusive::put_new;
use crate::blob::{PutOptions, Storage};
use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::format_blob::{EpochParameters, FormatBlob, RepositoryConfig, UpgradeLock};
use kopia_format::index_blob::POISON_BLOB;
use kopia_format::{BlobId, Timestamp};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// The version that an upgrade leads to.
const VERSION_NEWEST: u32 = 3;
const BACKUP_PREFIX: &str = "kopia.repository.backup.";
/// Copies of the format blob that clients keep live so long: a shorter drain is not safe.
const DRAIN_MIN: Duration = Duration::from_secs(15 * 60);
const INDEX_VERSION: u32 = 2;
/// Index blobs with epochs all begin with this.
const EPOCH_PREFIX: &str = "x";

/// How to upgrade. The default is Kopia's.
#[derive(Debug, Clone)]
pub struct UpgradeOptions {
    /// Who upgrades: only the same name may go on with, or roll back, what was begun.
    pub owner_id: String,
    /// How long clients may take to notice the lock.
    pub io_drain_timeout: Duration,
    /// How often others are advised to look.
    pub status_poll_interval: Duration,
    /// How far clocks may differ.
    pub max_permitted_clock_drift: Duration,
    /// Lock only after this; zero locks at once.
    pub advance_notice: Duration,
    /// Allow a drain that clients may miss: nobody else uses the repository.
    pub allow_unsafe: bool,
    /// Lock and do no more.
    pub lock_only: bool,
}

impl Default for UpgradeOptions {
    fn default() -> Self {
        Self {
            owner_id: String::new(),
            io_drain_timeout: DRAIN_MIN,
            status_poll_interval: Duration::from_secs(60),
            max_permitted_clock_drift: Duration::from_secs(5 * 60),
            advance_notice: Duration::ZERO,
            allow_unsafe: false,
            lock_only: false,
        }
    }
}

/// How far an upgrade is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum UpgradeState {
    /// There is nothing to do.
    UpToDate,
    /// Locked, or about to be: other clients may be at work until then; call again.
    Draining {
        /// RFC 3339.
        until: String,
    },
    /// Done.
    Upgraded {
        /// Index entries that were written anew; `None` if epochs were in use already.
        entries: Option<u64>,
    },
}

impl Repository {
    /// Takes the upgrade of the repository as far as it goes now.
    ///
    /// # Errors
    /// `AccessDenied` while somebody else upgrades; `InvalidArgument` for times that are not safe; `Corrupted` if the new
    /// indexes differ from the old ones (it stays locked then, and can be rolled back).
    pub fn upgrade(
        storage: &Arc<dyn Storage>,
        password: impl AsRef<[u8]>,
        upgrade: &UpgradeOptions,
        options: &OpenOptions,
    ) -> Result<UpgradeState> {
        let mut format = OpenFormat::read(storage.as_ref(), password.as_ref())?;
        let Some(lock) = locked(storage.as_ref(), &mut format, upgrade, options)? else {
            return Ok(UpgradeState::UpToDate);
        };
        // With epochs nothing is migrated, so nobody can be in the way, unless they were given notice.
        let must_drain = !format.config.epoch_parameters.enabled || lock.advance_notice_duration != 0;
        if upgrade.lock_only || (must_drain && !lock.writers_drained(options.clock.now())) {
            return Ok(UpgradeState::Draining { until: drained_at(&lock).to_rfc3339() });
        }
        let had_epochs =
            backup_of(storage.as_ref(), &format)?.is_some_and(|old| old.epoch_parameters.enabled);
        if !format.config.epoch_parameters.enabled {
            migrate(storage, &mut format, options)?;
        }
        let entries = if had_epochs { None } else { Some(compare_indexes(storage, &format, options)?) };
        commit(storage.as_ref(), &mut format)?;
        Ok(UpgradeState::Upgraded { entries })
    }

    /// Ends an upgrade that is not committed: everything is as it was before.
    ///
    /// # Errors
    /// `InvalidArgument` if none is under way; `AccessDenied` if it is somebody else's, unless `force`; `BlobNotFound` if
    /// the backup of the format blob is gone.
    pub fn roll_back_upgrade(
        storage: &dyn Storage,
        password: impl AsRef<[u8]>,
        owner_id: &str,
        force: bool,
    ) -> Result<()> {
        let format = OpenFormat::read(storage, password.as_ref())?;
        let lock = format.config.upgrade_lock.as_ref();
        let lock = lock.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "no upgrade is under way"))?;
        if lock.owner_id != owner_id && !force {
            return Err(of_somebody_else(lock));
        }
        let backups = backups(storage)?;
        let oldest = backups.first().ok_or_else(|| {
            let message = format!("no blob {BACKUP_PREFIX}… says how the repository was before the upgrade");
            Error::new(ErrorKind::BlobNotFound, message)
        })?;
        let mut bytes = Vec::new();
        storage.get(oldest, &mut bytes)?;
        let old = FormatBlob::parse(&bytes)?.decrypt_config(&format.key)?;
        let id = BlobId::new(FORMAT_BLOB);
        storage.put(&id, &[&bytes], &format.retention.put_options(&id))?;
        storage.sync()?;
        if !old.epoch_parameters.enabled {
            storage.delete(&BlobId::new(POISON_BLOB))?;
            delete_epoch_blobs(storage)?;
        }
        backups.iter().try_for_each(|backup| storage.delete(backup))
    }

    /// Compares the indexes of before an upgrade with those of after it; the number of their entries.
    ///
    /// # Errors
    /// `InvalidArgument` if there is nothing to compare; `Corrupted`, naming the first content that differs.
    pub fn validate_upgrade(
        storage: &Arc<dyn Storage>,
        password: impl AsRef<[u8]>,
        options: &OpenOptions,
    ) -> Result<u64> {
        let format = OpenFormat::read(storage.as_ref(), password.as_ref())?;
        if !format.config.epoch_parameters.enabled {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the indexes of the repository were not upgraded",
            ));
        }
        compare_indexes(storage, &format, options)
    }
}

/// The lock of ours that is in force; `None` if there is nothing to upgrade.
fn locked(
    storage: &dyn Storage,
    format: &mut OpenFormat,
    upgrade: &UpgradeOptions,
    options: &OpenOptions,
) -> Result<Option<UpgradeLock>> {
    match &format.config.upgrade_lock {
        Some(lock) if lock.owner_id == upgrade.owner_id => return Ok(Some(lock.clone())),
        Some(lock) => return Err(of_somebody_else(lock)),
        None => {}
    }
    // Without a lock they are left from an attempt that was cut off, or from kopia, which leaves them. A roll-back or a
    // repair would take one for the format as it is.
    backups(storage)?.iter().try_for_each(|backup| storage.delete(backup))?;
    if format.config.version >= VERSION_NEWEST {
        return Ok(None);
    }
    let lock = new_lock(format.config.version, upgrade, options)?;
    let backup = BlobId::new(format!("{BACKUP_PREFIX}{}", upgrade.owner_id));
    put_new(storage, &backup, &format.bytes, &format.retention.put_options(&backup))?;
    storage.sync()?;
    // The new version at once: clients that know no lock refuse that.
    let version = VERSION_NEWEST;
    let config = RepositoryConfig { upgrade_lock: Some(lock.clone()), version, ..format.config.clone() };
    format.store_config(storage, config)?;
    check_stored(storage, format, upgrade)?;
    Ok(Some(lock))
}

/// The format blob is replaced, so that no condition tells of two who lock at once: the last one has the lock.
fn check_stored(storage: &dyn Storage, format: &OpenFormat, upgrade: &UpgradeOptions) -> Result<()> {
    let stored = get_format_blob(storage)?;
    if stored == format.bytes {
        return Ok(());
    }
    // The backup of ours would be taken for the format as it was before theirs.
    storage.delete(&BlobId::new(format!("{BACKUP_PREFIX}{}", upgrade.owner_id)))?;
    let config = FormatBlob::parse(&stored)?.decrypt_config(&format.key)?;
    let changed =
        || Error::new(ErrorKind::AccessDenied, "another client has just changed the format: try again");
    Err(config.upgrade_lock.as_ref().map_or_else(changed, of_somebody_else))
}

fn of_somebody_else(lock: &UpgradeLock) -> Error {
    let (owner, since) = (&lock.owner_id, lock.creation_time.to_rfc3339());
    let message = format!("{owner} upgrades the repository since {since}: go on as that owner, or roll back");
    Error::new(ErrorKind::AccessDenied, message)
}

fn new_lock(version: u32, upgrade: &UpgradeOptions, options: &OpenOptions) -> Result<UpgradeLock> {
    let refused = |why: String| Err(Error::new(ErrorKind::InvalidArgument, why));
    if upgrade.owner_id.is_empty() || upgrade.owner_id.contains('/') {
        return refused("the owner of an upgrade needs a name, without slashes".into());
    }
    if upgrade.io_drain_timeout < DRAIN_MIN && !upgrade.allow_unsafe {
        return refused("clients keep the format blob for 15 minutes: a shorter drain is not safe".into());
    }
    let lock = UpgradeLock {
        owner_id: upgrade.owner_id.clone(),
        creation_time: options.clock.now(),
        advance_notice_duration: nanoseconds(upgrade.advance_notice),
        io_drain_timeout: nanoseconds(upgrade.io_drain_timeout).max(1),
        status_poll_interval: nanoseconds(upgrade.status_poll_interval.min(upgrade.io_drain_timeout)),
        message: format!("Upgrading from format version {version} -> {VERSION_NEWEST}"),
        max_permitted_clock_drift: nanoseconds(upgrade.max_permitted_clock_drift).max(1),
    };
    let drain = lock.max_permitted_clock_drift.saturating_add(lock.io_drain_timeout.saturating_mul(2));
    if lock.advance_notice_duration != 0 && lock.advance_notice_duration <= drain {
        return refused(format!("advance notice must be longer than the drain, {} s", drain / 1_000_000_000));
    }
    Ok(lock)
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// When every other client is sure to have stopped.
fn drained_at(lock: &UpgradeLock) -> Timestamp {
    let drain = i128::from(lock.max_permitted_clock_drift) + 2 * i128::from(lock.io_drain_timeout);
    lock.creation_time.plus_nanoseconds(drain.max(i128::from(lock.advance_notice_duration)))
}

/// The configuration before the upgrade.
fn backup_of(storage: &dyn Storage, format: &OpenFormat) -> Result<Option<RepositoryConfig>> {
    let Some(oldest) = backups(storage)?.into_iter().next() else { return Ok(None) };
    let mut bytes = Vec::new();
    storage.get(&oldest, &mut bytes)?;
    Ok(Some(FormatBlob::parse(&bytes)?.decrypt_config(&format.key)?))
}

/// Backups of the format blob, oldest first.
fn backups(storage: &dyn Storage) -> Result<Vec<BlobId>> {
    let mut found = Vec::new();
    storage.list(BACKUP_PREFIX, &mut |blob| {
        found.push((blob.timestamp, blob.id));
        Ok(())
    })?;
    found.sort_by_key(|(timestamp, _)| *timestamp);
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// Writes all index entries as epoch 0 and says so in the format blob, which stays locked.
fn migrate(storage: &Arc<dyn Storage>, format: &mut OpenFormat, options: &OpenOptions) -> Result<()> {
    delete_epoch_blobs(storage.as_ref())?;
    let legacy = contents_of(storage, format, options, &EpochParameters::default())?;
    let joined = legacy.join_indexes(&legacy.active_index_blobs(), None)?;
    legacy.store_epoch_compaction(&joined, "xn0_")?;
    let config = upgraded(&format.config);
    format.store_config(storage.as_ref(), config)
}

/// What an upgrade makes of a configuration without epochs, its lock left aside.
pub(crate) fn upgraded(config: &RepositoryConfig) -> RepositoryConfig {
    RepositoryConfig {
        version: VERSION_NEWEST,
        epoch_parameters: default_epochs(),
        index_version: INDEX_VERSION,
        ..config.clone()
    }
}

/// The contents as the legacy indexes, or those with epochs, have them.
fn contents_of(
    storage: &Arc<dyn Storage>,
    format: &OpenFormat,
    options: &OpenOptions,
    epochs: &EpochParameters,
) -> Result<ContentManager> {
    let mut context = content_context(storage, format, options)?;
    context.epochs = epochs.clone();
    ContentManager::open(context, None)
}

fn delete_epoch_blobs(storage: &dyn Storage) -> Result<()> {
    let mut found = Vec::new();
    storage.list(EPOCH_PREFIX, &mut |blob| {
        found.push(blob.id);
        Ok(())
    })?;
    found.iter().try_for_each(|id| storage.delete(id))
}

/// Compares the legacy indexes with those with epochs, entry by entry.
fn compare_indexes(storage: &Arc<dyn Storage>, format: &OpenFormat, options: &OpenOptions) -> Result<u64> {
    let old = contents_of(storage, format, options, &EpochParameters::default())?;
    let new = contents_of(storage, format, options, &default_epochs())?;
    let (mut entries, mut entries_new) = (0u64, 0u64);
    old.for_each(true, &mut |entry| {
        entries += 1;
        if new.info(&entry.id)?.as_ref() == Some(&entry) {
            return Ok(());
        }
        let message = format!("content {} differs between the old indexes and the new ones", entry.id);
        Err(Error::new(ErrorKind::Corrupted, message).with("content", entry.id))
    })?;
    new.for_each(true, &mut |_| {
        entries_new += 1;
        Ok(())
    })?;
    if entries == entries_new {
        return Ok(entries);
    }
    if entries == 0 {
        let message = "there are no indexes of before an upgrade to compare with";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let message = format!("the old indexes have {entries} entries, the new ones {entries_new}");
    Err(Error::new(ErrorKind::Corrupted, message))
}

/// Takes the lock away; from then on there is no way back.
fn commit(storage: &dyn Storage, format: &mut OpenFormat) -> Result<()> {
    let text = b"This repository has indexes with epochs: programs that know none cannot read it.";
    storage.put(&BlobId::new(POISON_BLOB), &[text], &PutOptions::default())?;
    let config = RepositoryConfig { upgrade_lock: None, ..format.config.clone() };
    format.store_config(storage, config)?;
    backups(storage)?.iter().try_for_each(|backup| storage.delete(backup))
}
