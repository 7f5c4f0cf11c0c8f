//! Scans a range with a rolling hash in several lanes at once and says the first match.
//!
//! A rolling hash is one long chain of dependent steps, so a single scan waits for latency. But
//! its value depends on the last 64 bytes alone: the range is cut into stretches, one per lane,
//! and all lanes roll in one loop. Matches are rare, so lanes only say "somewhere in this block";
//! the exact place is found by rolling that block again. Results equal those of one serial scan.

use std::ops::Range;

/// Bytes a hash depends on.
pub const WINDOW_BYTES: usize = 64;

/// Longest stretch of one lane: long enough to forget the cost of starting lanes (each reads 64
/// bytes more), short enough that little is scanned in vain behind a match, and within L1.
const STRETCH_BYTES_MAX: usize = 8192;
/// Below this, starting the lanes costs more than they bring.
const STRETCH_BYTES_MIN: usize = 512;

/// `WINDOW_BYTES` bytes: the unit in which lanes report.
pub(crate) type Block = [u8; WINDOW_BYTES];

/// One rolling hash, rolled one way.
pub(crate) trait Kernel {
    /// How many stretches roll side by side.
    const LANES: usize;
    /// First position in `range` whose window matches, by a serial scan. `range.start >= 64`.
    fn find_serially(&self, data: &[u8], range: Range<usize>) -> Option<usize>;
    /// Rolls lane `l` over `lanes[l][1..]`, all of one length; `lanes[l][0]` is the block before.
    /// Says the first index `i` such that block `lanes[l][i + 1]` of some lane has a match.
    fn first_matching_block(&self, lanes: &[&[Block]]) -> Option<usize>;
}

/// First position in `range` whose window (the 64 bytes that end there) matches.
///
/// # Panics
/// If `range` starts before byte 64 or ends behind `data`: the windows would not be in `data`.
pub(crate) fn find<K: Kernel>(kernel: &K, data: &[u8], range: Range<usize>) -> Option<usize> {
    assert!(
        range.start >= WINDOW_BYTES && range.end <= data.len(),
        "windows of {range:?} are not in the data"
    );
    let mut start = range.start;
    while let Some(stretch) = stretch_bytes(K::LANES, range.end.saturating_sub(start)) {
        if let Some(found) = find_in_lanes(kernel, data, start, stretch) {
            return Some(found);
        }
        start += K::LANES * stretch;
    }
    if start < range.end { kernel.find_serially(data, start..range.end) } else { None }
}

/// How long the lanes' stretches should be with `rest` bytes to scan; `None`: too short for lanes.
fn stretch_bytes(lanes: usize, rest: usize) -> Option<usize> {
    let stretch = (rest / lanes).min(STRETCH_BYTES_MAX) / WINDOW_BYTES * WINDOW_BYTES;
    (stretch >= STRETCH_BYTES_MIN).then_some(stretch)
}

/// `find` over `K::LANES` stretches that begin at `start`.
fn find_in_lanes<K: Kernel>(kernel: &K, data: &[u8], start: usize, stretch: usize) -> Option<usize> {
    let lane_starts = (0..K::LANES).map(|lane| start + lane * stretch);
    let lanes: Vec<&[Block]> =
        lane_starts.clone().map(|at| data[at - WINDOW_BYTES..at + stretch].as_chunks().0).collect();
    let scanned = kernel.first_matching_block(&lanes)? * WINDOW_BYTES;
    let in_block = |at: usize| kernel.find_serially(data, at + scanned..at + scanned + WINDOW_BYTES);
    let (lane, found) = lane_starts.clone().enumerate().find_map(|(lane, at)| Some((lane, in_block(at)?)))?;
    // Earlier lanes have no match so far, but lie wholly before it: finish them first.
    let behind_block = scanned + WINDOW_BYTES;
    let earlier = lane_starts.take(lane).find_map(|at| find(kernel, data, at + behind_block..at + stretch));
    earlier.or(Some(found))
}
