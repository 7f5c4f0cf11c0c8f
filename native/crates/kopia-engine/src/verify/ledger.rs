//! The ledger of verification: which packs were read back when. A file of ours on the client's disk, never a
//! blob: Kopia's name space stays Kopia's (docs/design/0005-verification-ledger.md).
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 8 | `KDMVRFY1` |
//! | 8 | 32 | BLAKE3 of the repository's unique ID |
//! | 40 | 28 each | rows, sorted by name |
//! | end − 32 | 32 | BLAKE3 of everything before |
//!
//! | off | size | field of a row |
//! |---|---|---|
//! | 0 | 16 | first half of the BLAKE3 of the pack's name |
//! | 16 | 4 | when it was read back, Unix seconds, LE |
//! | 20 | 8 | bytes of its contents that were read back, LE |
//!
//! 28 bytes for a pack of 20 MB: what a repository of 20 TB needs is 28 MB.

use crate::error::{Error, ErrorKind, Result};
use kopia_format::BlobId;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"KDMVRFY1";
const HEADER_LENGTH: usize = 40;
const ROW_LENGTH: usize = 28;
const CHECKSUM_LENGTH: usize = 32;

/// What stands for a pack's name.
pub(super) type PackKey = [u8; 16];

/// The key of a pack: 128 bits, so that two packs of a repository never share one.
pub(super) fn pack_key(name: &BlobId) -> PackKey {
    let mut key = PackKey::default();
    key.copy_from_slice(&blake3::hash(name.as_str().as_bytes()).as_bytes()[..16]);
    key
}

/// When how much of a pack was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Record {
    /// Unix seconds; 0 is never.
    pub(super) at_seconds: u32,
    pub(super) bytes: u64,
}

/// All records of one repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    rows: Vec<(PackKey, Record)>,
}

impl Ledger {
    /// Rows in any order, each pack once.
    pub(super) fn new(mut rows: Vec<(PackKey, Record)>) -> Self {
        rows.sort_unstable();
        Self { rows }
    }

    /// What is known of a pack; never, if nothing is.
    pub(super) fn record(&self, key: &PackKey) -> Record {
        let found = self.rows.binary_search_by(|(known, _)| known.cmp(key));
        found.ok().and_then(|at| self.rows.get(at)).map_or_else(Record::default, |(_, record)| *record)
    }

    /// Reads the ledger of a repository; an empty one if there is no file.
    ///
    /// # Errors
    /// `Corrupted` if the file is damaged or another repository's; `Filesystem`.
    pub(super) fn load(path: &Path, unique_id: &[u8]) -> Result<Self> {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed("read", path, error)),
            Ok(bytes) => Self::decode(&bytes, unique_id).map_err(|why| {
                let message = format!("ledger of verification {}: {why}", path.display());
                Error::new(ErrorKind::Corrupted, message)
            }),
        }
    }

    /// Replaces the file, whole or not at all.
    ///
    /// # Errors
    /// `Filesystem`.
    pub(super) fn save(&self, path: &Path, unique_id: &[u8]) -> Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let store = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&self.encode(unique_id))?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        store().map_err(|error| failed("write", path, error))
    }

    fn encode(&self, unique_id: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LENGTH + self.rows.len() * ROW_LENGTH + CHECKSUM_LENGTH);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(blake3::hash(unique_id).as_bytes());
        for (key, record) in &self.rows {
            out.extend_from_slice(key);
            out.extend_from_slice(&record.at_seconds.to_le_bytes());
            out.extend_from_slice(&record.bytes.to_le_bytes());
        }
        let checksum = blake3::hash(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }

    fn decode(bytes: &[u8], unique_id: &[u8]) -> std::result::Result<Self, &'static str> {
        let (body, checksum) =
            bytes.len().checked_sub(CHECKSUM_LENGTH).map(|at| bytes.split_at(at)).ok_or("it is too short")?;
        if *blake3::hash(body).as_bytes() != *checksum {
            return Err("it is damaged");
        }
        let rows = body.strip_prefix(MAGIC).ok_or("it is of another kind")?;
        let rows =
            rows.strip_prefix(blake3::hash(unique_id).as_bytes()).ok_or("it is another repository's")?;
        let chunks = rows.chunks_exact(ROW_LENGTH);
        if !chunks.remainder().is_empty() {
            return Err("it is cut off");
        }
        Ok(Self::new(chunks.map(row_of).collect()))
    }
}

/// `row` has the length of a row.
fn row_of(row: &[u8]) -> (PackKey, Record) {
    let (mut key, mut at, mut bytes) = (PackKey::default(), [0; 4], [0; 8]);
    key.copy_from_slice(&row[..16]);
    at.copy_from_slice(&row[16..20]);
    bytes.copy_from_slice(&row[20..]);
    (key, Record { at_seconds: u32::from_le_bytes(at), bytes: u64::from_le_bytes(bytes) })
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {what} the ledger of verification {}", path.display());
    Error::new(ErrorKind::Filesystem, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(count: u8) -> Ledger {
        let record = |i: u8| Record { at_seconds: u32::from(i) + 1, bytes: 1 << i };
        Ledger::new((0..count).rev().map(|i| (pack_key(&BlobId::new(format!("p{i}"))), record(i))).collect())
    }

    #[test]
    fn what_is_saved_is_loaded_and_unknown_packs_were_never_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("deep").join("ledger");
        assert_eq!(Ledger::load(&path, b"id").expect("none"), Ledger::default());
        ledger(20).save(&path, b"id").expect("saved");
        let loaded = Ledger::load(&path, b"id").expect("loaded");
        assert_eq!(loaded, ledger(20));
        assert_eq!(loaded.record(&pack_key(&BlobId::new("p3"))), Record { at_seconds: 4, bytes: 8 });
        assert_eq!(loaded.record(&pack_key(&BlobId::new("p99"))), Record::default());
    }

    #[test]
    fn every_flipped_bit_cut_and_foreign_repository_is_refused() {
        let bytes = ledger(3).encode(b"id");
        assert!(Ledger::decode(&bytes, b"id").is_ok());
        assert_eq!(Ledger::decode(&bytes, b"other"), Err("it is another repository's"));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Ledger::decode(&damaged, b"id").is_err());
            assert!(Ledger::decode(&bytes[..at], b"id").is_err());
        }
    }
}
