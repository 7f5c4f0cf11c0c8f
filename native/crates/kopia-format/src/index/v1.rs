//! Index version 1, of repositories with `indexVersion` 1. Source: Kopia
//! `repo/content/index/index_v1.go`.
//!
//! | off | size | header |   | off | size | value of an entry, after its key |
//! |-----|------|--------|---|-----|------|----------------------------------|
//! | 0 | 1 | version 1 |     | 0  | 6 | timestamp, Unix seconds |
//! | 1 | 1 | key length |    | 6  | 1 | format version |
//! | 2 | 2 | value length, 20 | | 7 | 1 | length of the pack name |
//! | 4 | 4 | entry count |   | 8  | 4 | absolute offset of the pack name |
//! | 8 | … | entries, names | | 12 | 4 | bit 31 deleted, bits 0..=30 pack offset |
//! |   |   |                | | 16 | 4 | packed length |
//!
//! The surprise: there is no table of packs. [`PackNames`] makes one, so that a pack has a
//! number in both versions.

use super::layout::{self, EntryTable, u32_at};
use super::{ContentFormat, RawEntry};
use crate::compression::CompressorId;
use crate::error::{FormatError, Result};
use crate::ids::ContentId;

pub(super) const HEADER_LENGTH: usize = 8;
pub(super) const VALUE_LENGTH: usize = 20;
/// What sealing adds to a content: nonce and tag. Version 1 stores no original length.
const SEAL_OVERHEAD: u32 = 28;
const DELETED: u32 = 1 << 31;

/// Reads the header and checks that all entries are there.
pub(super) fn read_header(bytes: &[u8]) -> Result<EntryTable> {
    let header: &[u8; HEADER_LENGTH] = layout::header(bytes)?;
    let value_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if value_length != VALUE_LENGTH {
        return Err(FormatError::malformed("index v1 header", format!("value length {value_length}")));
    }
    let table = EntryTable {
        offset: HEADER_LENGTH,
        count: u32_at(header, 4),
        key_length: usize::from(header[1]),
        value_length,
    };
    table.check(bytes)?;
    Ok(table)
}

/// Distinct pack names of one index as (offset, length), sorted; the position is the pack's number.
#[derive(Debug)]
pub(super) struct PackNames(Vec<(u32, u8)>);

impl PackNames {
    /// Collects and checks the names of all entries.
    pub(super) fn collect(bytes: &[u8], table: &EntryTable) -> Result<Self> {
        let mut names = std::collections::BTreeSet::new();
        let mut last = None;
        for position in 0..table.count as usize {
            let name = name_of(value(table.entry(bytes, position)?.1)?);
            // Contents of one pack often follow each other in small indexes: skip the lookup.
            if last != Some(name) && names.insert(name) {
                layout::name_at(bytes, name.0, name.1)?;
            }
            last = Some(name);
        }
        Ok(Self(names.into_iter().collect()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, pack_index: u32) -> Option<(u32, u8)> {
        self.0.get(pack_index as usize).copied()
    }

    /// Decodes one entry.
    pub(super) fn decode(&self, key: &[u8], bytes: &[u8]) -> Result<RawEntry> {
        let value = value(bytes)?;
        let number = self
            .0
            .binary_search(&name_of(value))
            .map_err(|_| FormatError::malformed("index v1 entry", "pack name changed since opening"))?;
        let packed_length = u32_at(value, 16);
        Ok(RawEntry {
            content: ContentId::from_key(key)?,
            // At most one name an entry, and the entry count is a u32.
            pack_index: number as u32,
            pack_offset: u32_at(value, 12) & !DELETED,
            packed_length,
            original_length: packed_length.saturating_sub(SEAL_OVERHEAD),
            timestamp_seconds: timestamp_of(value),
            format: ContentFormat {
                compressor: CompressorId::NONE,
                format_version: value[6],
                encryption_key_id: 0,
            },
            deleted: u32_at(value, 12) & DELETED != 0,
        })
    }
}

fn value(bytes: &[u8]) -> Result<&[u8; VALUE_LENGTH]> {
    bytes.try_into().map_err(|_| FormatError::malformed("index v1 entry", "wrong length"))
}

fn name_of(value: &[u8; VALUE_LENGTH]) -> (u32, u8) {
    (u32_at(value, 8), value[7])
}

fn timestamp_of(value: &[u8; VALUE_LENGTH]) -> i64 {
    let mut seconds = [0; 8];
    seconds[2..].copy_from_slice(&value[..6]);
    i64::from_be_bytes(seconds)
}

/// Refuses what version 1 cannot hold.
pub(super) fn check(entry: &RawEntry) -> Result<()> {
    let format = &entry.format;
    if format.compressor != CompressorId::NONE || format.encryption_key_id != 0 {
        let why = "index version 1 cannot hold compressed contents or key IDs".to_owned();
        return Err(super::writer::out_of_range(entry, why));
    }
    if entry.pack_offset >= DELETED || !(0..1 << 48).contains(&entry.timestamp_seconds) {
        let why = format!("pack offset {} or timestamp {}", entry.pack_offset, entry.timestamp_seconds);
        return Err(super::writer::out_of_range(entry, why));
    }
    Ok(())
}

/// Appends the header.
pub(super) fn write_header(table: &EntryTable, out: &mut Vec<u8>) {
    out.extend_from_slice(&[1, table.key_length as u8]);
    out.extend_from_slice(&(VALUE_LENGTH as u16).to_be_bytes());
    out.extend_from_slice(&table.count.to_be_bytes());
}

/// Appends the value of an entry that passed [`check`]; the name is absolute offset and length.
pub(super) fn write_value(entry: &RawEntry, name: (u32, u8), out: &mut Vec<u8>) {
    out.extend_from_slice(&entry.timestamp_seconds.to_be_bytes()[2..]);
    out.extend_from_slice(&[entry.format.format_version, name.1]);
    out.extend_from_slice(&name.0.to_be_bytes());
    let deleted = if entry.deleted { DELETED } else { 0 };
    out.extend_from_slice(&(entry.pack_offset | deleted).to_be_bytes());
    out.extend_from_slice(&entry.packed_length.to_be_bytes());
}
