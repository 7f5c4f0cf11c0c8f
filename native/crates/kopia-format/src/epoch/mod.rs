//! Which epoch index blobs count, and what maintenance may do with them (format document §4.7).
//!
//! Pure decisions over a listing: nothing here lists, reads or writes blobs. Parsing of names is
//! in `names`, complete sets in `complete_set`, the chain of ranges in `range_chain`. The
//! surprise: the timestamps that the *storage* gave to blobs are the only clock.

mod complete_set;
mod names;
mod parameters;
mod range_chain;

#[cfg(test)]
mod tests;

use crate::format_blob::EpochParameters;
use crate::ids::BlobId;
use crate::time::Timestamp;
use complete_set::first_complete_set;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub use names::{
    DELETION_WATERMARK_BODY, EPOCH_MARKER_BODY, EPOCH_MAX, compaction_suffix, deletion_watermark_name,
    epoch_marker_name, epoch_of, epoch_range_of, range_prefix, single_prefix, uncompacted_prefix,
    uncompacted_suffix,
};
pub use parameters::check_parameters;

/// A listed blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBlob {
    /// Its name.
    pub id: BlobId,
    /// Its length, in bytes.
    pub length: u64,
    /// When the storage says that it was written.
    pub timestamp: Timestamp,
}

/// Epochs from the write epoch backwards that writers may still add to.
const UNSETTLED_EPOCHS: u64 = 2;

/// What the epoch blobs of a repository say.
#[derive(Debug, Clone, Default)]
pub struct EpochState {
    /// Current write epoch W.
    pub write_epoch: u64,
    /// Effective deletion watermark, Unix seconds (0 if none).
    pub deletion_watermark: i64,
    /// Epoch markers.
    pub markers: Vec<(u64, ListedBlob)>,
    /// Deletion watermarks, Unix seconds.
    pub watermarks: Vec<(i64, ListedBlob)>,
    /// Uncompacted index blobs by epoch, as far as listed.
    pub uncompacted: BTreeMap<u64, Vec<ListedBlob>>,
    /// Complete single-epoch compactions.
    pub single: BTreeMap<u64, Vec<ListedBlob>>,
    /// Longest chain of complete ranges from 0: (first, last, blobs).
    pub ranges: Vec<(u64, u64, Vec<ListedBlob>)>,
}

impl EpochState {
    /// Builds the state from listings of `xe`, `xw`, `xs`, `xr` and `xn` blobs; others are ignored.
    ///
    /// The order of `blobs` decides between several complete sets of one epoch or range.
    pub fn from_listing(blobs: &[ListedBlob]) -> Self {
        let mut state = Self::default();
        let mut single = BTreeMap::<u64, Vec<&ListedBlob>>::new();
        let mut ranges = BTreeMap::<(u64, u64), Vec<&ListedBlob>>::new();
        for blob in blobs {
            let name = blob.id.as_str();
            match name.get(..2) {
                Some("xe") => state.markers.extend(epoch_of(name).map(|epoch| (epoch, blob.clone()))),
                Some("xw") => state.watermarks.extend(names::watermark_of(name).map(|at| (at, blob.clone()))),
                Some("xs") => names::group(&mut single, epoch_of(name), blob),
                Some("xr") => names::group(&mut ranges, epoch_range_of(name), blob),
                Some("xn") => names::group(&mut state.uncompacted, epoch_of(name), blob.clone()),
                _ => {}
            }
        }
        state.write_epoch = state.markers.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0);
        state.deletion_watermark = state.watermarks.iter().map(|(at, _)| *at).max().unwrap_or(0).max(0);
        state.single = complete_sets(single).collect();
        state.ranges = range_chain::longest(
            complete_sets(ranges).map(|((first, last), set)| (first, last, set)).collect(),
        );
        state
    }

    /// Blobs that together hold every entry (§4.7.3); needs `xn` of all epochs after the range chain that have no `xs`.
    pub fn active_index_blobs(&self) -> Vec<ListedBlob> {
        self.index_blobs_of(0, self.write_epoch + 1)
    }

    /// The part of [`Self::active_index_blobs`] for epochs `first` to `last`, both inclusive: the
    /// inputs of a range checkpoint.
    pub fn index_blobs_of(&self, first: u64, last: u64) -> Vec<ListedBlob> {
        let mut blobs = Vec::new();
        let mut start = first;
        for (range_first, range_last, set) in &self.ranges {
            // Strict, as Kopia has it: a range of one epoch is not used. Its epoch is then read
            // by itself, also if another range follows, so that no entry is lost.
            if *range_last > start {
                self.extend_by_epochs(start..*range_first, &mut blobs);
                blobs.extend_from_slice(set);
                start = range_last + 1;
            }
        }
        self.extend_by_epochs(start..last + 1, &mut blobs);
        blobs
    }

    /// Appends the blobs of some epochs: those that there are, not all numbers in between, which a single
    /// marker may make many.
    fn extend_by_epochs(&self, epochs: Range<u64>, blobs: &mut Vec<ListedBlob>) {
        if epochs.is_empty() {
            return;
        }
        let of = |sets: &BTreeMap<u64, Vec<ListedBlob>>| {
            sets.range(epochs.clone()).map(|(epoch, _)| *epoch).collect()
        };
        let mut listed: BTreeSet<u64> = of(&self.uncompacted);
        listed.extend::<BTreeSet<u64>>(of(&self.single));
        for epoch in listed {
            blobs.extend_from_slice(self.index_blobs_of_epoch(epoch));
        }
    }

    fn index_blobs_of_epoch(&self, epoch: u64) -> &[ListedBlob] {
        let compacted = self.single.get(&epoch).filter(|_| self.is_settled(epoch));
        compacted.or_else(|| self.uncompacted.get(&epoch)).map_or(&[], Vec::as_slice)
    }

    /// Whether no writer can add to `epoch` any more: W−2 and before.
    pub fn is_settled(&self, epoch: u64) -> bool {
        epoch.checked_add(UNSETTLED_EPOCHS).is_some_and(|after| after <= self.write_epoch)
    }

    fn first_epoch_after_ranges(&self) -> u64 {
        self.ranges.last().map_or(0, |(_, last, _)| last + 1)
    }

    /// Epoch to compact next, if any (§4.7.5): the first settled one behind the ranges without `xs`.
    ///
    /// Kopia 0.22 looks past the first run of `xs` epochs only and may stall at a gap; this is the
    /// choice of later versions. An epoch without any `xn` blob gives nothing to write and is none.
    pub fn single_compaction_candidate(&self) -> Option<u64> {
        self.single_compaction_candidates().next()
    }

    /// All settled epochs behind the ranges that have `xn` and no `xs`, in order.
    pub fn single_compaction_candidates(&self) -> impl Iterator<Item = u64> {
        let end = self.write_epoch.saturating_sub(UNSETTLED_EPOCHS - 1);
        let start = self.first_epoch_after_ranges().min(end);
        let listed = self.uncompacted.range(start..end).map(|(epoch, _)| *epoch);
        listed.filter(|epoch| !self.single.contains_key(epoch))
    }

    /// Whether the write epoch should advance: its blobs span the least duration and are many
    /// enough or large enough. Needs the `xn` blobs of W.
    pub fn should_advance(&self, parameters: &EpochParameters) -> bool {
        let Some(blobs) = self.uncompacted.get(&self.write_epoch) else { return false };
        let times = || blobs.iter().map(|blob| blob.timestamp);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return false };
        if nanoseconds_between(first, last) < i128::from(parameters.min_epoch_duration) {
            return false;
        }
        let size: u128 = blobs.iter().map(|blob| u128::from(blob.length)).sum();
        at_least(blobs.len() as u128, parameters.epoch_advance_on_count_threshold)
            || at_least(size, parameters.epoch_advance_on_total_size_bytes_threshold)
    }

    /// Range to checkpoint next, if any: (first, last). Its inputs are [`Self::index_blobs_of`].
    ///
    /// A frequency of 7 gives ranges of at least 8 epochs. One of 0 counts as 1, because ranges
    /// of a single epoch are never used.
    pub fn range_checkpoint_candidate(&self, parameters: &EpochParameters) -> Option<(u64, u64)> {
        let last = self.write_epoch.checked_sub(UNSETTLED_EPOCHS)?;
        let first = self.first_epoch_after_ranges();
        let epochs = last.checked_sub(first)?;
        let enough = epochs >= 1 && at_least(u128::from(epochs), parameters.full_checkpoint_frequency);
        enough.then_some((first, last))
    }

    /// The storage clock: the latest timestamp of the `xn` blobs of W−1, W and W+1.
    fn storage_clock(&self) -> Option<Timestamp> {
        let epochs = self.write_epoch.saturating_sub(1)..=self.write_epoch + 1;
        self.uncompacted.range(epochs).flat_map(|(_, blobs)| blobs).map(|blob| blob.timestamp).max()
    }

    /// Whether what was written at `timestamp` is old enough that every client has seen it.
    fn is_seen_by_all(&self, timestamp: Timestamp, parameters: &EpochParameters) -> bool {
        self.storage_clock().is_some_and(|clock| {
            nanoseconds_between(timestamp, clock) > i128::from(parameters.cleanup_safety_margin)
        })
    }

    /// Marker and watermark blobs that may be deleted: markers before W−1, and watermarks that
    /// are not the effective one and older than the safety margin.
    ///
    /// None at all if there is no `xn` blob to tell the time.
    pub fn deletable_markers(&self, parameters: &EpochParameters) -> Vec<BlobId> {
        if self.storage_clock().is_none() {
            return Vec::new();
        }
        let markers =
            self.markers.iter().filter(|(epoch, _)| epoch + 1 < self.write_epoch).map(|(_, blob)| blob);
        let watermarks = self.watermarks.iter().filter_map(|(at, blob)| {
            let superseded = *at != self.deletion_watermark;
            (superseded && self.is_seen_by_all(blob.timestamp, parameters)).then_some(blob)
        });
        markers.chain(watermarks).map(|blob| blob.id.clone()).collect()
    }

    /// `xn` blobs that complete `xs` sets made superfluous; needs a listing of all `xn` blobs.
    ///
    /// Only those of settled epochs, since readers ignore any other `xs` set.
    pub fn superseded_uncompacted(&self, parameters: &EpochParameters) -> Vec<BlobId> {
        let is_superseded = |epoch: &u64| {
            let written = self.single.get(epoch).and_then(|set| set.iter().map(|blob| blob.timestamp).max());
            self.is_settled(*epoch) && written.is_some_and(|written| self.is_seen_by_all(written, parameters))
        };
        let epochs = self.uncompacted.iter().filter(|(epoch, _)| is_superseded(epoch));
        epochs.flat_map(|(_, blobs)| blobs).map(|blob| blob.id.clone()).collect()
    }

    /// Whether a new deletion watermark (Unix seconds) may be written: it never moves back.
    pub fn accepts_watermark(&self, watermark: i64) -> bool {
        watermark >= self.deletion_watermark
    }

    /// Whether index blobs written for `epoch` came too late: readers and compactions may not
    /// look at its `xn` blobs any more, so they must be deleted and the flush must fail.
    pub fn is_too_late_for(&self, epoch: u64) -> bool {
        self.is_settled(epoch)
    }
}

fn complete_sets<K>(groups: BTreeMap<K, Vec<&ListedBlob>>) -> impl Iterator<Item = (K, Vec<ListedBlob>)> {
    groups.into_iter().filter_map(|(key, blobs)| Some((key, first_complete_set(&blobs)?)))
}

/// Whether `value` reaches a threshold, which stored parameters may make negative.
fn at_least(value: u128, threshold: i64) -> bool {
    u128::try_from(threshold).is_ok_and(|threshold| value >= threshold) || threshold < 0
}

/// From `earlier` to `later`, negative if they are the other way round.
pub(crate) fn nanoseconds_between(earlier: Timestamp, later: Timestamp) -> i128 {
    let nanoseconds = |at: Timestamp| i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanoseconds);
    nanoseconds(later) - nanoseconds(earlier)
}
