//! Which pieces of a device may have changed: one bit each, set from ranges that come from outside.

use super::layout::{PIECE_BYTES, piece_count};
use crate::error::{Error, ErrorKind, Result};

/// Largest device that is believed: 8 EiB would be a bitmap of a terabyte.
const DEVICE_BYTES_MAX: u64 = 1 << 50;

/// Pieces of a device, some of them marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedBlocks {
    device_bytes: u64,
    bits: Vec<u64>,
}

impl ChangedBlocks {
    /// Nothing is marked.
    ///
    /// # Errors
    /// `InvalidArgument` above 1 PiB.
    pub fn new(device_bytes: u64) -> Result<Self> {
        if device_bytes > DEVICE_BYTES_MAX {
            let message =
                format!("a device of {device_bytes} bytes is larger than any that is supported (1 PiB)");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let words = piece_count(device_bytes).div_ceil(64);
        Ok(Self { device_bytes, bits: vec![0; words as usize] })
    }

    /// Marks every piece that a range touches; what lies beyond the device is left out.
    ///
    /// # Errors
    /// `InvalidArgument` for a negative number or an end beyond 2⁶³.
    pub fn mark(&mut self, offset: i64, length: i64) -> Result<()> {
        let range = (u64::try_from(offset), u64::try_from(length), offset.checked_add(length));
        let (Ok(start), Ok(length), Some(_)) = range else {
            let message = format!("the changed range of {length} bytes at {offset} cannot be");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        };
        let end = (start + length).min(self.device_bytes);
        if start >= end {
            return Ok(());
        }
        for index in start / PIECE_BYTES..piece_count(end) {
            self.bits[(index / 64) as usize] |= 1 << (index % 64);
        }
        Ok(())
    }

    /// Whether a piece is marked.
    pub fn is_marked(&self, index: u64) -> bool {
        self.bits.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Marked pieces.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Size of the device in bytes.
    pub fn device_bytes(&self) -> u64 {
        self.device_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_mark_what_they_touch_and_nothing_beyond() {
        let mut blocks = ChangedBlocks::new(3 * PIECE_BYTES + 5).expect("small");
        blocks.mark(0, 0).expect("empty");
        assert_eq!(blocks.count(), 0);
        blocks.mark(PIECE_BYTES as i64 - 1, 2).expect("two pieces");
        assert_eq!(
            (0..5).map(|index| blocks.is_marked(index)).collect::<Vec<_>>(),
            [true, true, false, false, false]
        );
        blocks.mark(3 * PIECE_BYTES as i64, i64::MAX - 3 * PIECE_BYTES as i64).expect("cut");
        assert!(blocks.is_marked(3) && !blocks.is_marked(4));
        blocks.mark(1 << 40, 1).expect("beyond the end");
        assert_eq!(blocks.count(), 3);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let mut blocks = ChangedBlocks::new(PIECE_BYTES).expect("small");
        for (offset, length) in [(-1, 5), (0, -5), (i64::MIN, 1), (5, i64::MAX)] {
            assert!(blocks.mark(offset, length).is_err(), "{offset} {length}");
        }
        assert_eq!(blocks.count(), 0);
        assert!(ChangedBlocks::new(u64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn marks_are_those_of_a_plain_set(ranges in prop::collection::vec((0i64..9 << 20, 0i64..3 << 20), 0..20)) {
            let size = (7 << 20) + 777;
            let mut blocks = ChangedBlocks::new(size).expect("small");
            let mut plain = std::collections::BTreeSet::new();
            for (offset, length) in ranges {
                blocks.mark(offset, length).expect("possible");
                let end = (offset + length).min(size as i64);
                plain.extend((0..8i64).filter(|index| (index << 20) < end && (index + 1) << 20 > offset && offset < end));
            }
            let marked: std::collections::BTreeSet<_> = (0..8).filter(|index| blocks.is_marked(*index as u64)).collect();
            prop_assert_eq!(marked, plain);
        }
    }
}
