//! The copy of the format blob in each pack of repositories that cannot change their password
//! (format document §2.8), so that a lost `kopia.repository` can be found again.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | `L`, u16 LE: length of `F` and `H` together |
//! | 2 | L−32 | `F`, the bytes of `kopia.repository` |
//! | L−30 | 32 | `H`, HMAC-SHA256 of `F` under a key that is no secret |
//! | 2+L | 2 | `L` again, so that it can be found from behind too |

use crate::error::{FormatError, FormatErrorKind, Result};
use aws_lc_rs::hmac;

const CHECKSUM_KEY: &[u8] = b"kopia-repository";
const CHECKSUM_LENGTH: usize = 32;
const CHECKED_LENGTH_MAX: usize = 65_000;

/// The copy of the format blob that starts each pack where `enablePasswordChange` is false (§2.8): `L‖F‖H‖L`.
///
/// # Errors
/// `OutOfRange` if the blob is longer than 64 968 bytes.
pub fn pack_prefix(format_blob_bytes: &[u8]) -> Result<Vec<u8>> {
    let checked_length = format_blob_bytes.len() + CHECKSUM_LENGTH;
    if checked_length > CHECKED_LENGTH_MAX {
        let why = format!("format blob of {} bytes is too long", format_blob_bytes.len());
        return Err(FormatError::new(FormatErrorKind::OutOfRange, "pack prefix", why));
    }
    let length = (checked_length as u16).to_le_bytes();
    let checksum = hmac::sign(&checksum_key(), format_blob_bytes);
    Ok([&length[..], format_blob_bytes, checksum.as_ref(), &length].concat())
}

/// Finds a format blob copy at the start (or the end) of a pack.
pub fn recover_from_pack(first_64k: &[u8], last_64k: &[u8]) -> Option<Vec<u8>> {
    recover_from_start(first_64k).or_else(|| recover_from_end(last_64k)).map(<[u8]>::to_vec)
}

fn recover_from_start(chunk: &[u8]) -> Option<&[u8]> {
    let (length, rest) = chunk.split_first_chunk()?;
    verified(rest.get(..checked_length(*length)?)?)
}

fn recover_from_end(chunk: &[u8]) -> Option<&[u8]> {
    let (rest, length) = chunk.split_last_chunk()?;
    verified(&rest[rest.len().checked_sub(checked_length(*length)?)?..])
}

fn checked_length(bytes: [u8; 2]) -> Option<usize> {
    let length = usize::from(u16::from_le_bytes(bytes));
    (length <= CHECKED_LENGTH_MAX).then_some(length)
}

/// `F` of `F‖H`, if `H` matches.
fn verified(checked: &[u8]) -> Option<&[u8]> {
    let (format_blob, checksum) = checked.split_last_chunk::<CHECKSUM_LENGTH>()?;
    hmac::verify(&checksum_key(), format_blob, checksum).ok()?;
    Some(format_blob)
}

fn checksum_key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, CHECKSUM_KEY)
}
