//! Numbered blocks of a local file, sealed under a key of that file alone.
//!
//! Not of Kopia's format: what a client keeps on its own disk. The surprise: the number is the nonce, so each may be
//! sealed once only, and a block that stands at another's place does not open.

use crate::error::{FormatError, FormatErrorKind, Result};
use ring::aead::{Aad, LessSafeKey, Nonce};
use std::fmt;

/// Bytes that a block is longer when sealed.
pub const BLOCK_OVERHEAD: usize = 16;

/// Seals and opens the blocks of one file.
pub struct BlockCipher(LessSafeKey);

impl fmt::Debug for BlockCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockCipher(***)")
    }
}

impl BlockCipher {
    pub(super) fn new(key: LessSafeKey) -> Self {
        Self(key)
    }

    /// Seals the end of `out`, from `start` on, as block `number`, and appends its tag.
    ///
    /// # Errors
    /// `OutOfRange` if it is longer than the cipher can take.
    pub fn seal(&self, number: u64, start: usize, out: &mut Vec<u8>) -> Result<()> {
        let tag = self.0.seal_in_place_separate_tag(nonce(number), Aad::empty(), &mut out[start..]);
        let tag = tag.map_err(|_| {
            FormatError::new(FormatErrorKind::OutOfRange, "block", "plain text too long for the cipher")
        })?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens block `number` where it stands; its plain text is the returned part.
    ///
    /// # Errors
    /// `Corrupted` if it is not the one that was sealed under this number.
    pub fn open<'a>(&self, number: u64, sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        self.0
            .open_in_place(nonce(number), Aad::empty(), sealed)
            .map_err(|_| FormatError::corrupted("block", "the tag does not match"))
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
