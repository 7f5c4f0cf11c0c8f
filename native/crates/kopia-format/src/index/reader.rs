//! Reading one index of either version from any bytes: a slice, a `Vec`, a mapped file.
//!
//! Opening checks everything but the entries themselves (version 1: also their pack names);
//! an entry is checked when it is read. Order of the entries is not checked here: a lookup in
//! an unsorted index finds nothing, [`super::Merge`] refuses one.

use super::layout::{self, EntryTable};
use super::{IndexEntry, RawEntry, v1, v2};
use crate::error::{FormatError, Result};
use crate::ids::{BlobId, ContentId};
use std::ops::Range;

/// Reads one index of either version over any bytes (a slice, a mapped file).
///
/// Beside the bytes it holds only the format table, and for version 1 eight bytes a pack.
#[derive(Debug)]
pub struct IndexReader<B> {
    bytes: B,
    table: EntryTable,
    version: Version,
}

#[derive(Debug)]
enum Version {
    V1(v1::PackNames),
    V2(v2::Tables),
}

impl<B: AsRef<[u8]>> IndexReader<B> {
    /// Checks header and bounds of all tables; bytes after them are ignored.
    ///
    /// # Errors
    /// `Unsupported` for a version other than 1 and 2, `Malformed` for anything that is not there.
    pub fn open(bytes: B) -> Result<Self> {
        let all = bytes.as_ref();
        let (table, version) = match all.first() {
            Some(1) => {
                let table = v1::read_header(all)?;
                (table, Version::V1(v1::PackNames::collect(all, &table)?))
            }
            Some(2) => {
                let (table, tables) = v2::read_header(all)?;
                (table, Version::V2(tables))
            }
            Some(other) => {
                return Err(FormatError::unsupported("index", format!("version {other}")));
            }
            None => return Err(FormatError::malformed("index", "no bytes")),
        };
        Ok(Self { bytes, table, version })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.table.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Index version, 1 or 2.
    pub fn version(&self) -> u32 {
        match self.version {
            Version::V1(_) => 1,
            Version::V2(_) => 2,
        }
    }

    /// Length of a key (1 + hash length); 255 in an empty index of version 1.
    pub fn key_length(&self) -> usize {
        self.table.key_length
    }

    /// Number of packs that entries can name.
    pub fn pack_count(&self) -> usize {
        match &self.version {
            Version::V1(names) => names.len(),
            Version::V2(tables) => tables.pack_count(),
        }
    }

    /// Name of pack `pack_index`, which is less than [`Self::pack_count`].
    ///
    /// # Errors
    /// `Malformed` for any other number.
    pub fn pack_name(&self, pack_index: u32) -> Result<&str> {
        let bytes = self.bytes.as_ref();
        match &self.version {
            Version::V1(names) => {
                let (offset, length) = names.get(pack_index).ok_or_else(|| {
                    FormatError::malformed("index v1", format!("pack {pack_index} of {}", names.len()))
                })?;
                layout::name_at(bytes, offset, length)
            }
            Version::V2(tables) => tables.pack_name(bytes, pack_index),
        }
    }

    /// The entry at `position` in key order, without the name of its pack.
    ///
    /// # Errors
    /// `Malformed` for a position outside the index, or a bad key, pack or format number.
    pub fn raw_entry(&self, position: usize) -> Result<RawEntry> {
        let (key, value) = self.table.entry(self.bytes.as_ref(), position)?;
        match &self.version {
            Version::V1(names) => names.decode(key, value),
            Version::V2(tables) => tables.decode(key, value),
        }
    }

    /// The entry at `position` in key order.
    ///
    /// # Errors
    /// As [`Self::raw_entry`].
    pub fn entry(&self, position: usize) -> Result<IndexEntry> {
        self.name(&self.raw_entry(position)?)
    }

    /// Gives `entry`, which came from this reader, the name of its pack.
    ///
    /// # Errors
    /// As [`Self::pack_name`].
    pub fn name(&self, entry: &RawEntry) -> Result<IndexEntry> {
        Ok(entry.named(BlobId::new(self.pack_name(entry.pack_index)?)))
    }

    /// Binary search.
    ///
    /// # Errors
    /// As [`Self::raw_entry`], for the entry found.
    pub fn find(&self, content: &ContentId) -> Result<Option<IndexEntry>> {
        self.find_raw(content)?.map(|entry| self.name(&entry)).transpose()
    }

    /// Binary search without the name of the pack.
    ///
    /// # Errors
    /// As [`Self::raw_entry`], for the entry found.
    pub fn find_raw(&self, content: &ContentId) -> Result<Option<RawEntry>> {
        let bytes = self.bytes.as_ref();
        let position = self.table.partition(bytes, |key| layout::compare_key(key, content).is_lt())?;
        if position == self.len()
            || layout::compare_key(self.table.entry(bytes, position)?.0, content).is_ne()
        {
            return Ok(None);
        }
        self.raw_entry(position).map(Some)
    }

    /// All entries in key order.
    pub fn entries(&self) -> Entries<'_, B> {
        Entries { reader: self, positions: 0..self.len() }
    }

    /// Entries whose content has this prefix (`None`: no prefix), in key order.
    ///
    /// # Errors
    /// None for an opened index whose bytes did not change.
    pub fn entries_with_prefix(&self, prefix: Option<u8>) -> Result<Entries<'_, B>> {
        let bytes = self.bytes.as_ref();
        let first = prefix.unwrap_or(0);
        let start = self.table.partition(bytes, |key| key.first() < Some(&first))?;
        let end = self.table.partition(bytes, |key| key.first() <= Some(&first))?;
        Ok(Entries { reader: self, positions: start..end.max(start) })
    }
}

/// Entries of one reader in key order; allocates nothing.
#[derive(Debug)]
pub struct Entries<'a, B> {
    reader: &'a IndexReader<B>,
    positions: Range<usize>,
}

impl<'a, B> Entries<'a, B> {
    /// The reader that the entries come from.
    pub fn reader(&self) -> &'a IndexReader<B> {
        self.reader
    }
}

impl<B: AsRef<[u8]>> Iterator for Entries<'_, B> {
    type Item = Result<RawEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.positions.next().map(|position| self.reader.raw_entry(position))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.positions.size_hint()
    }
}

impl<B: AsRef<[u8]>> ExactSizeIterator for Entries<'_, B> {}
