//! Damage of each kind, what a dry run says of it, and what can be restored after the repair.

mod support;

use kopia_engine::ErrorKind;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::{PutOptions, Storage};
use kopia_engine::clock::SystemClock;
use kopia_engine::repair::{self, FormatState, RepairOptions, RepairReport};
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_format::format_blob::KeyDerivation;
use kopia_format::{BlobId, ManifestId};
use std::collections::BTreeSet;
use std::sync::Arc;
use support::small_backups::{backup, check};
use support::{PASSWORD, blobs, open};

fn backed_up(format_version: u32) -> (Arc<dyn Storage>, ManifestId, BTreeSet<u64>) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let options = CreateOptions {
        format_version,
        key_derivation: KeyDerivation::Pbkdf2Sha256_600000,
        ..CreateOptions::default()
    };
    Repository::create(Arc::clone(&storage), PASSWORD, &options, Arc::new(SystemClock)).expect("created");
    let files: BTreeSet<u64> = (0..50).collect();
    let id = backup(&open(&storage), &files).expect("backed up");
    (storage, id, files)
}

fn run(storage: &Arc<dyn Storage>, dry_run: bool) -> RepairReport {
    let options = RepairOptions { dry_run, ..RepairOptions::default() };
    repair::run(storage, PASSWORD, &OpenOptions::default(), &options).expect("looked")
}

fn damage(storage: &Arc<dyn Storage>, id: &BlobId) {
    let mut bytes = Vec::new();
    storage.get(id, &mut bytes).expect("read");
    bytes[40] ^= 1;
    storage.put(id, &[&bytes], &PutOptions::default()).expect("damaged");
}

#[test]
fn a_sound_repository_is_left_alone() {
    for format_version in [1, 3] {
        let (storage, ..) = backed_up(format_version);
        let before = blobs(&storage, "");
        let report = run(&storage, false);
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(blobs(&storage, ""), before);
    }
}

#[test]
fn damaged_index_blobs_are_rebuilt_from_the_packs_and_kept_aside() {
    for (format_version, prefix) in [(1, "n"), (2, "xn"), (3, "xn")] {
        let (storage, id, files) = backed_up(format_version);
        let damaged = blobs(&storage, prefix);
        damaged.iter().for_each(|blob| damage(&storage, blob));
        let opened = Repository::open(Arc::clone(&storage), PASSWORD, OpenOptions::default());
        assert_eq!(opened.err().expect("does not open").kind, ErrorKind::Corrupted);

        let before = blobs(&storage, "");
        let dry = run(&storage, true);
        assert_eq!(blobs(&storage, ""), before);
        let indexes = dry.indexes.expect("looked");
        assert_eq!(indexes.damaged.len(), damaged.len());
        assert!(indexes.recovered.count >= 53, "{indexes:?}");

        run(&storage, false);
        let repository = open(&storage);
        check(&repository, &id, &files).expect("whole again");
        assert!(run(&storage, true).is_sound());
        assert_eq!(blobs(&storage, "damaged_").len(), damaged.len());
    }
}

#[test]
fn deleted_index_blobs_come_back_when_all_packs_are_asked() {
    let (storage, id, files) = backed_up(3);
    for blob in blobs(&storage, "xn") {
        storage.delete(&blob).expect("deleted");
    }
    let options = RepairOptions { all_packs: true, ..RepairOptions::default() };
    repair::run(&storage, PASSWORD, &OpenOptions::default(), &options).expect("repaired");
    check(&open(&storage), &id, &files).expect("whole again");
}

#[test]
fn a_lost_format_blob_is_found_in_packs_of_format_1_only() {
    for (format_version, found) in [(1, true), (3, false)] {
        let (storage, id, files) = backed_up(format_version);
        storage.delete(&BlobId::new("kopia.repository")).expect("deleted");
        let dry = run(&storage, true);
        assert_eq!(dry.format.state, FormatState::Missing);
        assert_eq!(dry.format.copy_in.is_some(), found);
        let report = run(&storage, false);
        assert_eq!(report.format.restored, found);
        if found {
            check(&open(&storage), &id, &files).expect("whole again");
        }
    }
}

#[test]
fn another_password_is_no_damage() {
    let (storage, ..) = backed_up(3);
    let refused = repair::run(&storage, "other", &OpenOptions::default(), &RepairOptions::default());
    assert_eq!(refused.expect_err("refused").kind, ErrorKind::InvalidPassword);
}

#[test]
fn a_lost_pack_is_told_by_file_and_the_next_backup_heals_it() {
    let (storage, id, files) = backed_up(3);
    for pack in blobs(&storage, "p") {
        storage.delete(&pack).expect("deleted");
    }
    let lost = run(&storage, true).lost_packs.expect("looked");
    assert_eq!((lost.affected_count, lost.contents.count, lost.marked), (50, 50, 0));
    assert!(lost.affected.iter().any(|one| one.path == "half1/000007" && one.snapshot == id.as_str()));

    let lost = run(&storage, false).lost_packs.expect("repaired");
    assert_eq!(lost.marked, 50);
    let repository = open(&storage);
    check(&repository, &id, &files).expect_err("still lost");
    backup(&repository, &files).expect("backed up again");
    check(&repository, &id, &files).expect("healed");
    assert!(run(&storage, true).is_sound());
}

#[test]
fn a_lost_pack_of_directories_is_told_at_the_directory() {
    let (storage, id, _) = backed_up(3);
    let repository = open(&storage);
    let mut pack = None;
    let each = &mut |info: kopia_engine::content::ContentInfo| {
        pack = Some(info.pack);
        Ok(())
    };
    repository.contents().for_each_prefixed(b'k', false, each).expect("listed");
    storage.delete(&pack.expect("a pack of directories")).expect("deleted");
    // The manifest may lie in the same pack: then the snapshot itself is gone, and nothing is left to tell.
    match repair::run(
        &storage,
        PASSWORD,
        &OpenOptions::default(),
        &RepairOptions { dry_run: true, ..RepairOptions::default() },
    ) {
        Ok(report) => {
            let lost = report.lost_packs.expect("looked");
            assert!(lost.affected.iter().all(|one| one.directory && one.snapshot == id.as_str()), "{lost:?}");
        }
        Err(error) => assert_eq!(error.kind, ErrorKind::BlobNotFound),
    }
}
