//! What maintenance asks of all contents at once: a frozen index whose rows are numbers, sets of
//! such numbers as bitmaps, and which packs are in use.
//!
//! A set over twenty million contents is 2.5 MB of bits, exact, whatever their names: that is what
//! keeps marking in bounded memory. The surprise: row numbers mean something only with their index.

use super::context::ContentContext;
use super::entry_table::EntryTable;
use super::info::ContentInfo;
use super::location::{Key, Location, content_of};
use super::manager::ContentManager;
use crate::error::Result;
use kopia_format::{BlobId, ContentId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of numbers below a bound; threads add to it side by side.
#[derive(Debug, Default)]
pub(crate) struct NumberSet(Vec<AtomicU64>);

impl NumberSet {
    /// An empty set of numbers below `bound`.
    pub(crate) fn below(bound: usize) -> Self {
        Self((0..bound.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds a number; whether it was missing before. A number beyond the bound is never added.
    pub(crate) fn add(&self, number: usize) -> bool {
        let bit = 1 << (number % 64);
        self.0.get(number / 64).is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// The numbers, in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(at, word)| {
            let word = word.load(Ordering::Relaxed);
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
        })
    }

    /// Whether a number is in the set.
    pub(crate) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (number % 64)) != 0)
    }
}

/// All stored entries at one moment, each with a row number.
pub(crate) struct FrozenIndex {
    table: Arc<EntryTable>,
    watermark_seconds: i64,
}

impl FrozenIndex {
    /// An empty set of its rows.
    pub(crate) fn no_rows(&self) -> NumberSet {
        NumberSet::below(self.table.len())
    }

    /// The row of a content that can be read.
    pub(crate) fn row_of(&self, content: &ContentId) -> Result<Option<usize>> {
        let found = self.table.find_row(&Key::of(content))?;
        Ok(found.filter(|(_, location)| !self.masks(location)).map(|(row, _)| row))
    }

    /// The content of a row.
    pub(crate) fn content_at(&self, row: usize) -> Result<ContentId> {
        Ok(content_of(self.table.key_of(row)?.as_bytes())?)
    }

    fn masks(&self, location: &Location) -> bool {
        location.deleted && i64::from(location.timestamp_seconds) <= self.watermark_seconds
    }
}

/// What a frozen index says of a content, as far as packs are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedContent {
    pub(crate) place: PackedPlace,
    pub(crate) length: u32,
    pub(crate) deleted: bool,
}

/// A content in a pack, in 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PackedPlace {
    pub(crate) pack: u32,
    pub(crate) offset: u32,
    /// Its row in the frozen index.
    pub(crate) row: u32,
}

/// Bytes of contents in a pack.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PackBytes {
    /// Of all contents that can be read.
    pub(crate) all: u64,
    /// Of those not deleted.
    pub(crate) live: u64,
}

impl ContentManager {
    /// Keys, parameters and storage.
    pub(crate) fn context(&self) -> &ContentContext {
        &self.context
    }

    /// The stored entries as they are now. What is pending is not in it: flush before.
    pub(crate) fn freeze(&self) -> Result<FrozenIndex> {
        let (table, watermark_seconds) = self.committed.frozen()?;
        Ok(FrozenIndex { table, watermark_seconds })
    }

    /// Calls `each` for every content that can be read, deleted ones too, in key order.
    pub(crate) fn for_each_place(
        &self,
        index: &FrozenIndex,
        each: &mut dyn FnMut(PackedContent) -> Result<()>,
    ) -> Result<()> {
        let mut row = 0;
        index.table.walk(&[], None, &mut |_, location| {
            let place = PackedPlace { pack: location.pack, offset: location.offset, row };
            row += 1;
            let content = PackedContent { place, length: location.packed_length, deleted: location.deleted };
            if index.masks(&location) { Ok(()) } else { each(content) }
        })
    }

    /// Packs that entries name (by number), deleted entries too.
    pub(crate) fn packs_in_use(&self) -> Result<NumberSet> {
        let index = self.freeze()?;
        let packs = NumberSet::below(self.catalog.pack_count());
        self.for_each_place(&index, &mut |content| {
            packs.add(content.place.pack as usize);
            Ok(())
        })?;
        Ok(packs)
    }

    /// Whether `packs` has this pack.
    pub(crate) fn has_pack(&self, packs: &NumberSet, name: &BlobId) -> bool {
        self.catalog.known_number(name).is_some_and(|number| packs.contains(number as usize))
    }

    /// Bytes of readable contents in each pack, by pack number.
    pub(crate) fn bytes_in_packs(&self, index: &FrozenIndex) -> Result<Vec<PackBytes>> {
        let mut packs = vec![PackBytes::default(); self.catalog.pack_count()];
        self.for_each_place(index, &mut |content| {
            if let Some(pack) = packs.get_mut(content.place.pack as usize) {
                let length = u64::from(content.length);
                pack.all += length;
                pack.live += if content.deleted { 0 } else { length };
            }
            Ok(())
        })?;
        Ok(packs)
    }

    /// The index blobs that hold all entries.
    pub(crate) fn active_index_blobs(&self) -> Vec<BlobId> {
        self.committed.blobs().into_iter().collect()
    }

    /// How many index blobs are read at opening.
    pub(crate) fn index_blob_count(&self) -> usize {
        self.committed.blobs().len()
    }

    /// The content of a row, and where it was when the index was frozen.
    pub(crate) fn info_at(&self, index: &FrozenIndex, row: usize) -> Result<ContentInfo> {
        let (key, location) = index.table.row(row)?;
        self.describe(content_of(key.as_bytes())?, &location)
    }

    /// How many packs have a number: all numbers are below this.
    pub(crate) fn pack_count(&self) -> usize {
        self.catalog.pack_count()
    }

    /// Number of a pack that some entry names.
    pub(crate) fn pack_number(&self, name: &BlobId) -> Option<u32> {
        self.catalog.known_number(name)
    }

    /// Name of a pack.
    pub(crate) fn pack_name(&self, number: u32) -> Result<BlobId> {
        self.catalog.name(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_added_once_and_none_beyond_the_bound() {
        let set = NumberSet::below(65);
        assert!(set.add(64) && !set.add(64) && set.add(0));
        assert!(set.contains(64) && set.contains(0) && !set.contains(63));
        assert!(!set.add(1000) && !set.contains(1000));
        assert!(set.numbers().eq([0, 64]));
    }
}
