//! Whether a buffer is all zeros, at the speed of memory: sparse files are full of them.

/// Whether every byte is zero; `true` for no bytes. Stops soon after the first other byte.
#[must_use]
pub fn is_zero(data: &[u8]) -> bool {
    // Without an early exit inside a block the compiler turns the fold into vector code.
    let (blocks, rest) = data.as_chunks::<256>();
    let or_all = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte);
    blocks.iter().all(|block| or_all(block) == 0) && or_all(rest) == 0
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn one_set_bit_anywhere_is_seen() {
        for length in [0, 1, 7, 255, 256, 257, 1000] {
            let mut data = vec![0u8; length];
            assert!(is_zero(&data));
            for at in 0..length {
                data[at] = 0x80 >> (at % 8);
                assert!(!is_zero(&data), "byte {at} of {length}");
                data[at] = 0;
            }
        }
    }
}
