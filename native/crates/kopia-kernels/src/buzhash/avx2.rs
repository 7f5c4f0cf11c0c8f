//! Buzhash32 by AVX2: two lanes of the scan, four positions of each, in one vector.
//!
//! Let `p` count positions in a group of 8 and `t[p] = rotr(T[byte], p)`. Then within the group
//! `rotr(hash[p], p) = carry ^ x[0] ^ … ^ x[p]` with `x[p] = t[p] ^ t[p - 64]`: no rotation is
//! left, one table load per byte is enough (`t` is kept for 64 bytes), and the running xor takes
//! two shifts. `carry` is the hash before the group, rotated left by one.
//! A low half of a vector is the first lane, a high half the second.

use std::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm_unpacklo_epi32, _mm_unpacklo_epi64, _mm256_and_si256, _mm256_cmpeq_epi32,
    _mm256_or_si256, _mm256_set_m128i, _mm256_set1_epi32, _mm256_setr_epi32, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_si256, _mm256_testz_si256, _mm256_xor_si256,
};
use std::ops::Range;

use super::{Block, Kernel, TABLE, find_serially, hash};

/// `ROTATED[p][byte]` is `t[p]` of the module's text: 8 KiB, which stay in L1.
static ROTATED: [[u32; 256]; 8] = rotated_tables();

const fn rotated_tables() -> [[u32; 256]; 8] {
    let mut tables = [TABLE; 8];
    let mut index = 0;
    while index < 8 * 256 {
        tables[index / 256][index % 256] = TABLE[index % 256].rotate_right((index / 256) as u32);
        index += 1;
    }
    tables
}

/// Proof that the processor has AVX2, with the mask to test.
pub(super) struct Avx2 {
    mask: u32,
}

impl Avx2 {
    /// `None` if this processor has no AVX2.
    pub(super) fn detect(mask: u32) -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self { mask })
    }
}

impl Kernel for Avx2 {
    const LANES: usize = 2;

    fn find_serially(&self, data: &[u8], range: Range<usize>) -> Option<usize> {
        find_serially(data, range, self.mask)
    }

    fn first_matching_block(&self, lanes: &[&[Block]]) -> Option<usize> {
        // SAFETY: the function is safe but for needing AVX2, and `Avx2` is only made by `detect`.
        unsafe { first_matching_block(lanes[0], lanes[1], self.mask) }
    }
}

/// The table values of four positions of both lanes, the first of which has number `P` in its group.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up<const P: usize>(first: &[u8; 8], second: &[u8; 8]) -> __m256i {
    // Loads and unpacks beat `vpgatherdd` here (Zen 3: 3.5 against 2.2 GB/s).
    let one = |bytes: &[u8; 8], p: usize| _mm_cvtsi32_si128(ROTATED[p][usize::from(bytes[p])].cast_signed());
    let two = |bytes: &[u8; 8], p: usize| _mm_unpacklo_epi32(one(bytes, p), one(bytes, p + 1));
    let four = |bytes: &[u8; 8]| _mm_unpacklo_epi64(two(bytes, P), two(bytes, P + 2));
    _mm256_set_m128i(four(second), four(first))
}

/// `rotr(hash, p)` of four positions: remembers `entering` in `kept`, which gives what leaves.
#[inline]
#[target_feature(enable = "avx2")]
fn rolled(entering: __m256i, kept: &mut __m256i, carry: __m256i) -> __m256i {
    let change = _mm256_xor_si256(entering, *kept);
    *kept = entering;
    let pairs = _mm256_xor_si256(change, _mm256_slli_si256::<4>(change));
    let running = _mm256_xor_si256(pairs, _mm256_slli_si256::<8>(pairs));
    _mm256_xor_si256(running, carry)
}

/// All ones where `hashes` has no bit of `mask`.
#[inline]
#[target_feature(enable = "avx2")]
fn matching(hashes: __m256i, mask: __m256i) -> __m256i {
    _mm256_cmpeq_epi32(_mm256_and_si256(hashes, mask), _mm256_setzero_si256())
}

/// `mask` rotated as the hashes of positions `p`…`p + 3` of both lanes are.
#[inline]
#[target_feature(enable = "avx2")]
fn rotated_mask(mask: u32, p: u32) -> __m256i {
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| mask.rotate_right(p + i).cast_signed());
    _mm256_setr_epi32(a, b, c, d, a, b, c, d)
}

#[target_feature(enable = "avx2")]
fn first_matching_block(first: &[Block], second: &[Block], mask: u32) -> Option<usize> {
    let (masks_0, masks_4) = (rotated_mask(mask, 0), rotated_mask(mask, 4));
    // Shuffles that spread the last position of each half; the second also rotates it left by 8.
    let (spread, spread_rotated) = (_mm256_set1_epi32(0x0f0e_0d0c), _mm256_set1_epi32(0x0e0d_0c0f));
    let [a, b] = [first, second].map(|lane| hash(&lane[0]).rotate_left(1).cast_signed());
    let mut carry = _mm256_setr_epi32(a, a, a, a, b, b, b, b);
    let mut kept = [[_mm256_setzero_si256(); 2]; 8];
    let groups = |block: usize| first[block].as_chunks::<8>().0.iter().zip(second[block].as_chunks::<8>().0);
    for (kept, (a, b)) in kept.iter_mut().zip(groups(0)) {
        *kept = [look_up::<0>(a, b), look_up::<4>(a, b)];
    }
    (0..first.len() - 1).find(|&block| {
        let mut matches = _mm256_setzero_si256();
        for (kept, (a, b)) in kept.iter_mut().zip(groups(block + 1)) {
            let hashes = rolled(look_up::<0>(a, b), &mut kept[0], carry);
            matches = _mm256_or_si256(matches, matching(hashes, masks_0));
            carry = _mm256_shuffle_epi8(hashes, spread);
            let hashes = rolled(look_up::<4>(a, b), &mut kept[1], carry);
            matches = _mm256_or_si256(matches, matching(hashes, masks_4));
            carry = _mm256_shuffle_epi8(hashes, spread_rotated);
        }
        _mm256_testz_si256(matches, matches) == 0
    })
}
