//! Reed–Solomon error correction `REED-SOLOMON-CRC32` (format document §3.3).

use crate::error::Result;

/// Name of the only algorithm.
pub const ECC_ALGORITHM: &str = "REED-SOLOMON-CRC32";

/// Shard counts and sizes that follow from the overhead percentage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EccParameters {
    /// Data shards of a block.
    pub data_shards: usize,
    /// Parity shards of a block.
    pub parity_shards: usize,
    /// Largest shard, in bytes.
    pub shard_bytes_max: usize,
}

impl EccParameters {
    /// Parameters for an overhead of 1..=100 percent.
    pub fn for_overhead(_percent: u32) -> Result<Self> { todo!() }
    /// Length of the encoding of `length` bytes.
    pub fn encoded_length(&self, _length: usize) -> usize { todo!() }
    /// Appends the encoding of `data` to `out`.
    pub fn encode(&self, _data: &[u8], _out: &mut Vec<u8>) -> Result<()> { todo!() }
    /// Decodes, repairing shards whose CRC does not match; also the number of shards repaired.
    pub fn decode(&self, _encoded: &[u8]) -> Result<(Vec<u8>, usize)> { todo!() }
}
