//! The piece of zeroes: hashed once, stored when it is first used.

use super::layout::PIECE_BYTES;
use crate::content::{ContentManager, WriteScratch, Written};
use crate::error::Result;
use kopia_format::compression::CompressorId;
use kopia_format::{ContentId, ObjectId};
use parking_lot::Mutex;

/// The ID of a piece of zeroes in this repository.
///
/// # Errors
/// None in practice: the hash has a length that IDs have.
pub(super) fn zero_content(contents: &ContentManager) -> Result<ContentId> {
    let hash = contents.hasher().hash(&vec![0; PIECE_BYTES as usize]);
    Ok(ContentId::new(None, hash)?)
}

/// The piece of zeroes of one backup.
pub(super) struct ZeroPiece<'a> {
    contents: &'a ContentManager,
    content: ContentId,
    stored: Mutex<bool>,
}

impl<'a> ZeroPiece<'a> {
    /// # Errors
    /// As [`zero_content`].
    pub(super) fn new(contents: &'a ContentManager) -> Result<Self> {
        Ok(Self { contents, content: zero_content(contents)?, stored: Mutex::new(false) })
    }

    /// Its object, whether stored or not.
    pub(super) fn object(&self) -> ObjectId {
        ObjectId::direct(self.content)
    }

    /// Its object, stored by now; bytes that this took in a pack.
    ///
    /// # Errors
    /// Those of storing contents.
    pub(super) fn used(&self) -> Result<(ObjectId, u64)> {
        let mut stored = self.stored.lock();
        if *stored {
            return Ok((self.object(), 0));
        }
        let mut data = vec![0; PIECE_BYTES as usize];
        let scratch = &mut WriteScratch::default();
        let written = self.contents.put_hashed(self.content, &mut data, CompressorId::NONE, scratch)?;
        *stored = true;
        let bytes = match written {
            Written::New { packed_length } => u64::from(packed_length),
            Written::Deduplicated => 0,
        };
        Ok((self.object(), bytes))
    }
}
