//! Layout of a pack blob: preamble, padding, local index, postamble (format document §4.3).

use crate::error::Result;

/// Random bytes before the first content.
pub const PREAMBLE_LENGTH: usize = 32;
/// The local index starts on a multiple of this.
pub const PADDING_UNIT: usize = 4096;

/// Random bytes of padding that a pack of `length` bytes gets before its local index: 1..=4096.
pub fn padding_length(_length: u64) -> usize { todo!() }

/// Where the local index of a pack is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Postamble { pub local_index_iv: Vec<u8>, pub local_index_offset: u32, pub local_index_length: u32 }

impl Postamble {
    /// Bytes, with CRC and length byte.
    pub fn encode(&self) -> Vec<u8> { todo!() }
    /// Finds the postamble in the last bytes of a pack (at least its own length; 8 KiB is plenty).
    pub fn decode(_tail: &[u8]) -> Result<Self> { todo!() }
}
