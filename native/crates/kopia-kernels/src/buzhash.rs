//! Buzhash32 over a window of 64 bytes: `h' = rotl(h, 1) ^ T[out] ^ T[in]`.
//!
//! Two ways to roll it, equal in result: lanes of plain code, and an AVX2 kernel that is about
//! twice as fast (three times a serial scan). The surprise is in the latter: it never rolls. With the table's
//! values rotated back by their position, hashing becomes a running xor, which vectors can do.

use std::ops::Range;

use crate::buzhash_table::TABLE;
use crate::side_by_side::{self, Block, Kernel, WINDOW_BYTES};

/// How to compute; every path gives the same result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Plain code, for any processor.
    Portable,
    /// AVX2 instructions; falls back to `Portable` where the processor has none.
    Avx2,
}

/// First position in `range` at which the hash of the 64 bytes that end there has no bit of `mask`.
///
/// # Panics
/// If `range` starts before byte 64 or ends behind `data`.
#[must_use]
pub fn find(data: &[u8], range: Range<usize>, mask: u32) -> Option<usize> {
    find_by(Path::Avx2, data, range, mask)
}

/// [`find`] by a path of choice, for tests and measurements.
///
/// # Panics
/// As [`find`].
#[must_use]
pub fn find_by(path: Path, data: &[u8], range: Range<usize>, mask: u32) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if path == Path::Avx2
        && let Some(kernel) = avx2::Avx2::detect(mask)
    {
        return side_by_side::find(&kernel, data, range);
    }
    let _ = path;
    side_by_side::find(&Portable { mask }, data, range)
}

/// Hash of a whole window (or of what there is of one), from nothing.
#[must_use]
pub fn hash(window: &[u8]) -> u32 {
    window.iter().fold(0, |hash, &byte| hash.rotate_left(1) ^ TABLE[usize::from(byte)])
}

/// The hash one byte further. The byte that leaves was rotated by 64 bits, that is, not at all.
#[inline(always)]
fn roll(hash: u32, leaving: u8, entering: u8) -> u32 {
    // The inner xor does not wait for `hash`.
    hash.rotate_left(1) ^ (TABLE[usize::from(leaving)] ^ TABLE[usize::from(entering)])
}

fn find_serially(data: &[u8], range: Range<usize>, mask: u32) -> Option<usize> {
    let leaving = &data[range.start - WINDOW_BYTES..];
    let mut hash = hash(&leaving[..WINDOW_BYTES]);
    let found = leaving.iter().zip(&data[range.clone()]).position(|(&leaving, &entering)| {
        hash = roll(hash, leaving, entering);
        hash & mask == 0
    })?;
    Some(range.start + found)
}

struct Portable {
    mask: u32,
}

const PORTABLE_LANES: usize = 4;

impl Kernel for Portable {
    const LANES: usize = PORTABLE_LANES;

    fn find_serially(&self, data: &[u8], range: Range<usize>) -> Option<usize> {
        find_serially(data, range, self.mask)
    }

    fn first_matching_block(&self, lanes: &[&[Block]]) -> Option<usize> {
        let mut hashes: [u32; PORTABLE_LANES] = std::array::from_fn(|lane| hash(&lanes[lane][0]));
        (0..lanes[0].len() - 1).find(|&block| {
            let leaving: [&Block; PORTABLE_LANES] = std::array::from_fn(|lane| &lanes[lane][block]);
            let entering: [&Block; PORTABLE_LANES] = std::array::from_fn(|lane| &lanes[lane][block + 1]);
            // Leaving at once keeps all hashes in registers: a flag per lane does not fit.
            for at in 0..WINDOW_BYTES {
                for lane in 0..PORTABLE_LANES {
                    hashes[lane] = roll(hashes[lane], leaving[lane][at], entering[lane][at]);
                    if hashes[lane] & self.mask == 0 {
                        return true;
                    }
                }
            }
            false
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2;

#[cfg(test)]
mod tests;
