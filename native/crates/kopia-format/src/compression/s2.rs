//! S2 streams: the framing here, the block format by `minlz`.
//!
//! Framing is our own because the library's reader recurses over skippable chunks and reads a
//! checksum at a fraction of the speed of `crc32c`.
//!
//! | bytes | field                                                          |
//! |-------|----------------------------------------------------------------|
//! | 0     | chunk type                                                     |
//! | 1–3   | length of what follows, little endian                          |
//! | 4–7   | data chunks: masked CRC-32C of the uncompressed block          |
//! | 8–    | data chunks: the block; type 0 compressed, type 1 as it is     |
//!
//! Source: `github.com/klauspost/compress/s2`, `github.com/google/snappy` framing format.

use minlz::s2 as block;

use super::too_long;
use crate::error::{FormatError, Result};

const WHAT: &str = "s2 data";

const CHUNK_COMPRESSED: u8 = 0x00;
const CHUNK_UNCOMPRESSED: u8 = 0x01;
const CHUNK_STREAM_IDENTIFIER: u8 = 0xff;
/// Types from here on may be skipped; those below are for formats not yet invented.
const CHUNK_SKIPPABLE_MIN: u8 = 0x80;

const MAGIC_S2: &[u8; 6] = b"S2sTwO";
const MAGIC_SNAPPY: &[u8; 6] = b"sNaPpY";
const CHECKSUM_BYTES: usize = 4;

/// Largest block of the format.
const BLOCK_BYTES_MAX: usize = 4 << 20;
/// Blocks as we write them: the default of Kopia's library.
const BLOCK_BYTES_WRITTEN: usize = 1 << 20;

/// How hard to look for repetitions.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effort {
    Default,
    Better,
}

/// The block encoder's tables and room for the check of its output.
#[derive(Default)]
pub(super) struct Encoder {
    blocks: block::Encoder,
    decoded: Vec<u8>,
}

impl Encoder {
    /// Appends one stream; nothing for empty `data`, as Kopia does.
    pub(super) fn compress(&mut self, effort: Effort, data: &[u8], out: &mut Vec<u8>) {
        if data.is_empty() {
            return;
        }
        append_chunk(out, CHUNK_STREAM_IDENTIFIER, &[MAGIC_S2]);
        for plain in data.chunks(BLOCK_BYTES_WRITTEN) {
            let checksum = masked_checksum(plain).to_le_bytes();
            let encoded = match effort {
                Effort::Default => self.blocks.encode(plain),
                Effort::Better => self.blocks.encode_better(plain),
            };
            if encoded.len() < plain.len() && self.decodes_to(&encoded, plain) {
                append_chunk(out, CHUNK_COMPRESSED, &[&checksum, &encoded]);
            } else {
                append_chunk(out, CHUNK_UNCOMPRESSED, &[&checksum, plain]);
            }
        }
    }

    /// The encoder is young and what it spoiled would be found at restore only: decoding is
    /// cheap beside encoding, so each block is read back.
    fn decodes_to(&mut self, encoded: &[u8], plain: &[u8]) -> bool {
        self.decoded.resize(BLOCK_BYTES_WRITTEN, 0);
        block::decode_into(&mut self.decoded, encoded) == Ok(plain.len())
            && self.decoded[..plain.len()] == *plain
    }
}

fn append_chunk(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let [a, b, c, _] = (length as u32).to_le_bytes();
    out.extend_from_slice(&[kind, a, b, c]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn masked_checksum(plain: &[u8]) -> u32 {
    crc32c::crc32c(plain).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Decodes a stream (nothing: an empty content) into the empty `out`.
pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut rest = input;
    while !rest.is_empty() {
        let offset = (input.len() - rest.len()) as u64;
        let (kind, body, behind) =
            split_chunk(rest).ok_or_else(|| FormatError::malformed(WHAT, "chunk is cut off").at(offset))?;
        if offset == 0 && kind != CHUNK_STREAM_IDENTIFIER {
            return Err(FormatError::malformed(WHAT, "does not begin with a stream identifier").at(offset));
        }
        read_chunk(kind, body, limit, out).map_err(|error| error.at(offset))?;
        rest = behind;
    }
    Ok(())
}

/// Type and body of the first chunk, and what is behind it.
fn split_chunk(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, a, b, c], rest) = input.split_first_chunk()?;
    let (body, behind) = rest.split_at_checked(u32::from_le_bytes([a, b, c, 0]) as usize)?;
    Some((kind, body, behind))
}

fn read_chunk(kind: u8, body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    match kind {
        CHUNK_COMPRESSED | CHUNK_UNCOMPRESSED => read_data_chunk(kind, body, limit, out),
        CHUNK_STREAM_IDENTIFIER if body == MAGIC_S2 || body == MAGIC_SNAPPY => Ok(()),
        CHUNK_STREAM_IDENTIFIER => Err(FormatError::malformed(WHAT, "unknown stream identifier")),
        CHUNK_SKIPPABLE_MIN.. => Ok(()),
        _ => Err(FormatError::unsupported(WHAT, format!("unknown chunk type {kind:#04x}"))),
    }
}

fn read_data_chunk(kind: u8, body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let (checksum, stored) = body
        .split_first_chunk::<CHECKSUM_BYTES>()
        .ok_or_else(|| FormatError::malformed(WHAT, "chunk is shorter than its checksum"))?;
    let refused = |error: minlz::Error| FormatError::malformed(WHAT, error.to_string());
    let length =
        if kind == CHUNK_COMPRESSED { block::decode_len(stored).map_err(refused)?.0 } else { stored.len() };
    if length > BLOCK_BYTES_MAX {
        return Err(FormatError::malformed(
            WHAT,
            format!("block of {length} bytes is longer than the format allows"),
        ));
    }
    let start = out.len();
    if length > limit - start {
        return Err(too_long(WHAT, limit));
    }
    if kind == CHUNK_COMPRESSED {
        out.resize(start + length, 0);
        block::decode_into(&mut out[start..], stored).map_err(refused)?;
    } else {
        out.extend_from_slice(stored);
    }
    if masked_checksum(&out[start..]) != u32::from_le_bytes(*checksum) {
        return Err(FormatError::corrupted(WHAT, "checksum of a block does not match"));
    }
    Ok(())
}
