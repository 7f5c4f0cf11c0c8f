//! The format blob, without which nothing opens: found again in the backup that an upgrade leaves, or
//! in any pack of an old repository (format document §2.6, §2.8).

use super::RepairOptions;
use super::damaged::put_aside;
use crate::blob::{BlobMetadata, PutOptions, Storage};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::FORMAT_BLOB;
use kopia_format::format_blob::{FormatBlob, recover_from_pack};
use kopia_format::{BlobId, FormatError};
use serde::Serialize;

const BACKUP_PREFIX: &str = "kopia.repository.backup.";
/// Packs that are looked at for a copy: those of a repository either all have one or none.
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

pub(super) fn repair(storage: &dyn Storage, password: &str, options: &RepairOptions) -> Result<FormatRepair> {
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
        storage.put(&id, &[&bytes], &PutOptions::default())?;
        storage.sync()?;
    }
    Ok(FormatRepair { state, copy_in: Some(copy_in.as_str().into()), restored: !options.dry_run })
}

/// # Errors
/// `InvalidPassword` if it is whole but does not open: that is no damage.
fn state(storage: &dyn Storage, password: &str) -> Result<FormatState> {
    let mut bytes = Vec::new();
    match storage.get(&BlobId::new(FORMAT_BLOB), &mut bytes) {
        Err(error) if error.kind == ErrorKind::BlobNotFound => return Ok(FormatState::Missing),
        result => result?,
    }
    let Ok(blob) = FormatBlob::parse(&bytes) else { return Ok(FormatState::Damaged) };
    blob.decrypt_config(&blob.derive_key(password)?)?;
    Ok(FormatState::Sound)
}

fn find_copy(
    storage: &dyn Storage,
    password: &str,
    options: &RepairOptions,
) -> Result<Option<(BlobId, Vec<u8>)>> {
    let mut refused = None;
    let mut found = None;
    for candidate in list(storage, BACKUP_PREFIX, usize::MAX)? {
        let mut bytes = Vec::new();
        storage.get(&candidate.id, &mut bytes)?;
        match opens(&bytes, password) {
            Ok(()) => return Ok(Some((candidate.id, bytes))),
            Err(error) => refused = Some(error),
        }
    }
    for prefix in ["q", "p"] {
        for pack in list(storage, prefix, PACKS_TRIED)? {
            options.cancel.check()?;
            if let Some(bytes) = copy_in(storage, &pack)? {
                match opens(&bytes, password) {
                    Ok(()) => found = Some((pack.id, bytes)),
                    Err(error) => refused = Some(error),
                }
                break;
            }
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    refused.map_or(Ok(None), |error| Err(Error::from(error).while_doing("the copy of the format blob")))
}

fn opens(bytes: &[u8], password: &str) -> std::result::Result<(), FormatError> {
    let blob = FormatBlob::parse(bytes)?;
    blob.decrypt_config(&blob.derive_key(password)?).map(|_| ())
}

fn list(storage: &dyn Storage, prefix: &str, count_max: usize) -> Result<Vec<BlobMetadata>> {
    let mut found = Vec::new();
    storage.list(prefix, &mut |blob| {
        if found.len() < count_max {
            found.push(blob);
        }
        Ok(())
    })?;
    Ok(found)
}

fn copy_in(storage: &dyn Storage, pack: &BlobMetadata) -> Result<Option<Vec<u8>>> {
    let length = pack.length.min(COPY_BYTES);
    let (mut first, mut last) = (Vec::new(), Vec::new());
    storage.get_range(&pack.id, 0, length, &mut first)?;
    storage.get_range(&pack.id, pack.length - length, length, &mut last)?;
    Ok(recover_from_pack(&first, &last))
}
