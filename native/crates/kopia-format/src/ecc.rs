//! Reed–Solomon error correction `REED-SOLOMON-CRC32` (format document §3.3).
//!
//! Wraps sealed items; knows nothing of seals. Parity comes first and all of it is stored; the
//! surprise is that a reader must infer shard size and code from the stored length alone.
//!
//! | part | size | field |
//! |---|---|---|
//! | per block, per parity shard | 4 + shard | u32 BE CRC-32 of the shard, shard |
//! | per data shard | 4 + shard | u32 BE CRC-32 of the zero-padded shard, shard |
//!
//! The data shards together are a u32 BE length of the item, the item, and zero padding. With
//! more than one block the padding is not stored, so the last data shard may be short.

use crate::error::{FormatError, FormatErrorKind, Result};
use reed_solomon_erasure::galois_8::ReedSolomon;
use std::fmt;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Name of the only algorithm.
pub const ECC_ALGORITHM: &str = "REED-SOLOMON-CRC32";

const LENGTH_BYTES: usize = 4;
const CRC_BYTES: usize = 4;
/// The code of short items.
const SMALL: ShardCounts = ShardCounts { data: 6, parity: 2 };

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ShardCounts {
    data: usize,
    parity: usize,
}

/// How one item is cut: decided from its length on encoding, from its stored length on decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlockLayout {
    blocks: usize,
    counts: ShardCounts,
    shard_bytes: usize,
    stores_padding: bool,
}

impl BlockLayout {
    fn data_bytes(&self) -> usize {
        self.blocks * self.counts.data * self.shard_bytes
    }
    fn stored_shard_bytes(&self) -> usize {
        CRC_BYTES + self.shard_bytes
    }
    fn stored_parity_bytes(&self) -> usize {
        self.blocks * self.counts.parity * self.stored_shard_bytes()
    }
}

impl EccParameters {
    /// Parameters for an overhead of 1..=100 percent.
    ///
    /// Source: Kopia `repo/ecc/ecc_rs_crc.go`. The arithmetic is in 32-bit floats on purpose:
    /// wider ones give other shard counts.
    ///
    /// # Errors
    /// `OutOfRange` for any other percentage.
    pub fn for_overhead(percent: u32) -> Result<Self> {
        let shard_bytes_max = match percent {
            1 => 1024,
            2 => 512,
            3 => 256,
            4..=6 => 128,
            7..=100 => 64,
            _ => {
                return Err(out_of_range(format!("overhead of {percent} percent is not in 1..=100")));
            }
        };
        // What the CRCs leave of the overhead.
        let free = (percent as f32 - 400.0 / shard_bytes_max as f32).max(0.01);
        let parity = (128.0 * (free / 100.0)).floor().clamp(1.0, 128.0) as usize;
        let (data_shards, parity_shards) = match parity {
            1 => ((2.0 * (100.0 / free)).floor().clamp(128.0, 254.0) as usize, 2),
            _ => (128, parity),
        };
        Ok(Self { data_shards, parity_shards, shard_bytes_max })
    }

    /// Length of the encoding of `length` bytes.
    pub fn encoded_length(&self, length: usize) -> usize {
        let layout = self.layout_of_item(length);
        let data = if layout.stores_padding { layout.data_bytes() } else { length + LENGTH_BYTES };
        layout.stored_parity_bytes() + data + CRC_BYTES * data.div_ceil(layout.shard_bytes)
    }

    fn counts(&self) -> ShardCounts {
        ShardCounts { data: self.data_shards, parity: self.parity_shards }
    }

    /// Longest item with its length, in bytes, that the small code takes.
    fn small_input_max(&self) -> usize {
        2 * CRC_BYTES * (self.data_shards + self.parity_shards)
    }

    fn layout_of_item(&self, length: usize) -> BlockLayout {
        let length = length + LENGTH_BYTES;
        let block_bytes = self.data_shards * self.shard_bytes_max;
        if length <= self.small_input_max() {
            one_block(SMALL, length.div_ceil(SMALL.data))
        } else if length <= block_bytes {
            one_block(self.counts(), length.div_ceil(self.data_shards))
        } else {
            self.full_blocks(length.div_ceil(block_bytes))
        }
    }

    fn layout_of_stored(&self, length: usize) -> BlockLayout {
        let shards = |counts: ShardCounts| counts.data + counts.parity;
        let shard_bytes = |counts| length.div_ceil(shards(counts)).max(CRC_BYTES + 1) - CRC_BYTES;
        let small_max = shards(SMALL) * (CRC_BYTES + self.small_input_max().div_ceil(SMALL.data));
        let block_max = shards(self.counts()) * (CRC_BYTES + self.shard_bytes_max);
        if length <= small_max {
            one_block(SMALL, shard_bytes(SMALL))
        } else if length <= block_max {
            one_block(self.counts(), shard_bytes(self.counts()))
        } else {
            self.full_blocks(length.div_ceil(block_max))
        }
    }

    fn full_blocks(&self, blocks: usize) -> BlockLayout {
        BlockLayout {
            blocks,
            counts: self.counts(),
            shard_bytes: self.shard_bytes_max,
            stores_padding: false,
        }
    }
}

fn one_block(counts: ShardCounts, shard_bytes: usize) -> BlockLayout {
    BlockLayout { blocks: 1, counts, shard_bytes, stores_padding: true }
}

fn out_of_range(why: impl Into<String>) -> FormatError {
    FormatError::new(FormatErrorKind::OutOfRange, "ECC", why)
}

/// Encodes and decodes with fixed parameters. Making one inverts a matrix of up to 254 rows; clones share it.
#[derive(Clone)]
pub struct EccCodec {
    parameters: EccParameters,
    small: Arc<ReedSolomon>,
    big: Arc<ReedSolomon>,
}

impl fmt::Debug for EccCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EccCodec({:?})", self.parameters)
    }
}

impl EccCodec {
    /// Builds the codes of `parameters`.
    ///
    /// # Errors
    /// `OutOfRange` if the code cannot be built (more than 256 shards, or none).
    pub fn new(parameters: EccParameters) -> Result<Self> {
        let code = |counts: ShardCounts| {
            let code = ReedSolomon::new(counts.data, counts.parity);
            code.map(Arc::new).map_err(|error| {
                out_of_range(format!("{} and {} shards: {error}", counts.data, counts.parity))
            })
        };
        Ok(Self { parameters, small: code(SMALL)?, big: code(parameters.counts())? })
    }

    /// The parameters it was built with.
    pub fn parameters(&self) -> EccParameters {
        self.parameters
    }

    fn code(&self, layout: &BlockLayout) -> &ReedSolomon {
        if layout.counts == SMALL { &self.small } else { &self.big }
    }

    /// Appends the encoding of `data` to `out`.
    ///
    /// # Errors
    /// `OutOfRange` if `data` is longer than 2³²−1 bytes.
    pub fn encode(&self, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let length =
            u32::try_from(data.len()).map_err(|_| out_of_range(format!("item of {} bytes", data.len())))?;
        let layout = self.parameters.layout_of_item(data.len());
        let mut payload = Vec::with_capacity(layout.data_bytes());
        payload.extend_from_slice(&length.to_be_bytes());
        payload.extend_from_slice(data);
        payload.resize(layout.data_bytes(), 0);

        out.reserve(self.parameters.encoded_length(data.len()));
        self.append_parity(&layout, &payload, out)?;
        let stored_bytes = if layout.stores_padding { payload.len() } else { LENGTH_BYTES + data.len() };
        append_data(&layout, &payload, stored_bytes, out);
        Ok(())
    }

    fn append_parity(&self, layout: &BlockLayout, payload: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let mut parity = vec![0u8; layout.counts.parity * layout.shard_bytes];
        for block in payload.chunks_exact(layout.counts.data * layout.shard_bytes) {
            let data: Vec<&[u8]> = block.chunks_exact(layout.shard_bytes).collect();
            let mut shards: Vec<&mut [u8]> = parity.chunks_exact_mut(layout.shard_bytes).collect();
            let encoded = self.code(layout).encode_sep(&data, &mut shards);
            encoded.map_err(|error| out_of_range(error.to_string()))?;
            for shard in shards {
                append_shard(shard, shard.len(), out);
            }
        }
        Ok(())
    }

    /// Decodes, repairing data shards whose CRC does not match; also the number of data shards repaired.
    ///
    /// # Errors
    /// `Corrupted` if more shards of a block are damaged than its parity can replace, or if the
    /// length of `encoded` or of the item in it cannot be.
    pub fn decode(&self, encoded: &[u8]) -> Result<(Vec<u8>, usize)> {
        let layout = self.parameters.layout_of_stored(encoded.len());
        let Some((parity, data)) = encoded.split_at_checked(layout.stored_parity_bytes()) else {
            return Err(FormatError::corrupted("ECC", format!("{} bytes are too few", encoded.len())));
        };
        let (mut payload, intact) = read_data(&layout, data)?;
        let repaired = self.repair(&layout, parity, &mut payload, &intact)?;
        cut_to_item(&mut payload)?;
        Ok((payload, repaired))
    }

    fn repair(
        &self,
        layout: &BlockLayout,
        parity: &[u8],
        payload: &mut [u8],
        intact: &[bool],
    ) -> Result<usize> {
        let damaged = intact.iter().filter(|intact| !**intact).count();
        if damaged == 0 {
            return Ok(0);
        }
        let blocks = payload
            .chunks_exact_mut(layout.counts.data * layout.shard_bytes)
            .zip(parity.chunks_exact(layout.counts.parity * layout.stored_shard_bytes()))
            .zip(intact.chunks_exact(layout.counts.data));
        for ((data, parity), intact) in blocks {
            if intact.contains(&false) {
                self.repair_block(layout, parity, data, intact)?;
            }
        }
        Ok(damaged)
    }

    fn repair_block(
        &self,
        layout: &BlockLayout,
        parity: &[u8],
        data: &mut [u8],
        intact: &[bool],
    ) -> Result<()> {
        let mut parity: Vec<(Vec<u8>, bool)> = parity
            .chunks_exact(layout.stored_shard_bytes())
            .map(|stored| (stored[CRC_BYTES..].to_vec(), stored[..CRC_BYTES] == crc_of(&stored[CRC_BYTES..])))
            .collect();
        let data = data.chunks_exact_mut(layout.shard_bytes).zip(intact.iter().copied());
        let parity = parity.iter_mut().map(|(shard, intact)| (shard.as_mut_slice(), *intact));
        let mut shards: Vec<(&mut [u8], bool)> = data.chain(parity).collect();
        let damaged = shards.iter().filter(|(_, intact)| !intact).count();
        self.code(layout).reconstruct_data(&mut shards).map_err(|_| {
            let why = format!(
                "{damaged} of {} shards of a block are damaged",
                layout.counts.data + layout.counts.parity
            );
            FormatError::corrupted("ECC", why)
        })
    }
}

fn crc_of(shard: &[u8]) -> [u8; CRC_BYTES] {
    crc32fast::hash(shard).to_be_bytes()
}

/// Appends the CRC of the whole `shard`, and its first `stored_bytes` bytes.
fn append_shard(shard: &[u8], stored_bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&crc_of(shard));
    out.extend_from_slice(&shard[..stored_bytes]);
}

fn append_data(layout: &BlockLayout, payload: &[u8], stored_bytes: usize, out: &mut Vec<u8>) {
    for (index, shard) in payload.chunks_exact(layout.shard_bytes).enumerate() {
        let left = stored_bytes.saturating_sub(index * layout.shard_bytes);
        if left == 0 {
            return;
        }
        append_shard(shard, left.min(shard.len()), out);
    }
}

/// The zero-padded data shards, and for each whether its CRC matches. Shards that are not stored
/// are padding, hence good.
fn read_data(layout: &BlockLayout, stored: &[u8]) -> Result<(Vec<u8>, Vec<bool>)> {
    let mut payload = vec![0u8; layout.data_bytes()];
    let mut intact = vec![true; layout.blocks * layout.counts.data];
    let shards = payload.chunks_exact_mut(layout.shard_bytes).zip(&mut intact);
    let mut stored_shards = stored.chunks(layout.stored_shard_bytes());
    for ((shard, intact), stored) in shards.zip(stored_shards.by_ref()) {
        // A stored shard with less than its CRC is damage like any other: parity may replace it.
        let (crc, body) = stored.split_at(stored.len().min(CRC_BYTES));
        shard[..body.len()].copy_from_slice(body);
        *intact = crc == crc_of(shard);
    }
    match stored_shards.next() {
        Some(_) => Err(FormatError::corrupted("ECC", "more data shards than its blocks hold")),
        None => Ok((payload, intact)),
    }
}

/// Takes the length off the front and the padding off the end.
fn cut_to_item(payload: &mut Vec<u8>) -> Result<()> {
    let length = payload.first_chunk::<LENGTH_BYTES>().map_or(0, |bytes| u32::from_be_bytes(*bytes)) as usize;
    if length + LENGTH_BYTES > payload.len() {
        let why = format!("says {length} bytes, has room for {}", payload.len().saturating_sub(LENGTH_BYTES));
        return Err(FormatError::corrupted("ECC", why));
    }
    payload.truncate(LENGTH_BYTES + length);
    payload.drain(..LENGTH_BYTES);
    Ok(())
}
