//! Compressor registry: `u32 BE header id ‖ compressor output` (format document §4.9).
//!
//! All ids that Kopia ever wrote can be read; all but `lz4`, which Kopia gave up, can be written.
//! Our compressed bytes differ from Kopia's, which nobody minds: hashes are taken of plain bytes
//! (but for object-level `Z` contents, where only deduplication against Kopia's own is lost).
//!
//! Source: Kopia `repo/compression/compressor.go`.

mod s2;
mod streams;
mod zstandard;

#[cfg(test)]
mod tests;

use crate::error::{FormatError, FormatErrorKind, Result};

/// Bytes of the header id.
const HEADER_BYTES: usize = 4;

/// A compressor by its header id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CompressorId(pub u32);

/// What is behind a header id, and how hard to try when writing.
#[derive(Debug, Clone, Copy)]
enum Codec {
    /// Level of libzstd nearest to the Go library's.
    Zstd(i32),
    S2(s2::Effort),
    /// `pgzip` too: it only writes more blocks.
    Gzip(u32),
    Deflate(u32),
    Lz4,
}

/// Every header id with its name.
const REGISTRY: [(CompressorId, &str, Codec); 18] = {
    use Codec::{Deflate, Gzip, Lz4, S2, Zstd};
    [
        (CompressorId(0x1000), "gzip", Gzip(6)),
        (CompressorId(0x1001), "gzip-best-speed", Gzip(1)),
        (CompressorId(0x1002), "gzip-best-compression", Gzip(9)),
        (CompressorId(0x1100), "zstd", Zstd(3)),
        (CompressorId(0x1101), "zstd-fastest", Zstd(1)),
        (CompressorId(0x1102), "zstd-better-compression", Zstd(7)),
        (CompressorId(0x1103), "zstd-best-compression", Zstd(11)),
        (CompressorId(0x1200), "s2-default", S2(s2::Effort::Default)),
        (CompressorId(0x1201), "s2-better", S2(s2::Effort::Better)),
        (CompressorId(0x1202), "s2-parallel-4", S2(s2::Effort::Default)),
        (CompressorId(0x1203), "s2-parallel-8", S2(s2::Effort::Default)),
        (CompressorId(0x1300), "pgzip", Gzip(6)),
        (CompressorId(0x1301), "pgzip-best-speed", Gzip(1)),
        (CompressorId(0x1302), "pgzip-best-compression", Gzip(9)),
        (CompressorId(0x1400), "lz4", Lz4),
        (CompressorId(0x1500), "deflate-default", Deflate(6)),
        (CompressorId(0x1501), "deflate-best-speed", Deflate(1)),
        (CompressorId(0x1502), "deflate-best-compression", Deflate(9)),
    ]
};

static WRITABLE: [CompressorId; REGISTRY.len() - 1] = {
    let mut ids = [CompressorId::NONE; REGISTRY.len() - 1];
    let (mut from, mut to) = (0, 0);
    while from < REGISTRY.len() {
        if !matches!(REGISTRY[from].2, Codec::Lz4) {
            ids[to] = REGISTRY[from].0;
            to += 1;
        }
        from += 1;
    }
    ids
};

impl CompressorId {
    /// No compression (header id 0).
    pub const NONE: Self = Self(0);
    /// `zstd-fastest`, the default for metadata.
    pub const ZSTD_FASTEST: Self = Self(0x1101);

    /// Parses Kopia's name; `none` and the empty string give [`Self::NONE`].
    ///
    /// # Errors
    /// `Unsupported` for any other name.
    pub fn parse(name: &str) -> Result<Self> {
        if matches!(name, "" | "none") {
            return Ok(Self::NONE);
        }
        let found = REGISTRY.iter().find(|(_, known, _)| *known == name);
        found
            .map(|(id, ..)| *id)
            .ok_or_else(|| FormatError::unsupported("compressor", format!("unknown name {name:?}")))
    }

    /// Kopia's name (`none` for [`Self::NONE`]).
    ///
    /// # Errors
    /// `Unsupported` for an unknown id.
    pub fn name(self) -> Result<&'static str> {
        if self == Self::NONE { Ok("none") } else { Ok(self.entry()?.0) }
    }

    /// All compressors that may be chosen for writing.
    #[must_use]
    pub fn writable() -> &'static [CompressorId] {
        &WRITABLE
    }

    fn entry(self) -> Result<(&'static str, Codec)> {
        let found = REGISTRY.iter().find(|(id, ..)| *id == self);
        found.map(|(_, name, codec)| (*name, *codec)).ok_or_else(|| {
            FormatError::unsupported("compressor", format!("unknown header id {:#06x}", self.0))
        })
    }
}

/// Reusable compressor contexts of one thread.
#[derive(Default)]
pub struct Compressor {
    zstd: zstandard::Encoder,
    s2: s2::Encoder,
}

impl Compressor {
    /// Appends header and compressed bytes to `out` and says `true`; says `false` and leaves `out`
    /// as it was if the result would not be smaller than `data`, and always for [`CompressorId::NONE`].
    ///
    /// # Errors
    /// `Unsupported` for an unknown id and for `lz4`, which is only read.
    pub fn compress(&mut self, id: CompressorId, data: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        if id == CompressorId::NONE {
            return Ok(false);
        }
        let (name, codec) = id.entry()?;
        let start = out.len();
        out.extend_from_slice(&id.0.to_be_bytes());
        let done = match codec {
            Codec::Zstd(level) => self.zstd.compress(level, data, out),
            Codec::S2(effort) => {
                self.s2.compress(effort, data, out);
                Ok(())
            }
            Codec::Gzip(level) => streams::gzip(level, data, out),
            Codec::Deflate(level) => streams::deflate(level, data, out),
            Codec::Lz4 => Err(FormatError::unsupported(
                "compressor",
                format!("{name} can be read but not written; choose another"),
            )),
        };
        let smaller = done.is_ok() && out.len() - start < data.len();
        if !smaller {
            out.truncate(start);
        }
        done.map(|()| smaller)
    }
}

/// Decompresses header and data into `out` (cleared first); `expected` is the id in the index, if known.
/// Never gives more than `limit` bytes: pass the original length where the index knows it.
///
/// # Errors
/// `Malformed` or `Corrupted` for what does not decode or carries another id than `expected`,
/// `Unsupported` for an unknown id, `OutOfRange` for more than `limit` bytes. `out` is then empty.
pub fn decompress(
    expected: Option<CompressorId>,
    input: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.clear();
    let (header, body) = input
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| FormatError::malformed("compressed data", "shorter than its header"))?;
    let id = CompressorId(u32::from_be_bytes(*header));
    if let Some(expected) = expected.filter(|expected| *expected != id) {
        let why = format!("header id is {:#06x}, the index says {:#06x}", id.0, expected.0);
        return Err(FormatError::malformed("compressed data", why));
    }
    let decoded = match id.entry()?.1 {
        Codec::Zstd(_) => zstandard::decompress(body, limit, out),
        Codec::S2(_) => s2::decompress(body, limit, out),
        Codec::Gzip(_) => streams::gunzip(body, limit, out),
        Codec::Deflate(_) => streams::inflate(body, limit, out),
        Codec::Lz4 => streams::unlz4(body, limit, out),
    };
    if decoded.is_err() {
        out.clear();
    }
    decoded
}

fn too_long(what: &'static str, limit: usize) -> FormatError {
    FormatError::new(FormatErrorKind::OutOfRange, what, format!("gives more than the allowed {limit} bytes"))
}
