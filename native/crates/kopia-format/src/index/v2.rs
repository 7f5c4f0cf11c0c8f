//! Index version 2. Source: Kopia `repo/content/index/index_v2.go`.
//!
//! | off | size | header, then entries, packs, formats and names without gaps |
//! |-----|------|-------------------------------------------------------------|
//! | 0  | 1 | version 2 |
//! | 1  | 1 | key length |
//! | 2  | 2 | value length, 16..=19 |
//! | 4  | 4 | entry count |
//! | 8  | 4 | pack count |
//! | 12 | 1 | format count |
//! | 13 | 4 | base timestamp; writers store 0 |
//!
//! | off | size | value of an entry, after its key |
//! |-----|------|----------------------------------|
//! | 0  | 4 | timestamp − base timestamp |
//! | 4  | 4 | bit 31 deleted, bits 0..=30 pack offset (writers stay below 2³⁰) |
//! | 8  | 3 | original length, bits 0..=23 |
//! | 11 | 3 | packed length, bits 0..=23 |
//! | 14 | 2 | pack index, bits 0..=15 |
//! | 16 | 1 | format index |
//! | 17 | 1 | pack index, bits 16..=23 |
//! | 18 | 1 | bits 24..=27 of the original (high nibble) and the packed length |
//!
//! A pack is `u8` name length and `u32` absolute offset of the name; a format is `u32`
//! compressor, `u8` format version, `u8` key ID. The surprise: bytes 16, 17 and 18 are
//! cumulative, each is there only if the one before it is, and counts as 0 if not.

use super::layout::{self, EntryTable, u32_at};
use super::{ContentFormat, RawEntry};
use crate::compression::CompressorId;
use crate::error::{FormatError, Result};
use crate::ids::ContentId;

pub(super) const HEADER_LENGTH: usize = 17;
pub(super) const PACK_LENGTH: usize = 5;
pub(super) const FORMAT_LENGTH: usize = 6;
pub(super) const FORMATS_MAX: usize = 255;
pub(super) const PACKS_MAX: usize = 1 << 24;
const VALUE_LENGTH_MIN: usize = 16;
const VALUE_LENGTH_MAX: usize = 19;
const DELETED: u32 = 1 << 31;
const PACK_OFFSET_LIMIT: u32 = 1 << 30;
const CONTENT_LENGTH_LIMIT: u32 = 1 << 28;
const SHORT_LENGTH_LIMIT: u32 = 1 << 24;
const SHORT_PACKS_MAX: usize = 1 << 16;

/// What the header and the tables behind the entries say.
#[derive(Debug)]
pub(super) struct Tables {
    base_timestamp: u32,
    packs_offset: usize,
    pack_count: u32,
    formats: Vec<ContentFormat>,
}

/// Reads the header and checks that all entries, packs, formats and names are there.
pub(super) fn read_header(bytes: &[u8]) -> Result<(EntryTable, Tables)> {
    let header: &[u8; HEADER_LENGTH] = layout::header(bytes)?;
    let value_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if !(VALUE_LENGTH_MIN..=VALUE_LENGTH_MAX).contains(&value_length) {
        return Err(FormatError::malformed("index v2 header", format!("value length {value_length}")));
    }
    let table = EntryTable {
        offset: HEADER_LENGTH,
        count: u32_at(header, 4),
        key_length: usize::from(header[1]),
        value_length,
    };
    table.check(bytes)?;
    let tables = Tables::read(bytes, header, &table)?;
    for pack_index in 0..tables.pack_count {
        tables.pack_name(bytes, pack_index)?;
    }
    Ok((table, tables))
}

impl Tables {
    fn read(bytes: &[u8], header: &[u8; HEADER_LENGTH], table: &EntryTable) -> Result<Self> {
        let pack_count = u32_at(header, 8);
        let formats_start = table.end() + u64::from(pack_count) * PACK_LENGTH as u64;
        let formats_end = formats_start + u64::from(header[12]) * FORMAT_LENGTH as u64;
        if formats_end > bytes.len() as u64 {
            let why =
                format!("{pack_count} packs and {} formats do not fit in {} bytes", header[12], bytes.len());
            return Err(FormatError::malformed("index v2 header", why));
        }
        let (formats, _) = bytes[formats_start as usize..formats_end as usize].as_chunks::<FORMAT_LENGTH>();
        Ok(Self {
            base_timestamp: u32_at(header, 13),
            packs_offset: table.end() as usize,
            pack_count,
            formats: formats.iter().map(read_format).collect(),
        })
    }

    pub(super) fn pack_count(&self) -> usize {
        self.pack_count as usize
    }

    pub(super) fn pack_name<'a>(&self, bytes: &'a [u8], pack_index: u32) -> Result<&'a str> {
        let missing = || {
            let why = format!("pack {pack_index} of {}", self.pack_count);
            FormatError::malformed("index v2 pack table", why)
        };
        if pack_index >= self.pack_count {
            return Err(missing());
        }
        let start = self.packs_offset + pack_index as usize * PACK_LENGTH;
        let pack: &[u8; PACK_LENGTH] =
            bytes.get(start..).and_then(|rest| rest.first_chunk()).ok_or_else(missing)?;
        layout::name_at(bytes, u32_at(pack, 1), pack[0])
    }

    /// Decodes one entry.
    pub(super) fn decode(&self, key: &[u8], bytes: &[u8]) -> Result<RawEntry> {
        // Absent optional bytes are zero.
        let mut value = [0u8; VALUE_LENGTH_MAX];
        value[..bytes.len().min(VALUE_LENGTH_MAX)]
            .copy_from_slice(&bytes[..bytes.len().min(VALUE_LENGTH_MAX)]);
        let pack_index = u32::from_be_bytes([0, value[17], value[14], value[15]]);
        let format = self.formats.get(usize::from(value[16]));
        let (Some(format), true) = (format, pack_index < self.pack_count) else {
            let why = format!(
                "names pack {pack_index} of {}, format {} of {}",
                self.pack_count,
                value[16],
                self.formats.len()
            );
            return Err(FormatError::malformed("index v2 entry", why));
        };
        Ok(RawEntry {
            content: ContentId::from_key(key)?,
            pack_index,
            pack_offset: u32_at(&value, 4) & !DELETED,
            packed_length: u32::from_be_bytes([value[18] & 15, value[11], value[12], value[13]]),
            original_length: u32::from_be_bytes([value[18] >> 4, value[8], value[9], value[10]]),
            timestamp_seconds: i64::from(u32_at(&value, 0)) + i64::from(self.base_timestamp),
            format: *format,
            deleted: u32_at(&value, 4) & DELETED != 0,
        })
    }
}

fn read_format(bytes: &[u8; FORMAT_LENGTH]) -> ContentFormat {
    ContentFormat {
        compressor: CompressorId(u32_at(bytes, 0)),
        format_version: bytes[4],
        encryption_key_id: bytes[5],
    }
}

/// Refuses what version 2 cannot hold.
pub(super) fn check(entry: &RawEntry) -> Result<()> {
    let length = entry.packed_length.max(entry.original_length);
    if length >= CONTENT_LENGTH_LIMIT {
        return Err(super::writer::out_of_range(entry, format!("content of {length} bytes")));
    }
    if entry.pack_offset >= PACK_OFFSET_LIMIT {
        return Err(super::writer::out_of_range(entry, format!("pack offset {}", entry.pack_offset)));
    }
    if u32::try_from(entry.timestamp_seconds).is_err() {
        return Err(super::writer::out_of_range(entry, format!("timestamp {}", entry.timestamp_seconds)));
    }
    Ok(())
}

/// Shortest value that holds so many packs and formats, and contents of `longest` bytes.
pub(super) fn value_length(packs: usize, formats: usize, longest: u32) -> usize {
    if longest >= SHORT_LENGTH_LIMIT {
        VALUE_LENGTH_MAX
    } else if packs > SHORT_PACKS_MAX {
        18
    } else if formats > 1 {
        17
    } else {
        VALUE_LENGTH_MIN
    }
}

/// Appends the header.
pub(super) fn write_header(table: &EntryTable, packs: u32, formats: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[2, table.key_length as u8]);
    out.extend_from_slice(&(table.value_length as u16).to_be_bytes());
    out.extend_from_slice(&table.count.to_be_bytes());
    out.extend_from_slice(&packs.to_be_bytes());
    out.push(formats);
    out.extend_from_slice(&[0; 4]);
}

/// The value of an entry that passed [`check`], as long as it can get.
pub(super) fn encode_value(entry: &RawEntry, pack_index: u32, format_index: u8) -> [u8; VALUE_LENGTH_MAX] {
    let mut value = [0; VALUE_LENGTH_MAX];
    let deleted = if entry.deleted { DELETED } else { 0 };
    let original = entry.original_length.to_be_bytes();
    let packed = entry.packed_length.to_be_bytes();
    let pack = pack_index.to_be_bytes();
    // In range: `check` refused timestamps outside u32.
    value[..4].copy_from_slice(&(entry.timestamp_seconds as u32).to_be_bytes());
    value[4..8].copy_from_slice(&(entry.pack_offset | deleted).to_be_bytes());
    value[8..11].copy_from_slice(&original[1..]);
    value[11..14].copy_from_slice(&packed[1..]);
    value[14..16].copy_from_slice(&pack[2..]);
    value[16] = format_index;
    value[17] = pack[1];
    value[18] = original[0] << 4 | packed[0];
    value
}

/// Appends one row of the format table.
pub(super) fn write_format(format: &ContentFormat, out: &mut Vec<u8>) {
    out.extend_from_slice(&format.compressor.0.to_be_bytes());
    out.extend_from_slice(&[format.format_version, format.encryption_key_id]);
}
