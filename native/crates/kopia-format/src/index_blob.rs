//! Names and seals of index blobs and other whole-blob encrypted items (format document §4.5).
//!
//! The plain index is in [`crate::index`], which blobs count with epochs in [`crate::epoch`] and
//! without them in `legacy`. The surprise: the name carries the initialization vector, so a
//! renamed blob does not open.

mod legacy;
mod legacy_json;

#[cfg(test)]
mod tests;

use crate::encryption::ContentSealer;
use crate::error::{FormatError, Result};
use crate::hashing::ContentHasher;
use crate::ids::{BlobId, decode_hex_into};

pub use legacy::{
    CleanupRecord, CompactionLog, LEGACY_SETTLE_SECONDS, LegacyCleanup, LegacyCompactionLimits,
    LegacyDeletion, LoggedBlob, POISON_BLOB, active_legacy, is_settled_log, legacy_cleanup,
    legacy_compaction_plan, legacy_deletion,
};

/// Hex digits of the initialization vector in a name.
const IV_DIGITS: usize = 32;

/// Seals a whole blob; its name is `prefix ‖ hex(hash) ‖ ["-" ‖ suffix]`.
///
/// `nonce` must be fresh random bytes.
///
/// # Errors
/// `OutOfRange` if `plain` is longer than the cipher can take.
pub fn seal_blob(
    hasher: &ContentHasher,
    sealer: &ContentSealer,
    prefix: &str,
    suffix: Option<&str>,
    nonce: [u8; 12],
    plain: &[u8],
) -> Result<(BlobId, Vec<u8>)> {
    let hash = hasher.hash(plain);
    let mut name = format!("{prefix}{}", hash.to_hex());
    if let Some(suffix) = suffix {
        name.push('-');
        name.push_str(suffix);
    }
    let mut sealed = Vec::new();
    sealer.seal_append(hash.iv(), nonce, plain, &mut sealed)?;
    Ok((BlobId::from(name.as_str()), sealed))
}

/// Opens a whole blob; the initialization vector comes from its name.
///
/// # Errors
/// `Malformed` if the name holds no hash, `Corrupted` if the seal does not match.
pub fn open_blob<'a>(sealer: &ContentSealer, name: &BlobId, sealed: &'a mut Vec<u8>) -> Result<&'a mut [u8]> {
    sealer.open_in_place(&iv_of_name(name.as_str())?, sealed)
}

/// The last 16 bytes of the hash in a blob name, which ends at the first `-`.
fn iv_of_name(name: &str) -> Result<[u8; 16]> {
    let hashed = name.split_once('-').map_or(name, |(hashed, _)| hashed).as_bytes();
    let digits = &hashed[hashed.len().saturating_sub(IV_DIGITS)..];
    let mut iv = [0; IV_DIGITS / 2];
    match decode_hex_into(digits, &mut iv) {
        Some(length) if length == iv.len() => Ok(iv),
        _ => Err(FormatError::malformed("blob name", format!("no hash in {name:?}"))),
    }
}
