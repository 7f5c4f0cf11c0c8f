//! The format blob, without which nothing opens: found again in the backup that an upgrade leaves, or
//! in any pack of an old repository (format document §2.6, §2.8).

use super::RepairOptions;
use super::damaged::put_aside;
use crate::blob::exclusive::put_new;
use crate::blob::{BlobMetadata, PutOptions, Storage};
use crate::content::context::fill_random;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::{FORMAT_BLOB, upgraded};
use kopia_format::format_blob::{FormatBlob, FormatEncryptionKey, recover_from_pack};
use kopia_format::index_blob::POISON_BLOB;
use kopia_format::{BlobId, FormatError};
use serde::Serialize;

const BACKUP_PREFIX: &str = "kopia.repository.backup.";
/// Blobs of a kind that are looked at for a copy, the newest first: they say best how the repository is now.
const PACKS_TRIED: usize = 100;
/// Bytes at each end of a pack that may hold a copy.
const COPY_BYTES: u64 = 64 << 10;

/// How the format blob was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatState {
    /// It opens.
    Sound,
    /// It is not there.
    Missing,
    /// It is there and cannot be read.
    Damaged,
}

/// What became of the format blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FormatRepair {
    /// How it was found.
    pub state: FormatState,
    /// The blob that holds a copy which opens with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_in: Option<String>,
    /// Whether the copy was put in its place.
    pub restored: bool,
}

pub(super) fn repair(
    storage: &dyn Storage,
    password: &[u8],
    options: &RepairOptions,
) -> Result<FormatRepair> {
    let state = state(storage, password)?;
    if state == FormatState::Sound {
        return Ok(FormatRepair { state, copy_in: None, restored: false });
    }
    let Some((copy_in, bytes)) = find_copy(storage, password, options)? else {
        return Ok(FormatRepair { state, copy_in: None, restored: false });
    };
    if !options.dry_run {
        let id = BlobId::new(FORMAT_BLOB);
        if state == FormatState::Damaged {
            put_aside(storage, &id)?;
        }
        // It is not there: if somebody puts one meanwhile, that is the newer.
        put_new(storage, &id, &bytes, &PutOptions::default())?;
        storage.sync()?;
    }
    Ok(FormatRepair { state, copy_in: Some(copy_in.as_str().into()), restored: !options.dry_run })
}

/// # Errors
/// `InvalidPassword` if it is whole but does not open: that is no damage.
fn state(storage: &dyn Storage, password: &[u8]) -> Result<FormatState> {
    let mut bytes = Vec::new();
    match storage.get(&BlobId::new(FORMAT_BLOB), &mut bytes) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => return Ok(FormatState::Missing),
        result => result?,
    }
    let Ok(blob) = FormatBlob::parse(&bytes) else { return Ok(FormatState::Damaged) };
    blob.decrypt_config(&blob.derive_key(password)?)?;
    Ok(FormatState::Sound)
}

/// A copy of the format blob that opens, and where it was.
fn find_copy(
    storage: &dyn Storage,
    password: &[u8],
    options: &RepairOptions,
) -> Result<Option<(BlobId, Vec<u8>)>> {
    let mut search = Search { password, key: None, was_upgraded: exists(storage, POISON_BLOB)?, older: None };
    let mut refused = None;
    for candidate in newest(storage, BACKUP_PREFIX)? {
        let mut bytes = Vec::new();
        storage.get(&candidate.id, &mut bytes)?;
        match search.judge(&candidate.id, bytes) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => refused = Some(error),
        }
    }
    for pack in newest(storage, "q")?.into_iter().chain(newest(storage, "p")?) {
        options.cancel.check()?;
        let Some(bytes) = copy_in(storage, &pack)? else { continue };
        match search.judge(&pack.id, bytes) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    if let Some(older) = search.older {
        return Ok(Some(older));
    }
    refused.map_or(Ok(None), |error| Err(Error::from(error).while_doing("the copy of the format blob")))
}

/// Looks for the copy that says how the repository is now.
struct Search<'a> {
    password: &'a [u8],
    /// All copies have the same: deriving it takes long.
    key: Option<FormatEncryptionKey>,
    was_upgraded: bool,
    /// What a copy from before an upgrade becomes by it.
    older: Option<(BlobId, Vec<u8>)>,
}

impl Search<'_> {
    /// The copy, if it is what is looked for; one from before an upgrade is kept for the case that there is no other.
    fn judge(
        &mut self,
        id: &BlobId,
        bytes: Vec<u8>,
    ) -> std::result::Result<Option<(BlobId, Vec<u8>)>, FormatError> {
        let mut blob = FormatBlob::parse(&bytes)?;
        let key = match &self.key {
            Some(key) => key,
            None => self.key.insert(blob.derive_key(self.password)?),
        };
        let config = blob.decrypt_config(key)?;
        if !self.was_upgraded || config.epoch_parameters.enabled {
            return Ok(Some((id.clone(), bytes)));
        }
        // Its indexes are not read any more: taken as it is, it would show the repository as it was.
        if self.older.is_none() {
            let mut nonce = [0; 12];
            fill_random(&mut nonce).map_err(|error| FormatError::malformed("nonce", error.to_string()))?;
            blob.encrypt_config(key, &upgraded(&config), nonce)?;
            self.older = Some((id.clone(), blob.encode()));
        }
        Ok(None)
    }
}

/// The newest blobs of a prefix, newest first.
fn newest(storage: &dyn Storage, prefix: &str) -> Result<Vec<BlobMetadata>> {
    let mut found: Vec<BlobMetadata> = Vec::new();
    let keep_newest = |found: &mut Vec<BlobMetadata>| {
        found.sort_by_key(|blob| std::cmp::Reverse(blob.timestamp));
        found.truncate(PACKS_TRIED);
    };
    storage.list(prefix, &mut |blob| {
        found.push(blob);
        if found.len() >= 10 * PACKS_TRIED {
            keep_newest(&mut found);
        }
        Ok(())
    })?;
    keep_newest(&mut found);
    Ok(found)
}

fn exists(storage: &dyn Storage, name: &str) -> Result<bool> {
    match storage.metadata(&BlobId::new(name)) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => Ok(false),
        found => found.map(|_| true),
    }
}

fn copy_in(storage: &dyn Storage, pack: &BlobMetadata) -> Result<Option<Vec<u8>>> {
    let length = pack.length.min(COPY_BYTES);
    let (mut first, mut last) = (Vec::new(), Vec::new());
    storage.get_range(&pack.id, 0, length, &mut first)?;
    storage.get_range(&pack.id, pack.length - length, length, &mut last)?;
    Ok(recover_from_pack(&first, &last))
}
