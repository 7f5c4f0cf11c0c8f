//! Rabin–Karp64 over a window of 64 bytes: the window as a polynomial over GF(2), modulo one of
//! degree 53.
//!
//! One step is a shift, a table for the bits that overflow, and one for the byte that leaves;
//! each waits some eight cycles for the step before, so many lanes roll side by side. There is
//! no vector path: this splitter is never the default, and lanes alone are quick enough.
//!
//! Source: `github.com/chmduquesne/rollinghash/rabinkarp64` as used by Kopia
//! `repo/splitter/splitter_rabinkarp64.go`.

use std::ops::Range;

use crate::side_by_side::{self, Block, Kernel, WINDOW_BYTES};

/// The modulus: the library's random irreducible polynomial for seed 1.
pub const POLYNOMIAL: u64 = 0x2e_3e3e_4a30_5605;
const DEGREE: u32 = 53;

/// `OVERFLOW[b]`: `b·x^53` and what it is modulo the polynomial; the xor of both clears the bits above.
static OVERFLOW: [u64; 256] = overflow_table();
/// `LEAVING[b]`: what a byte still adds when it is 64 bytes back, `b·x^(8·64)` modulo the polynomial.
static LEAVING: [u64; 256] = table_of_multiples(8 * WINDOW_BYTES as u32);

/// `value·x^exponent` modulo the polynomial.
const fn times_power(mut value: u64, mut exponent: u32) -> u64 {
    while exponent > 0 {
        value <<= 1;
        value ^= POLYNOMIAL * (value >> DEGREE);
        exponent -= 1;
    }
    value
}

/// `b·x^exponent` modulo the polynomial for each byte, from those of its bits.
const fn table_of_multiples(exponent: u32) -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 1;
    while byte < 256 {
        let rest = byte & (byte - 1);
        let lowest_bit = (byte ^ rest) as u64;
        table[byte] =
            if rest == 0 { times_power(lowest_bit, exponent) } else { table[rest] ^ table[byte ^ rest] };
        byte += 1;
    }
    table
}

const fn overflow_table() -> [u64; 256] {
    let mut table = table_of_multiples(DEGREE);
    let mut byte = 0;
    while byte < 256 {
        table[byte] |= (byte as u64) << DEGREE;
        byte += 1;
    }
    table
}

/// First position in `range` at which the hash of the 64 bytes that end there has no bit of `mask`.
///
/// # Panics
/// If `range` starts before byte 64 or ends behind `data`.
#[must_use]
pub fn find(data: &[u8], range: Range<usize>, mask: u64) -> Option<usize> {
    side_by_side::find(&Lanes { mask }, data, range)
}

/// Hash of a whole window (or of what there is of one), from nothing.
#[must_use]
pub fn hash(window: &[u8]) -> u64 {
    window.iter().fold(0, |hash, &byte| shifted(hash) ^ u64::from(byte))
}

/// `hash·x^8` modulo the polynomial.
#[inline(always)]
fn shifted(hash: u64) -> u64 {
    // The cast keeps 8 bits: a hash has 53 bits, so there are no more, and no bounds check.
    (hash << 8) ^ OVERFLOW[usize::from((hash >> (DEGREE - 8)) as u8)]
}

#[inline(always)]
fn roll(hash: u64, leaving: u8, entering: u8) -> u64 {
    shifted(hash) ^ (LEAVING[usize::from(leaving)] ^ u64::from(entering))
}

struct Lanes {
    mask: u64,
}

const LANES: usize = 6;

impl Kernel for Lanes {
    const LANES: usize = LANES;

    fn find_serially(&self, data: &[u8], range: Range<usize>) -> Option<usize> {
        let leaving = &data[range.start - WINDOW_BYTES..];
        let mut hash = hash(&leaving[..WINDOW_BYTES]);
        let found = leaving.iter().zip(&data[range.clone()]).position(|(&leaving, &entering)| {
            hash = roll(hash, leaving, entering);
            hash & self.mask == 0
        })?;
        Some(range.start + found)
    }

    fn first_matching_block(&self, lanes: &[&[Block]]) -> Option<usize> {
        let mut hashes: [u64; LANES] = std::array::from_fn(|lane| hash(&lanes[lane][0]));
        (0..lanes[0].len() - 1).find(|&block| {
            let leaving: [&Block; LANES] = std::array::from_fn(|lane| &lanes[lane][block]);
            let entering: [&Block; LANES] = std::array::from_fn(|lane| &lanes[lane][block + 1]);
            // Leaving at once keeps all hashes in registers: a flag per lane does not fit.
            for at in 0..WINDOW_BYTES {
                for lane in 0..LANES {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition in 5.3.1, one bit at a time.
    fn hash_by_definition(window: &[u8]) -> u64 {
        window.iter().fold(0, |hash, &byte| times_power(hash, 8) ^ u64::from(byte))
    }

    #[test]
    fn tables_give_the_definition() {
        let window: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(37) ^ 0xa5).collect();
        assert_eq!(hash(&window), hash_by_definition(&window));
        assert_eq!(hash(&[0; 64]), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn lanes_equal_the_definition(data in proptest::collection::vec(any::<u8>(), 65..30_000), bits in 0u32..15, from in any::<prop::sample::Index>()) {
            let range = 64 + from.index(data.len() - 64)..data.len();
            let mask = (1 << bits) - 1;
            let expected = range.clone().find(|&at| hash_by_definition(&data[at - 63..=at]) & mask == 0);
            prop_assert_eq!(find(&data, range, mask), expected);
        }
    }
}
