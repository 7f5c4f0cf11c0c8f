//! Puts of what must not be there yet: of two clients that come at once one wins, and the other is told.
//!
//! The storage decides (`If-None-Match: *`, a generation of 0, a rename that does not replace). A put whose answer was
//! lost is tried again and finds its own blob: the bytes say whose it is. Object stores that do not know conditions
//! refuse them or, worse, do as if they were not there; whoever decides something by such a blob reads it back.

use super::storage::{PutOptions, Storage};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::BlobId;

/// Stores a blob that must not be there yet.
///
/// # Errors
/// `AlreadyExists` if it is there with other bytes; what the storage says.
pub(crate) fn put_new(storage: &dyn Storage, id: &BlobId, bytes: &[u8], options: &PutOptions) -> Result<()> {
    let conditional = PutOptions { do_not_replace: true, ..options.clone() };
    match storage.put(id, &[bytes], &conditional) {
        Err(error) if error.kind == ErrorKind::AlreadyExists => {
            if holds(storage, id, bytes)? {
                Ok(())
            } else {
                Err(error.with("blob", id))
            }
        }
        Err(error) if error.kind == ErrorKind::UnsupportedFormat => {
            tracing::debug!(%error, "the storage knows no conditions");
            match storage.metadata(id) {
                Err(missing) if missing.kind == ErrorKind::BlobNotFound => storage.put(id, &[bytes], options),
                Ok(_) => Err(exists(storage, id)),
                Err(error) => Err(error),
            }
        }
        result => result,
    }
}

/// Whether a put that must not replace `id`, which is there with `bytes`, is refused as it should be.
pub(crate) fn knows_conditions(
    storage: &dyn Storage,
    id: &BlobId,
    bytes: &[u8],
    options: &PutOptions,
) -> Result<bool> {
    let conditional = PutOptions { do_not_replace: true, ..options.clone() };
    match storage.put(id, &[bytes], &conditional) {
        Ok(()) => Ok(false),
        Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(true),
        Err(error) if error.kind == ErrorKind::UnsupportedFormat => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a blob is there with exactly these bytes.
pub(crate) fn holds(storage: &dyn Storage, id: &BlobId, bytes: &[u8]) -> Result<bool> {
    let mut there = Vec::new();
    match storage.get(id, &mut there) {
        Ok(()) => Ok(there == bytes),
        Err(error) if error.kind == ErrorKind::BlobNotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn exists(storage: &dyn Storage, id: &BlobId) -> Error {
    let message = format!("blob {id} exists in {} already", storage.describe());
    Error::new(ErrorKind::AlreadyExists, message).with("blob", id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::memory::MemoryStorage;

    #[test]
    fn what_is_there_with_the_same_bytes_is_the_lost_answers_own() {
        let storage = MemoryStorage::new();
        let id = BlobId::new("kopia.repository");
        let put = |bytes: &[u8]| put_new(&storage, &id, bytes, &PutOptions::default());
        put(b"ours").expect("the first");
        put(b"ours").expect("tried again");
        assert_eq!(put(b"theirs").expect_err("another's").kind, ErrorKind::AlreadyExists);
        assert!(holds(&storage, &id, b"ours").expect("there"));
        assert!(knows_conditions(&storage, &id, b"ours", &PutOptions::default()).expect("asked"));
    }
}
