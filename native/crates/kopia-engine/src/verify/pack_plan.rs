//! Which packs are read back, in which order, and what may be said of a repository afterwards: decisions alone.
//!
//! A pack is the unit: it never changes, so its contents are whole as long as they were all read back once.

use super::ledger::Record;
use super::repository::{Coverage, WithinWindow};

/// What is known of a pack that live contents are in. Indexed by pack number.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PackState {
    /// `None` if the storage does not have it.
    pub(super) length: Option<u64>,
    /// Live contents, and their bytes.
    pub(super) contents: u32,
    pub(super) live_bytes: u64,
    /// What the ledger says.
    pub(super) record: Record,
    /// Of the random share that is asked for.
    pub(super) chosen: bool,
}

impl PackState {
    /// When all of its live bytes were read back last; 0 if never.
    pub(super) fn verified_at(&self) -> u32 {
        if self.record.bytes >= self.live_bytes { self.record.at_seconds } else { 0 }
    }
}

/// Which packs are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Only packs that were not read back at or after this.
    pub(super) unread_since_seconds: Option<u32>,
    /// Not more than so many bytes, unless the first pack alone has more.
    pub(super) budget_bytes: Option<u64>,
}

/// Numbers of the packs to read: never verified and oldest verified first.
pub(super) fn packs_to_read(packs: &[PackState], wanted: &Wanted) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0u32..)
        .zip(packs)
        .filter(|(_, pack)| pack.contents > 0 && pack.chosen && pack.length.is_some())
        .filter(|(_, pack)| wanted.unread_since_seconds.is_none_or(|since| pack.verified_at() < since))
        .map(|(number, _)| number)
        .collect();
    numbers.sort_by_key(|&number| packs[number as usize].verified_at());
    if let Some(budget) = wanted.budget_bytes {
        let mut used = 0;
        let mut fits = |number: &u32| {
            let first = used == 0;
            used += packs[*number as usize].live_bytes;
            first || used <= budget
        };
        let count = numbers.iter().take_while(|number| fits(number)).count();
        numbers.truncate(count);
    }
    numbers
}

/// Cuts packs into stretches of about `contents_max` contents, which are sorted together.
pub(super) fn passes(packs: &[PackState], numbers: &[u32], contents_max: usize) -> Vec<usize> {
    let (mut ends, mut contents) = (Vec::new(), 0);
    for (at, &number) in numbers.iter().enumerate() {
        let more = packs[number as usize].contents as usize;
        if contents > 0 && contents + more > contents_max {
            ends.push(at);
            contents = 0;
        }
        contents += more;
    }
    if contents > 0 {
        ends.push(numbers.len());
    }
    ends
}

/// How much of all live bytes was read back, and when.
pub(super) fn coverage(packs: &[PackState], now_seconds: u32, windows_seconds: &[u64]) -> Coverage {
    let live = || packs.iter().filter(|pack| pack.contents > 0);
    let bytes: u64 = live().map(|pack| pack.live_bytes).sum();
    let since = |cutoff: u64| -> u64 {
        let read = live().filter(|pack| u64::from(pack.verified_at()) >= cutoff.max(1));
        read.map(|pack| pack.live_bytes).sum()
    };
    let within = windows_seconds.iter().map(|&seconds| {
        let verified = since(u64::from(now_seconds).saturating_sub(seconds));
        WithinWindow { seconds, bytes: verified, percent: percent_of(verified, bytes) }
    });
    let oldest = live().map(PackState::verified_at).min().filter(|&seconds| seconds > 0);
    Coverage { bytes, never_bytes: bytes - since(0), oldest_seconds: oldest, within: within.collect() }
}

/// With two decimals, rounded down: 100 is said of everything only. Of nothing, everything is read.
fn percent_of(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 100.0;
    }
    (u128::from(part) * 10_000 / u128::from(whole)) as f64 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(live_bytes: u64, at_seconds: u32) -> PackState {
        let record = Record { at_seconds, bytes: live_bytes };
        PackState { length: Some(live_bytes), contents: 1, live_bytes, record, chosen: true }
    }

    #[test]
    fn the_oldest_are_read_first_until_the_budget_is_used() {
        let packs = [pack(10, 300), pack(10, 0), pack(10, 100), pack(10, 200)];
        let read = |budget_bytes| packs_to_read(&packs, &Wanted { budget_bytes, ..Wanted::default() });
        assert_eq!(read(None), [1, 2, 3, 0]);
        assert_eq!(read(Some(25)), [1, 2]);
        assert_eq!(read(Some(5)), [1], "each run gets somewhere");
        let recent = Wanted { unread_since_seconds: Some(200), budget_bytes: None };
        assert_eq!(packs_to_read(&packs, &recent), [1, 2]);
    }

    #[test]
    fn lost_packs_and_packs_without_live_contents_are_not_read() {
        let lost = PackState { length: None, ..pack(10, 0) };
        let empty = PackState { contents: 0, ..pack(0, 0) };
        let not_chosen = PackState { chosen: false, ..pack(10, 0) };
        assert!(packs_to_read(&[lost, empty, not_chosen], &Wanted::default()).is_empty());
    }

    #[test]
    fn a_pack_of_which_more_lives_than_was_read_counts_as_never_read() {
        let grown = PackState { live_bytes: 30, ..pack(20, 500) };
        let told = coverage(&[grown, pack(70, 400)], 500, &[100, 99]);
        assert_eq!((told.bytes, told.never_bytes, told.oldest_seconds), (100, 30, None));
        assert_eq!(told.within.iter().map(|one| one.bytes).collect::<Vec<_>>(), [70, 0]);
    }

    #[test]
    fn hundred_percent_is_said_of_everything_only() {
        assert_eq!(percent_of(999_999, 1_000_000), 99.99);
        assert_eq!(percent_of(1_000_000, 1_000_000), 100.0);
        assert_eq!(percent_of(0, 0), 100.0);
    }

    proptest! {
        #[test]
        fn passes_have_every_pack_once_and_stay_below_the_bound(
            counts in prop::collection::vec(1u32..50, 0..60), most in 1usize..200,
        ) {
            let packs: Vec<_> = counts.iter().map(|&contents| PackState { contents, ..pack(1, 0) }).collect();
            let numbers: Vec<u32> = (0..packs.len() as u32).collect();
            let ends = passes(&packs, &numbers, most);
            prop_assert_eq!(ends.last().copied().unwrap_or(0), numbers.len());
            let mut start = 0;
            for end in ends {
                let contents: u32 = counts[start..end].iter().sum();
                prop_assert!(end > start && (contents as usize <= most || end == start + 1));
                start = end;
            }
        }
    }
}
