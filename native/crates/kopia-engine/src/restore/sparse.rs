//! Writing with holes: blocks of the target that are all zero are not written.

use kopia_kernels::is_zero;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Stretches of `data` to write if it goes to `offset` of a file of zeros: cut at multiples of
/// `block_bytes` in the file, zero blocks left out.
fn stretches(data: &[u8], offset: u64, block_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    let block_end = move |at: usize| {
        let into = ((offset + at as u64) % block_bytes as u64) as usize;
        (at + block_bytes - into).min(data.len())
    };
    std::iter::from_fn(move || {
        while at < data.len() && is_zero(&data[at..block_end(at)]) {
            at = block_end(at);
        }
        let start = at;
        while at < data.len() && !is_zero(&data[at..block_end(at)]) {
            at = block_end(at);
        }
        (start < at).then_some(start..at)
    })
}

/// Writes `data` at `offset` of a file that reads as zeros there. The file may end before the last
/// byte of `data` if that is zero: the caller sets its length.
pub(super) fn write_sparse(file: &File, data: &[u8], offset: u64, block_bytes: usize) -> io::Result<()> {
    stretches(data, offset, block_bytes)
        .try_for_each(|range| file.write_all_at(&data[range.clone()], offset + range.start as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_blocks_are_left_out_and_others_joined() {
        let mut data = vec![0; 40];
        data[9] = 1;
        data[17] = 1;
        data[39] = 1;
        let cut: Vec<_> = stretches(&data, 0, 8).collect();
        assert_eq!(cut, [8..24, 32..40]);
        // The same bytes two further on: blocks end elsewhere in the data.
        let cut: Vec<_> = stretches(&data, 2, 8).collect();
        assert_eq!(cut, [6..22, 38..40]);
    }

    proptest! {
        #[test]
        fn what_is_left_out_is_zero_and_what_is_written_is_in_order(
            data in prop::collection::vec(prop_oneof![9 => Just(0u8), 1 => any::<u8>()], 0..300),
            offset in 0u64..100,
        ) {
            let mut seen = 0;
            for range in stretches(&data, offset, 16) {
                prop_assert!(range.start >= seen && is_zero(&data[seen..range.start]));
                seen = range.end;
            }
            prop_assert!(is_zero(&data[seen..]));
        }
    }
}
