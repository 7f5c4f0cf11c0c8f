//! Backups of a few invented files, and the proof that they can still be read.

use kopia_engine::Result;
use kopia_engine::maintenance::{self, MaintenanceOptions, MaintenanceReport, Mode, Safety};
use kopia_engine::object::{ObjectWriter, ObjectWriterOptions, read_whole};
use kopia_engine::repository::Repository;
use kopia_engine::{snapshots, tree};
use kopia_format::compression::CompressorId;
use kopia_format::snapshot::{Directory, DirectoryEntry, DirectorySummary, EntryType};
use kopia_format::{ManifestId, ObjectId};
use kopia_testing::data::splitmix;
use kopia_testing::filling::save_snapshot;
use std::collections::BTreeSet;

/// The bytes of the file with this number.
pub fn bytes_of(number: u64) -> Vec<u8> {
    splitmix(number, 200 + (number as usize * 977) % 5000)
}

fn object(repository: &Repository, prefix: Option<u8>, bytes: &[u8]) -> Result<ObjectId> {
    let options = ObjectWriterOptions {
        prefix,
        splitter: None,
        compressor: CompressorId::NONE,
        metadata_compressor: CompressorId::ZSTD_FASTEST,
    };
    let mut writer = ObjectWriter::new(repository.contents(), options);
    writer.write(bytes)?;
    writer.finish()
}

fn entry(name: String, entry_type: EntryType, object: ObjectId) -> DirectoryEntry {
    DirectoryEntry {
        name: name.into_bytes(),
        entry_type,
        mode: 0o644,
        size: 0,
        modified: kopia_format::Timestamp::from_unix_seconds(1_700_000_000),
        uid: 0,
        gid: 0,
        object: Some(object),
        summary: None,
    }
}

/// Stores the files `numbers` in two directories and saves and flushes a snapshot of them.
pub fn backup(repository: &Repository, numbers: &BTreeSet<u64>) -> Result<ManifestId> {
    let mut halves = Vec::new();
    for half in 0..2 {
        let mut entries = Vec::new();
        for &number in numbers.iter().filter(|number| *number % 2 == half) {
            let object = object(repository, None, &bytes_of(number))?;
            entries.push(entry(format!("{number:06}"), EntryType::File, object));
        }
        halves.push(entry(format!("half{half}"), EntryType::Directory, directory(repository, &entries)?));
    }
    let root = entry("root".into(), EntryType::Directory, directory(repository, &halves)?);
    save_snapshot(repository, ("tester", "/data"), root)
}

fn directory(repository: &Repository, entries: &[DirectoryEntry]) -> Result<ObjectId> {
    let mut json = Vec::new();
    Directory::encode(entries, &DirectorySummary::default(), &mut json);
    object(repository, Some(b'k'), &json)
}

/// Reads back every file of a snapshot and compares it.
pub fn check(repository: &Repository, id: &ManifestId, numbers: &BTreeSet<u64>) -> Result<()> {
    let snapshot = snapshots::load(repository, id)?;
    let mut seen = BTreeSet::new();
    let root = snapshot.root_entry.expect("a root");
    let mut bytes = Vec::new();
    tree::walk(repository.contents(), root, &mut |path, entry| {
        if entry.entry_type == EntryType::File {
            let name = path.rsplit(|byte| *byte == b'/').next().expect("a name");
            let number = std::str::from_utf8(name).expect("UTF-8").parse().expect("a number");
            read_whole(repository.contents(), tree::object_of(entry)?, &mut bytes)?;
            assert!(bytes == bytes_of(number), "file {number} of snapshot {id} has other bytes");
            seen.insert(number);
        }
        Ok(())
    })?;
    assert_eq!(&seen, numbers, "files of snapshot {id}");
    Ok(())
}

/// Runs a cycle with all margins, whoever owns it.
pub fn maintain(repository: &Repository, mode: Mode) -> Result<MaintenanceReport> {
    maintain_with(repository, mode, Safety::Full)
}

/// Runs a cycle, whoever owns it.
pub fn maintain_with(repository: &Repository, mode: Mode, safety: Safety) -> Result<MaintenanceReport> {
    let options = MaintenanceOptions { mode, safety, force: true, ..MaintenanceOptions::default() };
    maintenance::run(repository, &options)
}
