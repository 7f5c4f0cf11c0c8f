//! Compressor registry: `u32 BE header id ‖ compressor output` (format document §4.9).

use crate::error::Result;

/// A compressor by its header id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CompressorId(pub u32);

impl CompressorId {
    /// No compression (header id 0).
    pub const NONE: Self = Self(0);
    /// `zstd-fastest`, the default for metadata.
    pub const ZSTD_FASTEST: Self = Self(0x1101);
    /// Parses Kopia's name; `none` and the empty string give [`Self::NONE`].
    pub fn parse(_name: &str) -> Result<Self> { todo!() }
    /// Kopia's name.
    pub fn name(self) -> Result<&'static str> { todo!() }
    /// All names that may be chosen for writing.
    pub fn writable() -> &'static [CompressorId] { todo!() }
}

/// Reusable compressor contexts of one thread.
#[derive(Default)]
pub struct Compressor {}

impl Compressor {
    /// Appends header and compressed bytes to `out` and says `true`; says `false` and leaves `out`
    /// as it was if the result would not be smaller than `data`.
    pub fn compress(&mut self, _id: CompressorId, _data: &[u8], _out: &mut Vec<u8>) -> Result<bool> { todo!() }
}

/// Decompresses header and data into `out` (cleared first); `expected` is the id in the index, if known.
/// Never gives more than `limit` bytes.
pub fn decompress(_expected: Option<CompressorId>, _input: &[u8], _limit: usize, _out: &mut Vec<u8>) -> Result<()> { todo!() }
