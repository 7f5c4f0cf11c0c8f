//! Encodes sorted entries in two passes, so that an index of millions needs no copy of them.
//!
//! The first pass ([`IndexSurvey`]) learns the packs, the formats and the width of an entry,
//! which the header must tell and which the bytes depend on; the second ([`IndexWriter`]) appends
//! bytes to a buffer that the caller may empty at any time. Memory is that of the distinct pack
//! names. The surprise: packs and formats are numbered by first appearance, which both passes
//! must see in the same order for other clients to get the same bytes.

use super::layout::EntryTable;
use super::{ContentFormat, RawEntry, v1, v2};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::ids::ContentId;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    fn check(self, entry: &RawEntry) -> Result<()> {
        match self {
            Self::V1 => v1::check(entry),
            Self::V2 => v2::check(entry),
        }
    }
}

/// First pass: counts and names what the header and the tables need.
#[derive(Debug)]
pub struct IndexSurvey {
    version: Version,
    last: Option<ContentId>,
    count: u64,
    packs: PackNames,
    formats: Vec<ContentFormat>,
    length_max: u32,
}

impl IndexSurvey {
    /// Starts an index of `version` 1 or 2.
    ///
    /// # Errors
    /// `Unsupported` for any other version.
    pub fn new(version: u32) -> Result<Self> {
        let version = match version {
            1 => Version::V1,
            2 => Version::V2,
            other => {
                return Err(FormatError::unsupported("index", format!("version {other}")));
            }
        };
        Ok(Self {
            version,
            last: None,
            count: 0,
            packs: PackNames::default(),
            formats: Vec::new(),
            length_max: 0,
        })
    }

    /// Notes an entry, whose `pack_index` is ignored; entries come in key order, one a content.
    ///
    /// # Errors
    /// `OutOfRange` for a wrong order, a different key length, or a value that cannot be held.
    pub fn add(&mut self, entry: &RawEntry, pack: &str) -> Result<()> {
        check_order(self.last, entry)?;
        self.version.check(entry)?;
        self.packs.add(pack)?;
        if !self.formats.contains(&entry.format) {
            self.formats.push(entry.format);
        }
        self.length_max = self.length_max.max(entry.packed_length).max(entry.original_length);
        self.last = Some(entry.content);
        self.count += 1;
        Ok(())
    }

    /// Number of entries so far.
    pub fn entry_count(&self) -> u64 {
        self.count
    }

    /// Ends the first pass.
    ///
    /// # Errors
    /// `OutOfRange` for no entries at all (write no index then), or too many entries, packs,
    /// formats or bytes.
    pub fn finish(self) -> Result<IndexWriter> {
        let Some(last) = self.last else {
            return Err(FormatError::new(FormatErrorKind::OutOfRange, "index", "no entries"));
        };
        let too_many = |what: String| FormatError::new(FormatErrorKind::OutOfRange, "index", what);
        let packs = self.packs.len();
        let v2 = self.version == Version::V2;
        if v2 && (packs > v2::PACKS_MAX || self.formats.len() > v2::FORMATS_MAX) {
            return Err(too_many(format!("{packs} packs, {} formats", self.formats.len())));
        }
        let table = EntryTable {
            offset: if v2 { v2::HEADER_LENGTH } else { v1::HEADER_LENGTH },
            count: u32::try_from(self.count).map_err(|_| too_many(format!("{} entries", self.count)))?,
            key_length: 1 + last.hash().as_bytes().len(),
            value_length: if v2 {
                v2::value_length(packs, self.formats.len(), self.length_max)
            } else {
                v1::VALUE_LENGTH
            },
        };
        let tables = if v2 { packs * v2::PACK_LENGTH + self.formats.len() * v2::FORMAT_LENGTH } else { 0 };
        let names_offset = table.end() + tables as u64;
        let end = names_offset + self.packs.names.len() as u64;
        u32::try_from(end).map_err(|_| too_many(format!("{end} bytes")))?;
        Ok(IndexWriter {
            version: self.version,
            table,
            names_offset: names_offset as u32,
            packs: self.packs,
            formats: self.formats,
            last: None,
            written: 0,
        })
    }
}

/// Second pass: [`Self::write_header`], [`Self::write_entry`] for each entry, [`Self::write_tables`].
#[derive(Debug)]
pub struct IndexWriter {
    version: Version,
    table: EntryTable,
    names_offset: u32,
    packs: PackNames,
    formats: Vec<ContentFormat>,
    last: Option<ContentId>,
    written: u32,
}

impl IndexWriter {
    /// Length of the whole index without a random suffix, in bytes.
    pub fn length(&self) -> u64 {
        u64::from(self.names_offset) + self.packs.names.len() as u64
    }

    /// Appends the header.
    pub fn write_header(&self, out: &mut Vec<u8>) {
        match self.version {
            Version::V1 => v1::write_header(&self.table, out),
            // Both counts were checked against their limits by `finish`.
            Version::V2 => {
                v2::write_header(&self.table, self.packs.len() as u32, self.formats.len() as u8, out);
            }
        }
    }

    /// Appends an entry: the same entries in the same order as in the first pass.
    ///
    /// # Errors
    /// `OutOfRange` for an entry that the first pass did not see.
    pub fn write_entry(&mut self, entry: &RawEntry, pack: &str, out: &mut Vec<u8>) -> Result<()> {
        check_order(self.last, entry)?;
        self.version.check(entry)?;
        let pack = self.packs.find(pack).ok_or_else(|| not_surveyed(entry))?;
        match self.version {
            Version::V1 => self.write_v1(entry, pack, out),
            Version::V2 => self.write_v2(entry, pack, out)?,
        }
        self.last = Some(entry.content);
        self.written += 1;
        Ok(())
    }

    fn write_v1(&self, entry: &RawEntry, pack: u32, out: &mut Vec<u8>) {
        let (start, length) = self.packs.span(pack);
        entry.content.write_key(out);
        v1::write_value(entry, (self.names_offset + start, length), out);
    }

    fn write_v2(&self, entry: &RawEntry, pack: u32, out: &mut Vec<u8>) -> Result<()> {
        let format = self.formats.iter().position(|format| *format == entry.format);
        let value = format.map(|format| v2::encode_value(entry, pack, format as u8));
        let (value, rest) = value
            .as_ref()
            .map(|value| value.split_at(self.table.value_length))
            .ok_or_else(|| not_surveyed(entry))?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(not_surveyed(entry));
        }
        entry.content.write_key(out);
        out.extend_from_slice(value);
        Ok(())
    }

    /// Appends what follows the entries.
    ///
    /// # Errors
    /// `OutOfRange` if there were fewer or more entries than in the first pass.
    pub fn write_tables(self, random_suffix: Option<[u8; 32]>, out: &mut Vec<u8>) -> Result<()> {
        if self.written != self.table.count {
            let why = format!("{} entries after a first pass of {}", self.written, self.table.count);
            return Err(FormatError::new(FormatErrorKind::OutOfRange, "index", why));
        }
        if self.version == Version::V2 {
            for pack in 0..self.packs.len() as u32 {
                let (start, length) = self.packs.span(pack);
                out.push(length);
                out.extend_from_slice(&(self.names_offset + start).to_be_bytes());
            }
            for format in &self.formats {
                v2::write_format(format, out);
            }
        }
        out.extend_from_slice(&self.packs.names);
        out.extend_from_slice(random_suffix.as_ref().map_or(&[], |suffix| suffix.as_slice()));
        Ok(())
    }
}

fn check_order(last: Option<ContentId>, entry: &RawEntry) -> Result<()> {
    let Some(last) = last else { return Ok(()) };
    if last.hash().as_bytes().len() != entry.content.hash().as_bytes().len() {
        return Err(out_of_range(entry, format!("another hash length than {last}")));
    }
    if last >= entry.content {
        return Err(out_of_range(entry, format!("must come before {last}")));
    }
    Ok(())
}

fn not_surveyed(entry: &RawEntry) -> FormatError {
    out_of_range(entry, "was not in the first pass".to_owned())
}

/// An entry that cannot be written, and why.
pub(super) fn out_of_range(entry: &RawEntry, why: String) -> FormatError {
    FormatError::new(FormatErrorKind::OutOfRange, "index entry", format!("content {}: {why}", entry.content))
}

/// Distinct names one after the other, numbered by first appearance: about 9 bytes a name more
/// than the names themselves.
#[derive(Debug, Default)]
struct PackNames {
    names: Vec<u8>,
    ends: Vec<u32>,
    numbers: HashTable<u32>,
    hasher: RandomState,
}

impl PackNames {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name.as_bytes());
        self.numbers
            .find(hash, |number| name_of(&self.names, &self.ends, *number) == name.as_bytes())
            .copied()
    }

    fn add(&mut self, name: &str) -> Result<()> {
        if self.find(name).is_some() {
            return Ok(());
        }
        let end = u32::try_from(self.names.len() + name.len()).ok();
        let (1..=255, Some(end)) = (name.len(), end) else {
            let why = format!("a name of {} bytes after {} bytes of names", name.len(), self.names.len());
            return Err(FormatError::new(FormatErrorKind::OutOfRange, "index pack name", why));
        };
        // Each name has a byte at least, so their number fits as their length does.
        let number = self.ends.len() as u32;
        self.names.extend_from_slice(name.as_bytes());
        self.ends.push(end);
        let Self { names, ends, numbers, hasher } = self;
        let hash = hasher.hash_one(name.as_bytes());
        numbers.insert_unique(hash, number, |number| hasher.hash_one(name_of(names, ends, *number)));
        Ok(())
    }

    /// Start among the names and length of name `number`, which is one of those given out.
    fn span(&self, number: u32) -> (u32, u8) {
        let range = span_of(&self.ends, number);
        (range.start, (range.end - range.start) as u8)
    }
}

fn span_of(ends: &[u32], number: u32) -> std::ops::Range<u32> {
    let start = if number == 0 { 0 } else { ends[number as usize - 1] };
    start..ends[number as usize]
}

fn name_of<'a>(names: &'a [u8], ends: &[u32], number: u32) -> &'a [u8] {
    let range = span_of(ends, number);
    &names[range.start as usize..range.end as usize]
}
