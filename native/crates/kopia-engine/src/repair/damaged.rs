//! Index blobs that do not open, and where they are put aside.

use crate::blob::exclusive::put_new;
use crate::blob::{PutOptions, Storage};
use crate::cancel::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::OpenFormat;
use kopia_format::encryption::ContentSealer;
use kopia_format::index::IndexReader;
use kopia_format::index_blob::{CleanupRecord, CompactionLog, POISON_BLOB, open_blob};
use kopia_format::{BlobId, FormatError};
use serde::Serialize;

/// Names of blobs that were put aside begin with this, which no blob of the format does.
const ASIDE_PREFIX: &str = "damaged_";
/// Copies of one blob that are kept.
const ASIDE_COUNT_MAX: u32 = 100;

/// A blob that does not open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedBlob {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl DamagedBlob {
    pub(super) fn id(&self) -> BlobId {
        BlobId::new(&self.name)
    }
}

/// Reads every index blob and tells which are damaged.
pub(super) fn find(storage: &dyn Storage, password: &[u8], cancel: &CancelToken) -> Result<Vec<DamagedBlob>> {
    let config = OpenFormat::read(storage, password)?.config;
    let sealer = config.content_sealer()?;
    let prefixes: &[&str] =
        if config.epoch_parameters.enabled { &["xn", "xs", "xr"] } else { &["n", "m", "l"] };
    let mut names = Vec::new();
    for prefix in prefixes {
        storage.list(prefix, &mut |blob| {
            names.push(blob.id);
            Ok(())
        })?;
    }
    names.retain(|id| id.as_str() != POISON_BLOB);
    let mut damaged = Vec::new();
    let mut bytes = Vec::new();
    for id in names {
        cancel.check()?;
        match storage.get(&id, &mut bytes) {
            Err(error) if error.kind == ErrorKind::BlobNotFound => continue,
            result => result?,
        }
        if let Err(error) = check(&sealer, &id, &mut bytes) {
            damaged.push(DamagedBlob { name: id.as_str().into(), why: error.to_string() });
        }
    }
    Ok(damaged)
}

fn check(sealer: &ContentSealer, id: &BlobId, sealed: &mut Vec<u8>) -> std::result::Result<(), FormatError> {
    let plain = open_blob(sealer, id, sealed)?;
    match id.as_str().as_bytes().first() {
        Some(b'm') => CompactionLog::decode(plain).map(|_| ()),
        Some(b'l') => CleanupRecord::decode(plain).map(|_| ()),
        _ => {
            let reader = IndexReader::open(plain)?;
            (0..reader.len()).try_for_each(|position| reader.raw_entry(position).map(|_| ()))
        }
    }
}

/// Keeps `bytes` under a name that nothing has yet: what was put aside before may be needed as well.
fn keep_aside(storage: &dyn Storage, id: &BlobId, bytes: &[u8]) -> Result<BlobId> {
    let mut aside = BlobId::new(format!("{ASIDE_PREFIX}{id}"));
    let mut number = 1_u32;
    loop {
        match put_new(storage, &aside, bytes, &PutOptions::default()) {
            Err(error) if error.kind == ErrorKind::AlreadyExists && number < ASIDE_COUNT_MAX => {
                number += 1;
                aside = BlobId::new(format!("{ASIDE_PREFIX}{id}.{number}"));
            }
            result => return result.map(|()| aside),
        }
    }
}

/// Keeps a blob under another name and removes it under its own.
pub(super) fn put_aside(storage: &dyn Storage, id: &BlobId) -> Result<()> {
    let mut bytes = Vec::new();
    storage.get(id, &mut bytes)?;
    let aside = keep_aside(storage, id, &bytes)?;
    storage.sync()?;
    storage.delete(id).map_err(|error: Error| error.while_doing(format!("{id} is kept as {aside}")))
}
