//! Numbers for pack names and content formats, so that entries need not hold them.
//!
//! Append only: a number stays valid as long as the repository is open. Pack numbers take 24 bits
//! (more than the 2²⁴ packs that one index can name is refused).

use super::location::{Location, content_of};
use crate::error::{Error, ErrorKind, Result};
use hashbrown::HashTable;
use kopia_format::BlobId;
use kopia_format::index::{ContentFormat, RawEntry};
use parking_lot::RwLock;
use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};

/// Pack numbers are below this; the number itself marks an entry that is being written.
pub(crate) const PACK_NUMBER_LIMIT: u32 = 0xFF_FFFF;

/// All pack names and formats that entries refer to.
#[derive(Default)]
pub(crate) struct PackCatalog {
    packs: RwLock<Packs>,
    formats: RwLock<Vec<ContentFormat>>,
}

#[derive(Default)]
struct Packs {
    records: Vec<PackRecord>,
    by_name: HashTable<u32>,
    hasher: RandomState,
}

struct PackRecord {
    name: BlobId,
    /// Still being written by this process: its bytes cannot be read back yet.
    open: bool,
    /// Entries name it, and the storage does not have it.
    lost: bool,
}

impl Packs {
    fn add(&mut self, name: &BlobId, open: bool) -> Result<u32> {
        let number = u32::try_from(self.records.len()).unwrap_or(PACK_NUMBER_LIMIT);
        if number >= PACK_NUMBER_LIMIT {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                "more than 16,777,214 packs in one repository",
            ));
        }
        self.records.push(PackRecord { name: name.clone(), open, lost: false });
        let Self { records, by_name, hasher } = self;
        by_name.insert_unique(hasher.hash_one(name), number, |&n| hasher.hash_one(&records[n as usize].name));
        Ok(number)
    }

    fn find(&self, name: &BlobId) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.by_name.find(hash, |&n| self.records[n as usize].name == *name).copied()
    }
}

impl PackCatalog {
    /// Number of a stored pack.
    pub(crate) fn number_of(&self, name: &BlobId) -> Result<u32> {
        if let Some(number) = self.packs.read().find(name) {
            return Ok(number);
        }
        let mut packs = self.packs.write();
        match packs.find(name) {
            Some(number) => Ok(number),
            None => packs.add(name, false),
        }
    }

    /// How many packs have a number.
    pub(crate) fn pack_count(&self) -> usize {
        self.packs.read().records.len()
    }

    /// Bytes of all their names.
    pub(crate) fn name_bytes(&self) -> u64 {
        self.packs.read().records.iter().map(|record| record.name.as_str().len() as u64 + 2).sum()
    }

    /// Number of a pack that some entry has named.
    pub(crate) fn known_number(&self, name: &BlobId) -> Option<u32> {
        self.packs.read().find(name)
    }

    /// Number of a pack that is being written.
    pub(crate) fn add_open(&self, name: &BlobId) -> Result<u32> {
        self.packs.write().add(name, true)
    }

    /// The pack is stored.
    pub(crate) fn mark_stored(&self, number: u32) {
        if let Some(record) = self.packs.write().records.get_mut(number as usize) {
            record.open = false;
        }
    }

    /// Whether the pack is still being written.
    pub(crate) fn is_open(&self, number: u32) -> bool {
        self.packs.read().records.get(number as usize).is_some_and(|record| record.open)
    }

    /// Numbers of packs that must be stored by now.
    pub(super) fn stored(&self) -> Vec<u32> {
        let packs = self.packs.read();
        let numbers = (0u32..).zip(&packs.records).filter(|(_, record)| !record.open);
        numbers.map(|(number, _)| number).collect()
    }

    /// Notes that the storage does not have a pack.
    pub(super) fn mark_lost(&self, number: u32) {
        if let Some(record) = self.packs.write().records.get_mut(number as usize) {
            record.lost = true;
        }
    }

    /// Whether it is known that the storage does not have a pack.
    pub(super) fn is_lost(&self, number: u32) -> bool {
        self.packs.read().records.get(number as usize).is_some_and(|record| record.lost)
    }

    /// Name of a pack.
    pub(crate) fn name(&self, number: u32) -> Result<BlobId> {
        let packs = self.packs.read();
        let record = packs.records.get(number as usize);
        record
            .map(|record| record.name.clone())
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("no pack has number {number}")))
    }

    /// Number of a format.
    pub(crate) fn format_number(&self, format: ContentFormat) -> Result<u8> {
        if let Some(number) = self.formats.read().iter().position(|known| *known == format) {
            return Ok(number as u8);
        }
        let mut formats = self.formats.write();
        let number = formats.iter().position(|known| *known == format).unwrap_or(formats.len());
        if number == formats.len() {
            if number > usize::from(u8::MAX) {
                return Err(Error::new(
                    ErrorKind::UnsupportedFormat,
                    "more than 256 content formats in one repository",
                ));
            }
            formats.push(format);
        }
        Ok(number as u8)
    }

    /// The format of a number.
    pub(crate) fn format(&self, number: u8) -> Result<ContentFormat> {
        let format = self.formats.read().get(usize::from(number)).copied();
        format
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("no content format has number {number}")))
    }

    /// The location that an index entry gives, with `pack` as its number here.
    ///
    /// # Errors
    /// `UnsupportedFormat` for more formats than there are numbers.
    pub(crate) fn location(&self, entry: &RawEntry, pack: u32) -> Result<Location> {
        Ok(Location {
            // Kopia writes 32 bits; a version 1 index could hold 48, until the year 2106 in vain.
            timestamp_seconds: entry.timestamp_seconds.clamp(0, i64::from(u32::MAX)) as u32,
            offset: entry.pack_offset,
            deleted: entry.deleted,
            packed_length: entry.packed_length,
            original_length: entry.original_length,
            pack,
            format: self.format_number(entry.format)?,
        })
    }

    /// The index entry of a row.
    pub(crate) fn entry(&self, key: &[u8], location: &Location) -> Result<RawEntry> {
        Ok(RawEntry {
            content: content_of(key)?,
            pack_index: location.pack,
            pack_offset: location.offset,
            packed_length: location.packed_length,
            original_length: location.original_length,
            timestamp_seconds: i64::from(location.timestamp_seconds),
            format: self.format(location.format)?,
            deleted: location.deleted,
        })
    }

    /// Whether `a` wins over `b` for the same content: later, else live, else greater pack name (§4.4.3).
    pub(crate) fn supersedes(&self, a: &Location, b: &Location) -> bool {
        let order = a.timestamp_seconds.cmp(&b.timestamp_seconds).then(b.deleted.cmp(&a.deleted));
        match order {
            Ordering::Equal if a.pack != b.pack => {
                let packs = self.packs.read();
                let name =
                    |number: u32| packs.records.get(number as usize).map(|record| record.name.as_str());
                name(a.pack) > name(b.pack)
            }
            order => order == Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(timestamp_seconds: u32, deleted: bool, pack: u32) -> Location {
        Location {
            timestamp_seconds,
            offset: 0,
            deleted,
            packed_length: 0,
            original_length: 0,
            pack,
            format: 0,
        }
    }

    #[test]
    fn later_wins_then_live_then_greater_pack_name() {
        let catalog = PackCatalog::default();
        let greater = catalog.number_of(&BlobId::new("pff")).expect("room");
        let lesser = catalog.number_of(&BlobId::new("p00")).expect("room");
        let wins = |a, b| catalog.supersedes(&a, &b) && !catalog.supersedes(&b, &a);
        assert!(wins(location(2, true, lesser), location(1, false, greater)));
        assert!(wins(location(1, false, lesser), location(1, true, greater)));
        assert!(wins(location(1, false, greater), location(1, false, lesser)));
        assert!(!catalog.supersedes(&location(1, false, lesser), &location(1, false, lesser)));
    }

    #[test]
    fn names_and_numbers_go_both_ways() {
        let catalog = PackCatalog::default();
        let names: Vec<_> = (0..1000).map(|i| BlobId::new(format!("p{i:032x}-s1"))).collect();
        let numbers: Vec<_> = names.iter().map(|name| catalog.number_of(name).expect("room")).collect();
        for (name, number) in names.iter().zip(numbers) {
            assert_eq!(catalog.number_of(name).expect("known"), number);
            assert_eq!(catalog.name(number).expect("known"), *name);
        }
    }
}
