//! Layout of a pack blob: preamble, padding, local index, postamble (format document §4.3).
//!
//! ```text
//! [copy of the format blob, old repositories only] [32 random bytes] [sealed contents]
//! [1..=4096 random bytes] [sealed local index] [postamble] [u8 length of the postamble]
//! ```
//!
//! Sealing and the local index itself are not here: see [`crate::encryption`] and
//! [`crate::index`]. The surprise: a pack that already ends on a boundary gets a whole unit of
//! padding.

use crate::error::{FormatError, Result};

/// Random bytes before the first content.
pub const PREAMBLE_LENGTH: usize = 32;
/// The local index starts on a multiple of this.
pub const PADDING_UNIT: usize = 4096;

const POSTAMBLE_VERSION: u64 = 1;
const CRC_LENGTH: usize = 4;

/// Random bytes of padding that a pack of `length` bytes gets before its local index: 1..=4096.
pub fn padding_length(length: u64) -> usize {
    // The remainder is less than the unit, so it fits.
    PADDING_UNIT - (length % PADDING_UNIT as u64) as usize
}

/// Where the local index of a pack is: what index recovery needs beside the keys.
///
/// | size | field |
/// |------|-------|
/// | uvarint | version, 1 |
/// | uvarint, … | length of the initialization vector, the vector |
/// | uvarint | offset of the local index in the pack |
/// | uvarint | length of the local index, sealed |
/// | 4 | CRC-32 (IEEE) of the above, big-endian |
/// | 1 | number of bytes above, with the CRC |
///
/// It is not sealed: trust the local index only after opening its seal.
/// Source: Kopia `repo/content/content_index_recovery.go`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postamble {
    /// The *whole* repository hash of the plain local index, unlike that of contents (last 16 bytes).
    pub local_index_iv: Vec<u8>,
    /// First byte of the sealed local index in the pack.
    pub local_index_offset: u32,
    /// Length of the sealed local index, in bytes.
    pub local_index_length: u32,
}

impl Postamble {
    /// Bytes, with CRC and length byte.
    ///
    /// The vector is a hash of at most 32 bytes; one of more than 200 would not fit the length
    /// byte and gives a postamble that no reader finds.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.local_index_iv.len() + 20);
        write_uvarint(POSTAMBLE_VERSION, &mut out);
        write_uvarint(self.local_index_iv.len() as u64, &mut out);
        out.extend_from_slice(&self.local_index_iv);
        write_uvarint(u64::from(self.local_index_offset), &mut out);
        write_uvarint(u64::from(self.local_index_length), &mut out);
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out.push(u8::try_from(out.len()).unwrap_or(0));
        out
    }

    /// Finds the postamble in the last bytes of a pack (at least its own length; 8 KiB is plenty).
    ///
    /// # Errors
    /// `Corrupted` if the CRC does not match, `Unsupported` for another version, else `Malformed`.
    pub fn decode(tail: &[u8]) -> Result<Self> {
        let (length, before) = tail.split_last().ok_or_else(|| malformed("no bytes"))?;
        let start = before.len().checked_sub(usize::from(*length));
        let framed =
            start.map(|start| &before[start..]).ok_or_else(|| malformed("does not fit in the tail"))?;
        let (payload, crc) =
            framed.split_last_chunk::<CRC_LENGTH>().ok_or_else(|| malformed("too short for a CRC"))?;
        if crc32fast::hash(payload) != u32::from_be_bytes(*crc) {
            return Err(FormatError::corrupted("pack postamble", "CRC does not match"));
        }
        Self::decode_payload(payload)
    }

    fn decode_payload(mut rest: &[u8]) -> Result<Self> {
        let version = read_uvarint(&mut rest)?;
        if version != POSTAMBLE_VERSION {
            return Err(FormatError::unsupported("pack postamble", format!("version {version}")));
        }
        let iv_length = usize::try_from(read_uvarint(&mut rest)?).unwrap_or(usize::MAX);
        let (iv, after) =
            rest.split_at_checked(iv_length).ok_or_else(|| malformed("initialization vector is cut off"))?;
        rest = after;
        Ok(Self {
            local_index_iv: iv.to_vec(),
            local_index_offset: read_u32(&mut rest)?,
            local_index_length: read_u32(&mut rest)?,
        })
    }
}

fn malformed(why: &str) -> FormatError {
    FormatError::malformed("pack postamble", why)
}

fn write_uvarint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads an unsigned LEB128 of at most 64 bits and moves `rest` behind it.
fn read_uvarint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or_else(|| malformed("number is cut off"))?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("number has more than 64 bits"))
}

fn read_u32(rest: &mut &[u8]) -> Result<u32> {
    u32::try_from(read_uvarint(rest)?).map_err(|_| malformed("local index is beyond 4 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FormatErrorKind;
    use proptest::prelude::*;
    use std::io::Read;
    use std::path::Path;

    #[test]
    fn local_index_starts_on_a_boundary_after_at_least_one_byte() {
        for (length, padding) in [(0, 4096), (1, 4095), (4095, 1), (4096, 4096), (1 << 40 | 5, 4091)] {
            assert_eq!(padding_length(length), padding, "{length}");
        }
    }

    #[test]
    fn postambles_of_real_packs_tell_where_their_local_index_is() {
        let repositories = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors/repos");
        let mut packs = 0;
        for file in std::fs::read_dir(repositories).expect("vectors") {
            let path = file.expect("file").path();
            if path.extension().is_some_and(|extension| extension == "tar") {
                packs += check_packs(&path);
            }
        }
        assert!(packs > 80, "only {packs} packs");
    }

    /// Checks all packs of a repository against its `expected.json`; their number.
    fn check_packs(tar: &Path) -> usize {
        let json = std::fs::read(tar.with_extension("expected.json")).expect("expectation");
        let expected: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let expected = expected["packs"].as_object().expect("object");
        let mut archive = tar::Archive::new(std::fs::File::open(tar).expect("tar"));
        let mut packs = 0;
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("entry");
            let path = entry.path().expect("path").to_string_lossy().into_owned();
            let name: String = path.split('/').skip(1).collect();
            let Some(pack) = name.strip_suffix(".f").and_then(|name| expected.get(name)) else { continue };
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("reads");
            check_pack(&bytes, pack);
            packs += 1;
        }
        assert_eq!(packs, expected.len(), "{}", tar.display());
        packs
    }

    fn check_pack(bytes: &[u8], expected: &serde_json::Value) {
        let postamble = Postamble::decode(&bytes[bytes.len().saturating_sub(8192)..]).expect("decodes");
        assert_eq!(u64::from(postamble.local_index_offset), expected["idxoff"]);
        assert_eq!(u64::from(postamble.local_index_length), expected["idxlen"]);
        assert_eq!(postamble.local_index_iv.len() as u64, expected["ivlen"]);
        let encoded = postamble.encode();
        assert_eq!(encoded.len() as u64, expected["tail"]);
        let index_end = postamble.local_index_offset as usize + postamble.local_index_length as usize;
        assert_eq!(bytes[index_end..], encoded);
        let contents_end = expected["maxend"].as_u64().expect("number");
        let padding = padding_length(contents_end) as u64;
        assert_eq!(contents_end + padding, u64::from(postamble.local_index_offset));
    }

    fn sample() -> Postamble {
        Postamble { local_index_iv: vec![7; 16], local_index_offset: 4096, local_index_length: 241 }
    }

    /// A postamble around any payload, CRC and length right.
    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = payload.to_vec();
        bytes.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
        bytes.push(bytes.len() as u8);
        bytes
    }

    #[test]
    fn damage_to_a_postamble_is_told_by_kind() {
        let mut flipped = sample().encode();
        flipped[3] ^= 1;
        assert_eq!(Postamble::decode(&flipped).expect_err("CRC").kind, FormatErrorKind::Corrupted);
        assert_eq!(Postamble::decode(&framed(&[2])).expect_err("version").kind, FormatErrorKind::Unsupported);
        let overlong = [&[1, 0][..], &[0xff; 9], &[2, 1]].concat();
        let beyond_4_gib = [1, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 1];
        for payload in [&[1, 5, 0][..], &[1, 0x80], &[1, 0, 5], &overlong, &beyond_4_gib, &[]] {
            let error = Postamble::decode(&framed(payload)).expect_err("refused");
            assert_eq!(error.kind, FormatErrorKind::Malformed, "{payload:?}");
        }
        for tail in [&[][..], &[0], &[4, 4], &[1, 2, 3, 3]] {
            assert_eq!(Postamble::decode(tail).expect_err("refused").kind, FormatErrorKind::Malformed);
        }
    }

    proptest! {
        #[test]
        fn postambles_are_found_behind_any_bytes(
            before: Vec<u8>, iv in prop::collection::vec(any::<u8>(), 0..64), offset: u32, length: u32
        ) {
            let postamble =
                Postamble { local_index_iv: iv, local_index_offset: offset, local_index_length: length };
            let tail = [before, postamble.encode()].concat();
            prop_assert_eq!(Postamble::decode(&tail).expect("decodes"), postamble);
        }

        #[test]
        fn any_bytes_are_safe(tail: Vec<u8>, payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Postamble::decode(&tail);
            let _ = Postamble::decode(&framed(&payload));
        }
    }
}
