//! zstd frames through libzstd: whole contents at once, contexts kept per thread.
//!
//! Frames carry a content checksum, as Kopia's do. Decoding goes straight into the output, so a
//! frame's window (up to 8 MiB in Kopia's) costs no memory of its own and needs no limit.

use std::cell::RefCell;
use std::io::Cursor;

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use super::too_long;
use crate::error::{FormatError, Result};

const WHAT: &str = "zstd data";
/// Output is made room for at once up to here (untouched room is not backed by memory), then in
/// steps: an invented `limit` must not become a large allocation.
const FIRST_ROOM_BYTES_MAX: usize = 32 << 20;

thread_local! {
    static DECODER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

#[derive(Default)]
pub(super) struct Encoder {
    context: Option<CCtx<'static>>,
}

impl Encoder {
    /// Appends one frame.
    pub(super) fn compress(&mut self, level: i32, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let context = self.context.get_or_insert_with(CCtx::create);
        let refused = |code| {
            FormatError::malformed(WHAT, format!("cannot compress: {}", zstd_safe::get_error_name(code)))
        };
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(refused)?;
        context.set_parameter(CParameter::ChecksumFlag(true)).map_err(refused)?;
        out.reserve(zstd_safe::compress_bound(data.len()));
        let mut end = Cursor::new(&mut *out);
        end.set_position(end.get_ref().len() as u64);
        context.compress2(&mut end, data).map_err(refused)?;
        Ok(())
    }
}

/// Decodes any number of frames (none: an empty content) into the empty `out`.
pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let known = zstd_safe::get_frame_content_size(input).ok().flatten();
    if known.is_some_and(|length| length > limit as u64) {
        return Err(too_long(WHAT, limit));
    }
    let mut room = limit.min(FIRST_ROOM_BYTES_MAX);
    loop {
        out.clear();
        // One byte more than allowed tells "exactly the limit" from "too much".
        out.reserve_exact(room.saturating_add(1));
        match DECODER.with_borrow_mut(|decoder| decoder.decompress(out, input)) {
            Ok(length) if length > limit => return Err(too_long(WHAT, limit)),
            Ok(_) => return Ok(()),
            Err(code) if !is_out_of_room(code) => {
                return Err(FormatError::malformed(WHAT, zstd_safe::get_error_name(code)));
            }
            Err(_) if room >= limit => return Err(too_long(WHAT, limit)),
            Err(_) => room = limit.min(room.saturating_mul(4)),
        }
    }
}

/// Whether decoding failed for want of room alone. libzstd gives codes as `-number`.
fn is_out_of_room(code: usize) -> bool {
    code == (zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg()
}
