//! A content's way between plain bytes and stored bytes: compress, seal; open, decompress.
//!
//! Nothing here knows packs or indexes.

use super::context::{ContentContext, fill_random};
use super::info::{ContentInfo, WriteScratch};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::ContentId;
use kopia_format::compression::{self, CompressorId};
use std::ops::Range;

/// Longest content that an index can name.
pub(crate) const CONTENT_BYTES_MAX: usize = (1 << 28) - 1;

/// Random bytes fetched at once.
const RANDOM_BYTES: usize = 4096;
const NONCE_BYTES: usize = 12;

/// Fresh nonces without a system call for each.
pub(crate) struct NonceSource {
    bytes: [u8; RANDOM_BYTES],
    used: usize,
}

impl Default for NonceSource {
    fn default() -> Self {
        Self { bytes: [0; RANDOM_BYTES], used: RANDOM_BYTES }
    }
}

impl NonceSource {
    fn next(&mut self) -> Result<[u8; NONCE_BYTES]> {
        if self.used + NONCE_BYTES > RANDOM_BYTES {
            fill_random(&mut self.bytes)?;
            self.used = 0;
        }
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&self.bytes[self.used..self.used + NONCE_BYTES]);
        self.used += NONCE_BYTES;
        Ok(nonce)
    }
}

/// Stored form of a content in up to three pieces, so that its bytes need not be copied.
pub(crate) struct SealedContent<'a> {
    pub(crate) pieces: [&'a [u8]; 3],
    pub(crate) compressor: CompressorId,
    pub(crate) original_length: u32,
}

impl SealedContent<'_> {
    pub(crate) fn length(&self) -> u32 {
        self.pieces.iter().map(|piece| piece.len() as u32).sum()
    }
}

/// Compresses (where that is allowed and gains) and seals; the bytes of `data` are lost.
///
/// # Errors
/// `InvalidArgument` for a content that no index could name.
pub(crate) fn seal<'a>(
    context: &ContentContext,
    id: &ContentId,
    data: &'a mut Vec<u8>,
    compressor: CompressorId,
    scratch: &'a mut WriteScratch,
) -> Result<SealedContent<'a>> {
    if context.sealer.sealed_length(data.len()) > CONTENT_BYTES_MAX {
        let message = format!("content {id} of {} bytes is larger than the format allows", data.len());
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let original_length = data.len() as u32;
    let compressor = compress(context, data, compressor, scratch)?;
    let WriteScratch { compressed, sealed, nonces, nonce, tag, .. } = scratch;
    let plain = if compressor == CompressorId::NONE { data } else { compressed };
    *nonce = nonces.next()?;
    let iv = id.hash().iv();
    let pieces: [&[u8]; 3] = if context.sealer.has_ecc() {
        sealed.clear();
        context.sealer.seal_append(iv, *nonce, plain, sealed)?;
        [sealed, &[], &[]]
    } else {
        *tag = context.sealer.seal_in_place(iv, *nonce, plain)?;
        [nonce, plain, tag]
    };
    Ok(SealedContent { pieces, compressor, original_length })
}

fn compress(
    context: &ContentContext,
    data: &[u8],
    compressor: CompressorId,
    scratch: &mut WriteScratch,
) -> Result<CompressorId> {
    if compressor == CompressorId::NONE || context.index_version < 2 {
        return Ok(CompressorId::NONE);
    }
    scratch.compressed.clear();
    let smaller = scratch.compressor.compress(compressor, data, &mut scratch.compressed)?;
    Ok(if smaller { compressor } else { CompressorId::NONE })
}

/// Opens and decompresses stored bytes into `out`; `packed` is scratch afterwards.
///
/// # Errors
/// `Corrupted`, naming content and pack; `UnsupportedFormat` for an unknown compressor.
pub(crate) fn open(
    context: &ContentContext,
    info: &ContentInfo,
    packed: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let plain =
        context.sealer.open_in_place(info.id.hash().iv(), packed).map_err(|e| named(e.into(), info))?;
    if info.compressor == CompressorId::NONE {
        out.clear();
        out.extend_from_slice(plain);
        return Ok(());
    }
    let limit = (info.original_length as usize).min(CONTENT_BYTES_MAX);
    compression::decompress(Some(info.compressor), plain, limit, out).map_err(|e| named(e.into(), info))
}

/// Opens stored bytes where they stand. Gives the range of the plain bytes in `sealed`, or nothing
/// if they had to go to `out` (compression, error correction).
///
/// # Errors
/// As [`open`].
pub(crate) fn open_slice(
    context: &ContentContext,
    info: &ContentInfo,
    sealed: &mut [u8],
    out: &mut Vec<u8>,
) -> Result<Option<Range<usize>>> {
    if context.sealer.has_ecc() {
        return open(context, info, &mut sealed.to_vec(), out).map(|()| None);
    }
    let iv = info.id.hash().iv();
    let plain = context.sealer.open_slice_in_place(iv, sealed).map_err(|error| named(error.into(), info))?;
    if info.compressor == CompressorId::NONE {
        let length = plain.len();
        return Ok(Some(NONCE_BYTES..NONCE_BYTES + length));
    }
    let limit = (info.original_length as usize).min(CONTENT_BYTES_MAX);
    compression::decompress(Some(info.compressor), plain, limit, out).map_err(|e| named(e.into(), info))?;
    Ok(None)
}

/// Compares the hash of what was read with the content's ID.
pub(crate) fn check_hash(context: &ContentContext, info: &ContentInfo, plain: &[u8]) -> Result<()> {
    if context.check_hashes && context.hasher.hash(plain) != *info.id.hash() {
        return Err(wrong_hash(info));
    }
    Ok(())
}

/// The error for bytes whose hash is another than the content's ID.
pub(crate) fn wrong_hash(info: &ContentInfo) -> Error {
    named(Error::new(ErrorKind::Corrupted, "its bytes do not have the hash that names it"), info)
}

/// Puts content and pack before the message of an error.
pub(crate) fn named(error: Error, info: &ContentInfo) -> Error {
    let what = format!("content {} in pack {} at offset {}", info.id, info.pack, info.offset);
    error.while_doing(what).with("content", info.id).with("pack", &info.pack)
}
