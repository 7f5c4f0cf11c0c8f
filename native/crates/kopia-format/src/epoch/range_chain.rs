//! The longest chain of range checkpoints that starts at epoch 0 (§4.7.3, step 2).
//!
//! Source: Kopia `internal/epoch/epoch_range.go`.

use super::ListedBlob;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// First epoch, last epoch, blobs.
pub(super) type Range = (u64, u64, Vec<ListedBlob>);

/// The best chain from some epoch on.
#[derive(Clone, Copy)]
struct Best {
    last: u64,
    ranges: usize,
    /// Position of the first range of the chain.
    choice: usize,
}

/// Chooses a chain without gaps from 0 with the greatest last epoch, then the fewest ranges.
///
/// In each range `first <= last`. A chain that is only 0–0 counts as none, as Kopia has it.
pub(super) fn longest(mut ranges: Vec<Range>) -> Vec<Range> {
    // Chains are built from the back, so that what follows a range is known before it.
    ranges.sort_by_key(|(first, last, _)| (Reverse(*first), Reverse(*last)));
    let mut best = BTreeMap::<u64, Best>::new();
    for (choice, (first, last, _)) in ranges.iter().enumerate() {
        let after = best.get(&(last + 1));
        let candidate = Best {
            last: after.map_or(*last, |after| after.last),
            ranges: 1 + after.map_or(0, |after| after.ranges),
            choice,
        };
        let rank = |best: &Best| (best.last, Reverse(best.ranges));
        if best.get(first).is_none_or(|other| rank(&candidate) > rank(other)) {
            best.insert(*first, candidate);
        }
    }
    let mut chain = Vec::new();
    let mut next = best.get(&0).filter(|best| best.last > 0);
    while let Some(best_here) = next {
        let range = std::mem::take(&mut ranges[best_here.choice]);
        next = best.get(&(range.1 + 1));
        chain.push(range);
    }
    chain
}
