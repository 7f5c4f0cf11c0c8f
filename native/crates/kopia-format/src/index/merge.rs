//! Merges several indexes in key order and keeps the winner of each content (§4.4.3).
//!
//! Memory is one entry an index, whatever their size. Deleted winners are given too: what the
//! deletion watermark hides is the caller's decision ([`super::RawEntry::is_masked`]).

use super::{Entries, IndexReader, RawEntry};
use crate::error::{FormatError, Result};
use crate::ids::ContentId;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The winning entry of a content; of entries that no rule tells apart, that of the first index.
#[derive(Debug)]
pub struct MergedEntry<'a, B> {
    /// The entry; its `pack_index` belongs to `reader`.
    pub entry: RawEntry,
    /// The index that it comes from.
    pub reader: &'a IndexReader<B>,
    /// Position of that index among those given to the merge.
    pub source: usize,
}

impl<'a, B: AsRef<[u8]>> MergedEntry<'a, B> {
    /// Name of the entry's pack.
    ///
    /// # Errors
    /// As [`IndexReader::pack_name`].
    pub fn pack_name(&self) -> Result<&'a str> {
        self.reader.pack_name(self.entry.pack_index)
    }

    fn supersedes(&self, other: &Self) -> Result<bool> {
        let times = self.entry.timestamp_seconds.cmp(&other.entry.timestamp_seconds);
        if times.is_ne() {
            return Ok(times.is_gt());
        }
        Ok(self.entry.supersedes(self.pack_name()?, &other.entry, other.pack_name()?))
    }
}

/// Streaming merge: an iterator over winners in key order; ends at the first error.
#[derive(Debug)]
pub struct Merge<'a, B> {
    heads: BinaryHeap<Head<'a, B>>,
    /// An index that failed while the heap was built.
    failed: Option<FormatError>,
}

impl<'a, B: AsRef<[u8]>> Merge<'a, B> {
    /// Merges whole indexes.
    pub fn new(readers: impl IntoIterator<Item = &'a IndexReader<B>>) -> Self {
        Self::of(readers.into_iter().map(|reader| Ok(reader.entries())))
    }

    /// Merges only the contents with this prefix (`None`: those without one).
    pub fn with_prefix(readers: impl IntoIterator<Item = &'a IndexReader<B>>, prefix: Option<u8>) -> Self {
        Self::of(readers.into_iter().map(|reader| reader.entries_with_prefix(prefix)))
    }

    fn of(sources: impl Iterator<Item = Result<Entries<'a, B>>>) -> Self {
        let mut merge = Self { heads: BinaryHeap::new(), failed: None };
        for (source, rest) in sources.enumerate() {
            match rest.and_then(|rest| Head::first(source, rest)) {
                Ok(head) => merge.heads.extend(head),
                Err(error) => merge.failed = Some(error),
            }
        }
        merge
    }

    /// Takes the least entry and puts the next one of its index in its place.
    fn take_least(&mut self) -> Result<Option<MergedEntry<'a, B>>> {
        let Some(mut head) = self.heads.peek_mut() else {
            return Ok(None);
        };
        let taken = MergedEntry { entry: head.entry, reader: head.rest.reader(), source: head.source };
        match head.rest.next().transpose()? {
            None => {
                PeekMut::pop(head);
            }
            Some(next) if next.content < taken.entry.content => {
                let why = format!("{} stands after {}", next.content, taken.entry.content);
                return Err(FormatError::malformed("index order", why));
            }
            Some(next) => head.entry = next,
        }
        Ok(Some(taken))
    }

    fn next_content(&self) -> Option<ContentId> {
        self.heads.peek().map(|head| head.entry.content)
    }

    fn next_winner(&mut self) -> Result<Option<MergedEntry<'a, B>>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some(mut winner) = self.take_least()? else {
            return Ok(None);
        };
        while self.next_content() == Some(winner.entry.content) {
            if let Some(rival) = self.take_least()?
                && rival.supersedes(&winner)?
            {
                winner = rival;
            }
        }
        Ok(Some(winner))
    }
}

impl<'a, B: AsRef<[u8]>> Iterator for Merge<'a, B> {
    type Item = Result<MergedEntry<'a, B>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_winner().transpose();
        if matches!(next, Some(Err(_))) {
            self.heads.clear();
        }
        next
    }
}

/// The next entry of one index, and what follows it.
#[derive(Debug)]
struct Head<'a, B> {
    entry: RawEntry,
    source: usize,
    rest: Entries<'a, B>,
}

impl<'a, B: AsRef<[u8]>> Head<'a, B> {
    fn first(source: usize, mut rest: Entries<'a, B>) -> Result<Option<Self>> {
        Ok(rest.next().transpose()?.map(|entry| Self { entry, source, rest }))
    }
}

// Reversed: `BinaryHeap` gives its greatest element first, the merge needs the least key.
impl<B> Ord for Head<'_, B> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.entry.content.cmp(&self.entry.content).then_with(|| other.source.cmp(&self.source))
    }
}

impl<B> PartialOrd for Head<'_, B> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<B> PartialEq for Head<'_, B> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<B> Eq for Head<'_, B> {}
