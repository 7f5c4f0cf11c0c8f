//! The input formulas of the test vectors (`VECTORS.md`), byte for byte.

const WORDS: [&str; 16] = [
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo",
    "lima", "mike", "november", "oscar", "papa",
];

/// The 64-bit generator splitmix64; also the source of choices in generated trees.
#[derive(Debug, Clone)]
pub struct SplitMix(u64);

impl SplitMix {
    /// Starts at state `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// A number below `bound` (which must not be 0); slightly uneven, which tests do not mind.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
    /// True once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Kind `random`: `length` bytes of splitmix64, little endian.
pub fn splitmix(seed: u64, length: usize) -> Vec<u8> {
    let mut generator = SplitMix::new(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&generator.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Kind `text`: words chosen by `splitmix(seed, length)`, eight to a line.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 16);
    for (number, choice) in splitmix(seed, length).into_iter().enumerate() {
        if bytes.len() >= length {
            break;
        }
        bytes.extend_from_slice(WORDS[usize::from(choice & 15)].as_bytes());
        bytes.push(if number % 8 == 7 { b'\n' } else { b' ' });
    }
    bytes.truncate(length);
    bytes
}

/// Kind `zeros`.
pub fn zeros(length: usize) -> Vec<u8> {
    vec![0; length]
}

/// Kind `repeat64k`: 64 KiB of splitmix64, repeated.
pub fn repeat64k(seed: u64, length: usize) -> Vec<u8> {
    splitmix(seed, 65536).into_iter().cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_those_of_the_vectors() {
        // First outputs of splitmix64 with seed 0, as published with the algorithm.
        assert_eq!(SplitMix::new(0).next_u64(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(splitmix(0, 9)[..8], 0xE220_A839_7B1D_CDAF_u64.to_le_bytes());
        assert_eq!(splitmix(5, 11).len(), 11);
        let words = String::from_utf8(text(34, 400)).unwrap();
        assert_eq!(words.len(), 400);
        assert_eq!(words.lines().next().unwrap().split(' ').count(), 8);
        assert_eq!(repeat64k(1, 65536 + 4)[65536..], splitmix(1, 4));
    }
}
