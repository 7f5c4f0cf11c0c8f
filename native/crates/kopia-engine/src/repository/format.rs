//! Reading the format blob, and watching it while the repository is open.
//!
//! The key comes from the password once; the blob itself is read again with every refresh, at
//! the latest after 15 minutes, which is what upgrades and their locks rely on.

use crate::blob::Storage;
use crate::blob::retention::BlobRetention;
use crate::clock::Clock;
use crate::content::context::fill_random;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::format_blob::{
    self, BlobConfig, EpochParameters, FormatBlob, FormatEncryptionKey, RepositoryConfig,
};
use kopia_format::{BlobId, Timestamp};
use std::sync::Arc;

/// Name of the format blob.
pub(crate) const FORMAT_BLOB: &str = "kopia.repository";
/// Name of the blob with the retention settings.
pub(super) const BLOB_CONFIG: &str = "kopia.blobcfg";

/// The format of a repository, decrypted.
pub(crate) struct OpenFormat {
    pub(super) blob: FormatBlob,
    /// The blob as stored: packs of old repositories begin with exactly these bytes.
    pub(super) bytes: Vec<u8>,
    pub(super) key: FormatEncryptionKey,
    pub(crate) config: RepositoryConfig,
    pub(super) retention: BlobRetention,
}

impl OpenFormat {
    /// Reads and decrypts; takes 64 MiB while the key is derived.
    pub(crate) fn read(storage: &dyn Storage, password: &[u8]) -> Result<Self> {
        if storage.is_local() {
            let bytes = get_format_blob(storage)?;
            let key = derive(&bytes, password)?;
            return Self::decrypt(bytes, key, || get_settings(storage));
        }
        std::thread::scope(|scope| {
            let settings = scope.spawn(|| get_settings(storage));
            // From a copy that is out of date comes a key that is not used.
            let copy = storage.remembered(&BlobId::new(FORMAT_BLOB));
            let early = copy.map(|bytes| scope.spawn(|| derive(&bytes, password).map(|key| (bytes, key))));
            let bytes = get_format_blob(storage)?;
            let early = early.and_then(|thread| thread.join().ok()?.ok());
            let key = match early {
                Some((copy, key)) if copy == bytes => key,
                _ => derive(&bytes, password)?,
            };
            Self::decrypt(bytes, key, || settings.join().unwrap_or_else(|_| get_settings(storage)))
        })
    }

    /// `settings` gives the blob with the retention settings, if there is one.
    fn decrypt(
        bytes: Vec<u8>,
        key: FormatEncryptionKey,
        settings: impl FnOnce() -> Result<Option<Vec<u8>>>,
    ) -> Result<Self> {
        let blob = FormatBlob::parse(&bytes).map_err(|error| in_format_blob(error.into()))?;
        let config = blob.decrypt_config(&key).map_err(|error| in_format_blob(error.into()))?;
        for feature in config.check_required_features()? {
            tracing::warn!(feature = feature.feature, "{}", feature.unsupported_message());
        }
        let settings = match settings()? {
            Some(sealed) => blob.open_blob_config(&key, &sealed)?,
            None => BlobConfig::default(),
        };
        let retention = BlobRetention::from_config(&settings)?;
        Ok(Self { blob, bytes, key, config, retention })
    }

    /// Start of every pack: a copy of the format blob where the password cannot be changed.
    pub(super) fn pack_prefix(&self) -> Result<Vec<u8>> {
        if self.config.enable_password_change {
            return Ok(Vec::new());
        }
        Ok(format_blob::pack_prefix(&self.bytes)?)
    }

    /// Stores `config` in the place of the present one.
    pub(super) fn store_config(&mut self, storage: &dyn Storage, config: RepositoryConfig) -> Result<()> {
        let mut nonce = [0; 12];
        fill_random(&mut nonce)?;
        self.blob.encrypt_config(&self.key, &config, nonce)?;
        self.bytes = self.blob.encode();
        self.config = config;
        let id = BlobId::new(FORMAT_BLOB);
        storage.put(&id, &[&self.bytes], &self.retention.put_options(&id))?;
        storage.sync()
    }

    /// Stores the retention settings in the place of the present ones.
    pub(super) fn store_retention(&mut self, storage: &dyn Storage, retention: BlobRetention) -> Result<()> {
        let mut nonce = [0; 12];
        fill_random(&mut nonce)?;
        let sealed = self.blob.seal_blob_config(&self.key, &retention.to_config(), nonce)?;
        let id = BlobId::new(BLOB_CONFIG);
        storage.put(&id, &[&sealed], &retention.put_options(&id))?;
        self.retention = retention;
        storage.sync()
    }

    /// # Errors
    /// A temporary `AccessDenied` while another client upgrades the repository.
    pub(super) fn check_lock(&self, now: Timestamp) -> Result<()> {
        check_lock(&self.config, now)
    }
}

pub(super) fn check_lock(config: &RepositoryConfig, now: Timestamp) -> Result<()> {
    match &config.upgrade_lock {
        Some(lock) if lock.is_locked(now) => {
            let owner = &lock.owner_id;
            let message = format!("repository upgrade in progress by {owner}; try again when it is done");
            Err(Error::new(ErrorKind::AccessDenied, message).temporary())
        }
        _ => Ok(()),
    }
}

pub(crate) fn get_format_blob(storage: &dyn Storage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match storage.get(&BlobId::new(FORMAT_BLOB), &mut bytes) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => {
            let message = format!("no repository at {}: it has no {FORMAT_BLOB}", storage.describe());
            Err(Error::new(ErrorKind::RepositoryNotFound, message).caused_by(error))
        }
        result => result.map(|()| bytes),
    }
}

fn in_format_blob(error: Error) -> Error {
    match error.kind {
        ErrorKind::InvalidPassword => Error::new(ErrorKind::InvalidPassword, "invalid repository password"),
        _ => error.while_doing(FORMAT_BLOB).with("blob", FORMAT_BLOB),
    }
}

fn derive(format_blob: &[u8], password: &[u8]) -> Result<FormatEncryptionKey> {
    let blob = FormatBlob::parse(format_blob).map_err(|error| in_format_blob(error.into()))?;
    Ok(blob.derive_key(password)?)
}

fn get_settings(storage: &dyn Storage) -> Result<Option<Vec<u8>>> {
    let mut sealed = Vec::new();
    match storage.get(&BlobId::new(BLOB_CONFIG), &mut sealed) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => Ok(None),
        result => result.map(|()| Some(sealed)),
    }
}

/// Looks at the format blob again and says whether the repository may still be used.
pub(super) struct FormatWatch {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    key: FormatEncryptionKey,
    opened: RepositoryConfig,
}

impl FormatWatch {
    pub(super) fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, format: &OpenFormat) -> Self {
        Self { storage, clock, key: format.key.clone(), opened: format.config.clone() }
    }

    /// # Errors
    /// A temporary `AccessDenied` during an upgrade; `UnsupportedFormat` if the format has changed
    /// under this client; `InvalidPassword` if the password was changed.
    pub(super) fn check(&self) -> Result<()> {
        let bytes = get_format_blob(self.storage.as_ref())?;
        let blob = FormatBlob::parse(&bytes).map_err(|error| in_format_blob(error.into()))?;
        let config = blob.decrypt_config(&self.key).map_err(|error| in_format_blob(error.into()))?;
        check_lock(&config, self.clock.now())?;
        if how_to_write(&config) != how_to_write(&self.opened) {
            let message = "the format of the repository was changed by another client; open it again";
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        Ok(())
    }
}

/// The configuration without what may change under an open repository: packs and indexes as this client
/// goes on to write them can be read by all, whatever was set meanwhile.
fn how_to_write(config: &RepositoryConfig) -> RepositoryConfig {
    let enabled = config.epoch_parameters.enabled;
    RepositoryConfig {
        upgrade_lock: None,
        required_features: Vec::new(),
        max_pack_size: 0,
        index_version: 0,
        epoch_parameters: EpochParameters { enabled, ..EpochParameters::default() },
        ..config.clone()
    }
}
