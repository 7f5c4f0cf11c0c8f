//! gzip, raw DEFLATE and LZ4 frames: whole contents through the stream types of their libraries.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder};
use flate2::write::{DeflateEncoder, GzEncoder};
use lz4_flex::frame::FrameDecoder;

use super::too_long;
use crate::error::{FormatError, Result};

pub(super) fn gzip(level: u32, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut encoder = GzEncoder::new(out, Compression::new(level));
    encoder.write_all(data).and_then(|()| encoder.try_finish()).map_err(|error| refused("gzip data", &error))
}

pub(super) fn deflate(level: u32, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut encoder = DeflateEncoder::new(out, Compression::new(level));
    encoder
        .write_all(data)
        .and_then(|()| encoder.try_finish())
        .map_err(|error| refused("deflate data", &error))
}

/// Decodes all members, of which there may be several.
pub(super) fn gunzip(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    read_all("gzip data", MultiGzDecoder::new(input), limit, out)
}

pub(super) fn inflate(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    read_all("deflate data", DeflateDecoder::new(input), limit, out)
}

pub(super) fn unlz4(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    read_all("lz4 data", FrameDecoder::new(input), limit, out)
}

fn read_all(what: &'static str, decoder: impl Read, limit: usize, out: &mut Vec<u8>) -> Result<()> {
    // One byte more than allowed tells "exactly the limit" from "too much".
    let read = decoder.take((limit as u64).saturating_add(1)).read_to_end(out);
    let length = read.map_err(|error| refused(what, &error))?;
    if length > limit { Err(too_long(what, limit)) } else { Ok(()) }
}

fn refused(what: &'static str, error: &io::Error) -> FormatError {
    FormatError::malformed(what, error.to_string())
}
