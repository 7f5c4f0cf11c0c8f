//! Damage of each kind, what a dry run says of it, and what can be restored after the repair.

mod support;

use kopia_engine::ErrorKind;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::{PutOptions, Storage};
use kopia_engine::clock::SystemClock;
use kopia_engine::repair::{self, FormatState, RepairOptions, RepairReport};
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_engine::snapshots;
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
    let (storage, first, files) = backed_up(3);
    let kept: BTreeSet<_> = blobs(&storage, "xn").into_iter().collect();
    let more: BTreeSet<u64> = (50..60).collect();
    let second = backup(&open(&storage), &more).expect("backed up");
    for blob in blobs(&storage, "xn").iter().filter(|blob| !kept.contains(*blob)) {
        storage.delete(blob).expect("deleted");
    }
    // Nothing but a hint: packs of a backup that was cut off look the same.
    let looked = run(&storage, true);
    assert!(looked.is_sound());
    assert!(looked.indexes.expect("looked").unindexed_packs.count >= 2);
    let options = RepairOptions { all_packs: true, ..RepairOptions::default() };
    repair::run(&storage, PASSWORD, &OpenOptions::default(), &options).expect("repaired");
    check(&open(&storage), &first, &files).expect("whole");
    check(&open(&storage), &second, &more).expect("whole again");
}

#[test]
fn packs_are_taken_in_unasked_when_no_index_is_left() {
    let (storage, id, files) = backed_up(3);
    for blob in blobs(&storage, "xn") {
        storage.delete(&blob).expect("deleted");
    }
    let looked = run(&storage, true);
    assert!(!looked.is_sound());
    assert!(looked.indexes.expect("looked").recovered.count >= 53);
    run(&storage, false);
    check(&open(&storage), &id, &files).expect("whole again");
    assert!(run(&storage, true).is_sound());
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
    let lost = run(&storage, true).lost.expect("looked");
    assert_eq!((lost.affected_count, lost.contents.count, lost.marked), (50, 50, 0));
    assert!(lost.affected.iter().any(|one| one.path == "half1/000007" && one.snapshot == id.as_str()));

    let lost = run(&storage, false).lost.expect("repaired");
    assert_eq!(lost.marked, 50);
    let repository = open(&storage);
    check(&repository, &id, &files).expect_err("still lost");
    backup(&repository, &files).expect("backed up again");
    check(&repository, &id, &files).expect("healed");
    assert!(run(&storage, true).is_sound());
}

fn run_reading(storage: &Arc<dyn Storage>, dry_run: bool) -> RepairReport {
    let options = RepairOptions { dry_run, read_packs: true, ..RepairOptions::default() };
    repair::run(storage, PASSWORD, &OpenOptions::default(), &options).expect("looked")
}

#[test]
fn a_pack_that_is_cut_off_loses_only_what_lies_behind_its_end() {
    let (storage, id, files) = backed_up(3);
    let packs = blobs(&storage, "p");
    let mut bytes = Vec::new();
    storage.get(&packs[0], &mut bytes).expect("read");
    storage.put(&packs[0], &[&bytes[..bytes.len() / 2]], &PutOptions::default()).expect("cut off");
    let lost = run(&storage, true).lost.expect("looked");
    assert_eq!(lost.short_packs, [packs[0].as_str()]);
    assert!((10..45).contains(&lost.affected_count), "{lost:?}");
    assert_eq!((lost.contents.count, lost.packs.len(), lost.damaged.count), (lost.affected_count, 0, 0));

    run(&storage, false);
    let repository = open(&storage);
    backup(&repository, &files).expect("backed up again");
    check(&repository, &id, &files).expect("healed");
    assert!(run_reading(&storage, true).is_sound());
}

#[test]
fn damaged_bytes_of_a_file_are_found_when_packs_are_read() {
    let (storage, id, files) = backed_up(3);
    damage(&storage, &blobs(&storage, "p")[0]);
    assert!(run(&storage, true).is_sound());
    let lost = run_reading(&storage, true).lost.expect("looked");
    assert_eq!((lost.damaged.count, lost.affected_count, lost.contents.count), (1, 1, 0));

    run_reading(&storage, false);
    let repository = open(&storage);
    backup(&repository, &files).expect("backed up again");
    check(&repository, &id, &files).expect("healed");
    assert!(run_reading(&storage, true).is_sound());
}

/// The packs that hold contents of a kind.
fn packs_of(storage: &Arc<dyn Storage>, prefix: u8) -> BTreeSet<BlobId> {
    let repository = open(storage);
    let mut packs = BTreeSet::new();
    let each = &mut |info: kopia_engine::content::ContentInfo| {
        packs.insert(info.pack);
        Ok(())
    };
    repository.contents().for_each_prefixed(prefix, false, each).expect("listed");
    packs
}

#[test]
fn manifests_that_are_lost_do_not_hide_the_others() {
    type Harm = fn(&Arc<dyn Storage>, &BlobId);
    let harms: [Harm; 2] = [|storage, pack| storage.delete(pack).expect("deleted"), spoil];
    for harm in harms {
        let (storage, first, files) = backed_up(3);
        let old = packs_of(&storage, b'm');
        let second = backup(&open(&storage), &(50..60).collect()).expect("backed up");
        old.iter().for_each(|pack| harm(&storage, pack));
        // Nothing can be listed while one cannot be read.
        snapshots::load(&open(&storage), &second).map(|_| ()).expect_err("not listed");

        let before = blobs(&storage, "");
        let dry = run(&storage, true);
        assert_eq!(blobs(&storage, ""), before);
        let lost = dry.lost.expect("looked");
        assert!(lost.manifest_contents >= 1 && lost.affected_count == 0, "{lost:?}");
        run(&storage, false);
        check(&open(&storage), &second, &(50..60).collect()).expect("whole");
        let gone = snapshots::load(&open(&storage), &first).map(|_| ());
        assert_eq!(gone.expect_err("gone").kind, ErrorKind::ManifestNotFound);
        assert!(run(&storage, true).is_sound());
        backup(&open(&storage), &files).expect("goes on");
    }
}

/// Spoils every stored byte, so that nothing in it opens.
fn spoil(storage: &Arc<dyn Storage>, id: &BlobId) {
    let mut bytes = Vec::new();
    storage.get(id, &mut bytes).expect("read");
    bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    storage.put(id, &[&bytes], &PutOptions::default()).expect("spoiled");
}

#[test]
fn a_lost_directory_is_told_once_and_what_lies_below_it_is_not() {
    let (storage, ..) = backed_up(3);
    let directories = packs_of(&storage, b'k');
    // Manifests of their own, in a pack of their own.
    let snapshot = backup(&open(&storage), &(0..50).collect()).expect("backed up again");
    for pack in directories {
        spoil(&storage, &pack);
    }
    let lost = run(&storage, true).lost.expect("looked");
    let told: Vec<_> = lost.affected.iter().filter(|one| one.snapshot == snapshot.as_str()).collect();
    assert_eq!(told.len(), 1, "{lost:?}");
    assert!(told[0].directory && told[0].path.is_empty(), "{told:?}");
    assert!(lost.damaged.count >= 1);
}
