//! A sorted table of entries, immutable: in memory while small, in an unlinked file when large, or sealed in a file
//! of the index cache.
//!
//! Beside the rows only one 8-byte fence for 32 of them is in memory, so that twenty million
//! entries cost five megabytes; a lookup in a file is one positioned read of a kilobyte,
//! served by the page cache. (No memory map: what is mapped counts as resident.)

use super::location::{KEY_LENGTH_MAX, Key, LOCATION_LENGTH, Location, ROW_LENGTH_MAX};
use super::sealed_rows::{Renumbering, SealedRows};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::encryption::BLOCK_OVERHEAD;
use std::cmp::Ordering;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// Rows between two fences: a block.
pub(super) const FENCE_ROWS: usize = 32;
/// Bytes of the largest block, sealed.
const BLOCK_BYTES_MAX: usize = FENCE_ROWS * ROW_LENGTH_MAX + BLOCK_OVERHEAD;
/// Bytes read at once when a table in a file is walked.
const WALK_BYTES: usize = 64 << 10;
/// Bytes gathered before they go to the file.
const SPILL_BYTES: usize = 256 << 10;

/// An immutable table of rows in key order.
pub(crate) struct EntryTable {
    key_length: usize,
    rows: Rows,
    count: usize,
    fences: Vec<u64>,
    /// Where packs and formats have other numbers in the rows than in the catalog.
    numbers: Option<Renumbering>,
}

pub(super) enum Rows {
    Memory(Vec<u8>),
    Spilled(File),
    Sealed(Box<SealedRows>),
}

fn fence(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = key.len().min(8);
    first[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(first)
}

fn spill_error(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Filesystem, "index table in a temporary file (see TMPDIR)").caused_by(error)
}

impl EntryTable {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of rows in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.rows {
            Rows::Memory(bytes) => bytes.len(),
            Rows::Spilled(_) | Rows::Sealed(_) => 0,
        }
    }

    /// A table of the index cache.
    pub(super) fn cached(rows: Rows, key_length: usize, count: usize, fences: Vec<u64>) -> Self {
        Self { key_length, rows, count, fences, numbers: None }
    }

    /// The same, its packs and formats numbered otherwise.
    pub(super) fn renumbered(self, numbers: Renumbering) -> Self {
        Self { numbers: Some(numbers), ..self }
    }

    /// One for each block: the start of its first key.
    pub(super) fn fences(&self) -> &[u64] {
        &self.fences
    }

    /// Bytes of a key.
    pub(super) fn key_length(&self) -> usize {
        self.key_length
    }

    fn row_length(&self) -> usize {
        self.key_length + LOCATION_LENGTH
    }

    fn location(&self, bytes: &[u8]) -> Result<Location> {
        let location = Location::decode(bytes);
        self.numbers.as_ref().map_or(Ok(location), |numbers| numbers.in_catalog(location))
    }

    /// The location of `key`.
    pub(crate) fn find(&self, key: &Key) -> Result<Option<Location>> {
        Ok(self.find_row(key)?.map(|(_, location)| location))
    }

    /// Which row `key` has, counted from 0, and its location.
    pub(crate) fn find_row(&self, key: &Key) -> Result<Option<(usize, Location)>> {
        let key = key.as_bytes();
        if key.len() != self.key_length || self.count == 0 {
            return Ok(None);
        }
        let wanted = fence(key);
        // The block before the first fence that is not smaller may still hold the key.
        let first = self.fences.partition_point(|&f| f < wanted).saturating_sub(1);
        for block in first..self.fences.len() {
            if self.fences[block] > wanted {
                break;
            }
            if let Some(found) = self.find_in_block(block, key)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn find_in_block(&self, block: usize, key: &[u8]) -> Result<Option<(usize, Location)>> {
        let start = block * FENCE_ROWS;
        let rows = FENCE_ROWS.min(self.count - start);
        let mut buffer = [0; BLOCK_BYTES_MAX];
        let bytes = self.read_rows(start, rows, &mut buffer)?;
        let row = |at: usize| bytes[at * self.row_length()..][..self.row_length()].split_at(self.key_length);
        let (mut low, mut high) = (0, rows);
        while low < high {
            let middle = (low + high) / 2;
            match row(middle).0.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Some((start + middle, self.location(row(middle).1)?))),
            }
        }
        Ok(None)
    }

    /// The key of a row.
    pub(crate) fn key_of(&self, row: usize) -> Result<Key> {
        let mut buffer = [0; BLOCK_BYTES_MAX];
        let bytes = self.read_rows(row, 1, &mut buffer)?;
        Ok(Key::from_bytes(&bytes[..self.key_length]))
    }

    /// Key and location of a row.
    pub(crate) fn row(&self, row: usize) -> Result<(Key, Location)> {
        let mut buffer = [0; BLOCK_BYTES_MAX];
        let (key, location) = self.read_rows(row, 1, &mut buffer)?.split_at(self.key_length);
        Ok((Key::from_bytes(key), self.location(location)?))
    }

    /// Rows of one block.
    fn read_rows<'a>(&'a self, start: usize, rows: usize, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
        let (from, length) = (start * self.row_length(), rows * self.row_length());
        match &self.rows {
            Rows::Memory(bytes) => Ok(&bytes[from..from + length]),
            Rows::Spilled(file) => {
                let buffer = &mut buffer[..length];
                file.read_exact_at(buffer, from as u64).map_err(spill_error)?;
                Ok(buffer)
            }
            Rows::Sealed(sealed) => {
                let first = start - start % FENCE_ROWS;
                sealed.read(first, FENCE_ROWS.min(self.count - first), buffer)?;
                Ok(&buffer[(start - first) * self.row_length()..][..length])
            }
        }
    }

    /// Calls `each` for every row with a key between `from` (inclusive) and `to` (exclusive), in order.
    pub(crate) fn walk(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Location) -> Result<()>,
    ) -> Result<()> {
        let mut cursor = Cursor::from_key(self, from);
        while let Some((key, location)) = cursor.next()? {
            if to.is_some_and(|to| key >= to) {
                break;
            }
            if key >= from {
                each(key, location)?;
            }
        }
        Ok(())
    }
}

/// Walks a table in key order.
pub(crate) struct Cursor<'a> {
    table: &'a EntryTable,
    position: usize,
    buffer: Vec<u8>,
    buffered: std::ops::Range<usize>,
}

impl<'a> Cursor<'a> {
    /// A cursor at most some rows before the first key that is not less than `from`.
    pub(crate) fn from_key(table: &'a EntryTable, from: &[u8]) -> Self {
        let block = table.fences.partition_point(|&f| f < fence(from)).saturating_sub(1);
        Self { table, position: block * FENCE_ROWS, buffer: Vec::new(), buffered: 0..0 }
    }

    /// The next row.
    pub(crate) fn next(&mut self) -> Result<Option<(&[u8], Location)>> {
        if self.position >= self.table.count {
            return Ok(None);
        }
        let (length, key_length) = (self.table.row_length(), self.table.key_length);
        let position = self.position;
        self.position += 1;
        let row = match &self.table.rows {
            Rows::Memory(bytes) => &bytes[position * length..][..length],
            Rows::Spilled(_) | Rows::Sealed(_) => {
                if !self.buffered.contains(&position) {
                    self.read_on(position)?;
                }
                &self.buffer[(position - self.buffered.start) * length..][..length]
            }
        };
        Ok(Some((&row[..key_length], self.table.location(&row[key_length..])?)))
    }

    /// Fills the buffer from `position`, the start of a block, on: whole blocks.
    fn read_on(&mut self, position: usize) -> Result<()> {
        let length = self.table.row_length();
        let blocks = WALK_BYTES / (FENCE_ROWS * length);
        let rows = (blocks * FENCE_ROWS).min(self.table.count - position);
        match &self.table.rows {
            Rows::Memory(_) => {}
            Rows::Spilled(file) => {
                self.buffer.resize(rows * length, 0);
                file.read_exact_at(&mut self.buffer, (position * length) as u64).map_err(spill_error)?;
            }
            Rows::Sealed(sealed) => {
                self.buffer.resize(rows * length + blocks * BLOCK_OVERHEAD, 0);
                sealed.read(position, rows, &mut self.buffer)?;
            }
        }
        self.buffered = position..position + rows;
        Ok(())
    }
}

/// Builds a table from rows that come in key order.
pub(crate) struct TableBuilder {
    key_length: usize,
    memory_bytes_max: usize,
    rows: Vec<u8>,
    file: Option<File>,
    count: usize,
    fences: Vec<u64>,
    last: [u8; KEY_LENGTH_MAX],
}

impl TableBuilder {
    /// A builder of about `count` rows, in a temporary file if they exceed `memory_bytes_max`.
    pub(crate) fn new(key_length: usize, count: usize, memory_bytes_max: usize) -> Self {
        let bytes = count * (key_length + LOCATION_LENGTH);
        // One that will be in a file goes there from the start.
        let (bytes, memory_bytes_max) = match bytes > memory_bytes_max {
            true => (SPILL_BYTES, 0),
            false => (bytes, memory_bytes_max),
        };
        let (rows, file) = (Vec::with_capacity(bytes), None);
        let fences = Vec::with_capacity(count / FENCE_ROWS + 1);
        Self { key_length, memory_bytes_max, rows, file, count: 0, fences, last: [0; KEY_LENGTH_MAX] }
    }

    /// Appends a row; its key must be greater than the one before.
    ///
    /// # Errors
    /// `Corrupted` if it is not: an index whose entries are out of order.
    pub(crate) fn push(&mut self, key: &[u8], location: &Location) -> Result<()> {
        if key.len() != self.key_length || (self.count > 0 && key <= &self.last[..self.key_length]) {
            return Err(Error::new(
                ErrorKind::Corrupted,
                "index entries are out of order or of unequal length",
            ));
        }
        self.last[..key.len()].copy_from_slice(key);
        if self.count.is_multiple_of(FENCE_ROWS) {
            self.fences.push(fence(key));
        }
        self.count += 1;
        self.rows.extend_from_slice(key);
        self.rows.extend_from_slice(&location.encode());
        self.spill(false)
    }

    fn spill(&mut self, everything: bool) -> Result<()> {
        if self.file.is_none() && self.rows.len() > self.memory_bytes_max {
            self.file = Some(tempfile::tempfile().map_err(spill_error)?);
        }
        if let Some(file) = &mut self.file
            && (everything || self.rows.len() >= SPILL_BYTES)
        {
            file.write_all(&self.rows).map_err(spill_error)?;
            self.rows.clear();
            self.rows.shrink_to(SPILL_BYTES + ROW_LENGTH_MAX);
        }
        Ok(())
    }

    /// The table.
    pub(crate) fn finish(mut self) -> Result<EntryTable> {
        self.spill(true)?;
        self.rows.shrink_to_fit();
        self.fences.shrink_to_fit();
        let rows = match self.file {
            Some(file) => Rows::Spilled(file),
            None => Rows::Memory(self.rows),
        };
        let numbers = None;
        Ok(EntryTable { key_length: self.key_length, rows, count: self.count, fences: self.fences, numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(number: u32) -> Location {
        Location {
            timestamp_seconds: number,
            offset: number,
            deleted: false,
            packed_length: 1,
            original_length: 1,
            pack: 0,
            format: 0,
        }
    }

    fn key(number: u32) -> Key {
        let mut bytes = [0; 17];
        // Many keys share their first eight bytes: fences that are equal must not lose any.
        bytes[7] = (number / 100) as u8;
        bytes[13..].copy_from_slice(&number.to_be_bytes());
        Key::from_bytes(&bytes)
    }

    fn table(numbers: impl Iterator<Item = u32>, memory_bytes_max: usize) -> EntryTable {
        let mut builder = TableBuilder::new(17, 0, memory_bytes_max);
        for number in numbers {
            builder.push(key(number).as_bytes(), &location(number)).expect("in order");
        }
        builder.finish().expect("built")
    }

    #[test]
    fn every_key_is_found_in_memory_and_in_a_file() {
        for memory_bytes_max in [usize::MAX, 1000] {
            let table = table((0..20_000).filter(|n| n % 3 != 0), memory_bytes_max);
            for number in 0..20_000 {
                let found = table.find(&key(number)).expect("readable").map(|l| l.offset);
                assert_eq!(found, (number % 3 != 0).then_some(number));
            }
        }
    }

    #[test]
    fn walks_give_exactly_the_range_in_order() {
        for memory_bytes_max in [usize::MAX, 1000] {
            let table = table(0..5000, memory_bytes_max);
            let mut seen = Vec::new();
            let (from, to) = (key(120), key(4321));
            let each = &mut |_: &[u8], location: Location| {
                seen.push(location.offset);
                Ok(())
            };
            table.walk(from.as_bytes(), Some(to.as_bytes()), each).expect("readable");
            assert!(seen.iter().copied().eq(120..4321));
        }
    }

    #[test]
    fn rows_out_of_order_are_refused() {
        let mut builder = TableBuilder::new(17, 0, usize::MAX);
        builder.push(key(2).as_bytes(), &location(2)).expect("first");
        assert!(builder.push(key(2).as_bytes(), &location(2)).is_err());
        assert!(builder.push(key(1).as_bytes(), &location(1)).is_err());
    }
}
