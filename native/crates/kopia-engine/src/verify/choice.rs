//! Which contents are read back, and which objects were seen: both from the hash that is in their names.

use kopia_format::{ContentId, ObjectId};
use std::collections::HashSet;

/// Chooses a share of all contents: the same ones for the same seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    /// Numbers below this are chosen; `None`: all.
    limit: Option<u64>,
    seed: u64,
}

impl Choice {
    pub(super) fn new(percent: f64, seed: u64) -> Self {
        let share = (percent / 100.0).clamp(0.0, 1.0);
        let limit = (share < 1.0).then_some((share * 2f64.powi(64)) as u64);
        Self { limit, seed }
    }

    pub(super) fn is_chosen(self, content: &ContentId) -> bool {
        self.is_number_chosen(number(content))
    }

    /// The same for anything with a number.
    pub(super) fn is_number_chosen(self, number: u64) -> bool {
        self.limit.is_none_or(|limit| scatter(number ^ self.seed) < limit)
    }
}

/// A finalizer (that of splitmix64): neighbouring seeds give unlike choices.
fn scatter(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Eight bytes of the keyed hash.
fn number(content: &ContentId) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(content.hash().as_bytes()) {
        *to = *from;
    }
    u64::from_le_bytes(bytes)
}

/// Eight bytes for each thing seen: of ten million, two share them once in 300,000 verifications.
///
/// Bounded: when half of the room is used, what was seen before the other half is forgotten, and looked at
/// again where it is met again. That costs time, and never hides anything.
#[derive(Debug)]
pub(super) struct Seen {
    newer: HashSet<u64>,
    older: HashSet<u64>,
    half: usize,
}

/// What an entry takes in a hash set: itself and a byte of control.
const SEEN_BYTES: u64 = 9;

impl Seen {
    /// Nothing seen yet; takes about `bytes_max` of memory.
    pub(super) fn new(bytes_max: u64) -> Self {
        let slots = (bytes_max / SEEN_BYTES / 2).max(1 << 10);
        // Tables have a power of two of slots and are filled up to seven eighths.
        let half = ((1 << slots.ilog2()) as usize) / 8 * 7;
        Self { newer: HashSet::new(), older: HashSet::new(), half }
    }

    /// Whether the content is new.
    pub(super) fn insert_content(&mut self, content: &ContentId) -> bool {
        self.insert(content, u64::from(u8::MAX))
    }

    /// Whether the object is new.
    pub(super) fn insert_object(&mut self, object: &ObjectId) -> bool {
        self.insert(&object.content, u64::from(object.indirection) << 1 | u64::from(object.compressed))
    }

    fn insert(&mut self, content: &ContentId, kind: u64) -> bool {
        let prefix = u64::from(content.prefix().unwrap_or(0));
        let number = number(content) ^ scatter(kind << 8 | prefix);
        if self.older.contains(&number) {
            return false;
        }
        if self.newer.len() == self.half && !self.newer.contains(&number) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Vec<ContentId> {
        (0..10_000u64)
            .map(|number| ContentId::parse(&format!("{:032x}", u128::from(scatter(number)) << 64)))
            .collect::<Result<_, _>>()
            .expect("valid")
    }

    fn chosen(percent: f64, seed: u64) -> Vec<ContentId> {
        let choice = Choice::new(percent, seed);
        contents().into_iter().filter(|content| choice.is_chosen(content)).collect()
    }

    #[test]
    fn what_was_seen_lately_is_known_and_memory_is_bounded() {
        let mut seen = Seen::new(0);
        let contents = contents();
        assert!(contents.iter().all(|content| seen.insert_content(content)));
        assert!(seen.newer.len() <= seen.half && seen.older.len() <= seen.half);
        let late = &contents[contents.len() - seen.half..];
        assert!(late.iter().all(|content| !seen.insert_content(content)));
        assert!(seen.insert_content(&contents[0]), "forgotten, and looked at again");
    }

    #[test]
    fn the_share_is_met_and_repeats_for_a_seed() {
        assert!(chosen(0.0, 1).is_empty());
        assert_eq!(chosen(100.0, 1).len(), 10_000);
        let ten = chosen(10.0, 1);
        assert!((800..1200).contains(&ten.len()), "{}", ten.len());
        assert_eq!(ten, chosen(10.0, 1));
        assert_ne!(ten, chosen(10.0, 2));
    }
}
