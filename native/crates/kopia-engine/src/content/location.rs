//! One content's place in 20 bytes, and the rows that tables and maps keep.
//!
//! A row is an index key (prefix byte and hash) followed by a packed [`Location`]. Packs and formats
//! are numbers of the [`PackCatalog`](super::catalog::PackCatalog), never names: twenty million
//! entries must not hold twenty million of them.

use kopia_format::ids::HASH_LENGTH_MAX;
use kopia_format::{ContentHash, ContentId, FormatError};

/// Bytes of a packed location.
///
/// | off | size | field |
/// |---|---|---|
/// | 0 | 4 | timestamp, Unix seconds, LE |
/// | 4 | 4 | bit 31 deleted, bits 0…30 offset in the pack, LE |
/// | 8 | 4 | packed length, LE |
/// | 12 | 4 | original length, LE |
/// | 16 | 3 | pack number, LE |
/// | 19 | 1 | format number |
pub(crate) const LOCATION_LENGTH: usize = 20;

/// Longest row.
pub(crate) const ROW_LENGTH_MAX: usize = KEY_LENGTH_MAX + LOCATION_LENGTH;

/// Longest key.
pub(crate) const KEY_LENGTH_MAX: usize = 1 + HASH_LENGTH_MAX;

const DELETED: u32 = 1 << 31;

/// Where a content is, in catalog numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) timestamp_seconds: u32,
    pub(crate) offset: u32,
    pub(crate) deleted: bool,
    pub(crate) packed_length: u32,
    pub(crate) original_length: u32,
    pub(crate) pack: u32,
    pub(crate) format: u8,
}

impl Location {
    /// Packs into 20 bytes.
    pub(crate) fn encode(&self) -> [u8; LOCATION_LENGTH] {
        let mut out = [0; LOCATION_LENGTH];
        let offset = self.offset | if self.deleted { DELETED } else { 0 };
        out[0..4].copy_from_slice(&self.timestamp_seconds.to_le_bytes());
        out[4..8].copy_from_slice(&offset.to_le_bytes());
        out[8..12].copy_from_slice(&self.packed_length.to_le_bytes());
        out[12..16].copy_from_slice(&self.original_length.to_le_bytes());
        out[16..19].copy_from_slice(&self.pack.to_le_bytes()[..3]);
        out[19] = self.format;
        out
    }

    /// Unpacks; `bytes` must be 20 long, which every row guarantees.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let offset = word(4);
        Self {
            timestamp_seconds: word(0),
            offset: offset & !DELETED,
            deleted: offset & DELETED != 0,
            packed_length: word(8),
            original_length: word(12),
            pack: u32::from_le_bytes([bytes[16], bytes[17], bytes[18], 0]),
            format: bytes[19],
        }
    }
}

/// An index key: prefix byte and hash, as bytes that compare in index order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    bytes: [u8; KEY_LENGTH_MAX],
    length: u8,
}

impl Key {
    /// The key of a content.
    pub(crate) fn of(content: &ContentId) -> Self {
        let hash = content.hash().as_bytes();
        let mut bytes = [0; KEY_LENGTH_MAX];
        bytes[0] = content.prefix().unwrap_or(0);
        bytes[1..=hash.len()].copy_from_slice(hash);
        Self { bytes, length: hash.len() as u8 + 1 }
    }

    /// A key from the front of a row.
    pub(crate) fn from_bytes(key: &[u8]) -> Self {
        let mut bytes = [0; KEY_LENGTH_MAX];
        bytes[..key.len()].copy_from_slice(key);
        Self { bytes, length: key.len() as u8 }
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// A number for hash tables; the key is a keyed hash already, so its own bytes serve.
    pub(crate) fn number(&self) -> u64 {
        let b = &self.bytes;
        let hash = u64::from_le_bytes([b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8]]);
        hash ^ u64::from(b[0]).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// The content that a key names.
///
/// # Errors
/// A prefix byte outside `g`…`z` is malformed.
pub(crate) fn content_of(key: &[u8]) -> Result<ContentId, FormatError> {
    let (&prefix, hash) = key.split_first().ok_or_else(|| FormatError::malformed("index key", "empty"))?;
    ContentId::new((prefix != 0).then_some(prefix), ContentHash::new(hash)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_survives_packing() {
        let location = Location {
            timestamp_seconds: 4_000_000_000,
            offset: (1 << 31) - 1,
            deleted: true,
            packed_length: 0xFFF_FFFF,
            original_length: 0xABC_DEF0,
            pack: 0xFF_FFFE,
            format: 254,
        };
        assert_eq!(Location::decode(&location.encode()), location);
    }

    #[test]
    fn keys_order_like_content_ids() {
        let texts = ["00ff", "ff00", "k0000", "m0000"];
        let ids: Vec<_> = texts.map(|t| ContentId::parse(t).expect("valid")).to_vec();
        let keys: Vec<_> = ids.iter().map(Key::of).collect();
        assert!(keys.is_sorted());
        for (id, key) in ids.iter().zip(&keys) {
            assert_eq!(content_of(key.as_bytes()).expect("valid"), *id);
        }
    }
}
