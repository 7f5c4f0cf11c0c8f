//! Changing the password: the format blobs are sealed again, everything else stays (format document §2.5).
//!
//! Two blobs change, and no storage changes two at once. Where no object locks are set the settings are
//! taken away first (absent means none) and written last, so that one password or the other always
//! opens the repository. With locks there is a moment in which neither does; calling this again with
//! the same two passwords goes on from any state.

use super::format::{BLOB_CONFIG, FORMAT_BLOB, check_lock, get_format_blob};
use super::{OpenOptions, Repository};
use crate::blob::Storage;
use crate::blob::retention::BlobRetention;
use crate::content::context::fill_random;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::format_blob::{BlobConfig, FormatBlob, FormatEncryptionKey, RepositoryConfig};
use kopia_format::{BlobId, FormatError};
use std::time::Duration;

/// Other clients may go on with their copy of the format blob for so long.
const COPIES_LIVE: Duration = Duration::from_secs(15 * 60);

/// What a change of password did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordChange {
    /// An earlier change was cut off, and is finished now.
    pub resumed: bool,
    /// Clients that are running need the new password at the latest after this.
    pub copies_live: Duration,
}

impl Repository {
    /// Makes `new` the password that opens the repository, instead of `old`.
    ///
    /// # Errors
    /// `UnsupportedFormat` if this repository's password cannot be changed (made by Kopia 0.8 or older);
    /// `InvalidPassword` if neither password opens it; `InvalidArgument` for an empty new one.
    pub fn change_password(
        storage: &dyn Storage,
        old: impl AsRef<[u8]>,
        new: impl AsRef<[u8]>,
        options: &OpenOptions,
    ) -> Result<PasswordChange> {
        if new.as_ref().is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "the new password is empty"));
        }
        let bytes = get_format_blob(storage)?;
        let blob = FormatBlob::parse(&bytes)?;
        let keys = Keys { old: blob.derive_key(old)?, new: blob.derive_key(new)? };
        let (config, format_is_new) = keys.open(|key| blob.decrypt_config(key))?;
        check_lock(&config, options.clock.now())?;
        check_changeable(&config)?;
        let settings = read_settings(storage, &blob, &keys)?;
        Change { storage, blob, keys, config, format_is_new, settings }.carry_out()
    }
}

fn check_changeable(config: &RepositoryConfig) -> Result<()> {
    if config.enable_password_change {
        return Ok(());
    }
    let message = "the password of this repository cannot be changed: each of its packs holds a copy of the \
                   format blob under the old one (it was made in format 1); copy the snapshots to a new repository";
    Err(Error::new(ErrorKind::UnsupportedFormat, message))
}

struct Keys {
    old: FormatEncryptionKey,
    new: FormatEncryptionKey,
}

impl Keys {
    /// Opens with either key; whether it was the new one.
    fn open<T>(
        &self,
        open: impl Fn(&FormatEncryptionKey) -> std::result::Result<T, FormatError>,
    ) -> Result<(T, bool)> {
        match open(&self.old) {
            Ok(opened) => Ok((opened, false)),
            Err(with_old) => match open(&self.new) {
                Ok(opened) => Ok((opened, true)),
                Err(_) => Err(with_old.into()),
            },
        }
    }
}

/// The settings as stored, and with which password; `None` if there are none.
fn read_settings(
    storage: &dyn Storage,
    blob: &FormatBlob,
    keys: &Keys,
) -> Result<Option<(BlobConfig, bool)>> {
    let mut sealed = Vec::new();
    match storage.get(&BlobId::new(BLOB_CONFIG), &mut sealed) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => Ok(None),
        result => {
            result?;
            let opened = keys.open(|key| blob.open_blob_config(key, &sealed));
            opened.map(Some).map_err(|error| error.while_doing(BLOB_CONFIG))
        }
    }
}

struct Change<'a> {
    storage: &'a dyn Storage,
    blob: FormatBlob,
    keys: Keys,
    config: RepositoryConfig,
    format_is_new: bool,
    settings: Option<(BlobConfig, bool)>,
}

impl Change<'_> {
    fn carry_out(mut self) -> Result<PasswordChange> {
        let settings_are_new = self.settings.as_ref().is_some_and(|(_, is_new)| *is_new);
        let resumed = self.format_is_new || settings_are_new;
        let settings = self.settings.take().map(|(settings, _)| settings).unwrap_or_default();
        let retention = BlobRetention::from_config(&settings)?;
        if retention.0.is_some() {
            self.put_settings(&settings, &retention)?;
            self.put_format(&retention)?;
        } else {
            self.storage.delete(&BlobId::new(BLOB_CONFIG))?;
            self.storage.sync()?;
            self.put_format(&retention)?;
            self.put_settings(&settings, &retention)?;
        }
        self.check()?;
        Ok(PasswordChange { resumed, copies_live: COPIES_LIVE })
    }

    fn put_format(&mut self, retention: &BlobRetention) -> Result<()> {
        if self.format_is_new {
            return Ok(());
        }
        let mut nonce = [0; 12];
        fill_random(&mut nonce)?;
        self.blob.encrypt_config(&self.keys.new, &self.config, nonce)?;
        self.put(FORMAT_BLOB, &self.blob.encode(), retention)
    }

    fn put_settings(&self, settings: &BlobConfig, retention: &BlobRetention) -> Result<()> {
        let mut nonce = [0; 12];
        fill_random(&mut nonce)?;
        let sealed = self.blob.seal_blob_config(&self.keys.new, settings, nonce)?;
        self.put(BLOB_CONFIG, &sealed, retention)
    }

    fn put(&self, name: &str, bytes: &[u8], retention: &BlobRetention) -> Result<()> {
        let id = BlobId::new(name);
        self.storage.put(&id, &[bytes], &retention.put_options(&id))?;
        self.storage.sync()
    }

    /// Reads both back as the next client will.
    fn check(&self) -> Result<()> {
        let stored = FormatBlob::parse(&get_format_blob(self.storage)?)?;
        stored.decrypt_config(&self.keys.new)?;
        let settings = read_settings(self.storage, &stored, &self.keys)?;
        match settings {
            Some((_, true)) => Ok(()),
            _ => Err(Error::new(ErrorKind::Storage, "the settings blob does not read back as written")),
        }
    }
}
