//! Changing the password or parameters, and copying, cut off anywhere. (Maintenance and repair: `maintenance_killed`;
//! upgrades: `upgrade`.)

mod support;

use kopia_engine::ErrorKind;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::{BlobMetadata, PutOptions, RetentionMode, Storage};
use kopia_engine::clock::SystemClock;
use kopia_engine::content::ContentInfo;
use kopia_engine::manifest::Labels;
use kopia_engine::progress::Progress;
use kopia_engine::repository::{CreateOptions, OpenOptions, ParameterChanges, Repository, RetentionChange};
use kopia_engine::snapshot_copy::{self, SnapshotCopyOptions};
use kopia_engine::snapshots;
use kopia_engine::sync_to::{SyncToOptions, sync_to};
use kopia_format::ManifestId;
use kopia_format::format_blob::KeyDerivation;
use kopia_testing::clock::ManualClock;
use kopia_testing::faulty::FaultyStorage;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use support::small_backups::{backup, check};

const OLD: &str = "old password";
const NEW: &str = "new password";

fn created(options: &CreateOptions) -> Arc<dyn Storage> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let options = CreateOptions { key_derivation: KeyDerivation::Pbkdf2Sha256_600000, ..options.clone() };
    Repository::create(Arc::clone(&storage), OLD, &options, Arc::new(SystemClock)).expect("created");
    storage
}

fn opens(storage: &Arc<dyn Storage>, password: &str) -> bool {
    match Repository::open(Arc::clone(storage), password, OpenOptions::default()) {
        Ok(_) => true,
        Err(error) if error.kind == ErrorKind::InvalidPassword => false,
        Err(error) => panic!("{error}"),
    }
}

fn change(storage: &dyn Storage, old: &str, new: &str) -> kopia_engine::Result<bool> {
    Repository::change_password(storage, old, new, &OpenOptions::default()).map(|change| change.resumed)
}

#[test]
fn only_the_new_password_opens_afterwards() {
    for format_version in [2, 3] {
        let storage = created(&CreateOptions { format_version, ..CreateOptions::default() });
        assert!(!change(storage.as_ref(), OLD, NEW).expect("changed"));
        assert!(opens(&storage, NEW) && !opens(&storage, OLD));
    }
}

#[test]
fn format_1_cannot_change_and_a_wrong_password_changes_nothing() {
    let storage = created(&CreateOptions { format_version: 1, ..CreateOptions::default() });
    assert_eq!(change(storage.as_ref(), OLD, NEW).expect_err("refused").kind, ErrorKind::UnsupportedFormat);
    assert!(opens(&storage, OLD));
    let storage = created(&CreateOptions::default());
    assert_eq!(change(storage.as_ref(), "x", NEW).expect_err("refused").kind, ErrorKind::InvalidPassword);
    assert_eq!(change(storage.as_ref(), OLD, "").expect_err("refused").kind, ErrorKind::InvalidArgument);
    assert!(opens(&storage, OLD));
}

#[test]
fn cut_off_at_any_write_one_of_the_two_opens_and_a_second_call_finishes() {
    for writes in 0..3 {
        let storage = created(&CreateOptions::default());
        let faulty = FaultyStorage::new(Arc::clone(&storage));
        faulty.crash_after_writes(writes);
        change(&faulty, OLD, NEW).expect_err("cut off");
        assert!(opens(&storage, OLD) != opens(&storage, NEW), "after {writes} writes");
        change(storage.as_ref(), OLD, NEW).expect("finished");
        assert!(opens(&storage, NEW) && !opens(&storage, OLD));
    }
}

#[test]
fn with_object_locks_a_second_call_finishes_too_and_the_locks_stay() {
    let retention = Some((RetentionMode::Governance, Duration::from_secs(86_400)));
    for writes in 0..2 {
        let storage = created(&CreateOptions { retention, ..CreateOptions::default() });
        let faulty = FaultyStorage::new(Arc::clone(&storage));
        faulty.crash_after_writes(writes);
        change(&faulty, OLD, NEW).expect_err("cut off");
        assert_eq!(change(storage.as_ref(), OLD, NEW).expect("finished"), writes > 0);
        assert!(opens(&storage, NEW) && !opens(&storage, OLD));
    }
}

#[test]
fn parameters_that_were_cut_off_are_the_old_or_the_new_ones_and_a_second_call_finishes() {
    let changes = ParameterChanges {
        max_pack_size_bytes: Some(40 << 20),
        retention: Some(RetentionChange::Set(
            Some(RetentionMode::Governance),
            Some(Duration::from_secs(30 * 86_400)),
        )),
        ..ParameterChanges::default()
    };
    let set = |storage: &Arc<dyn Storage>| {
        Repository::set_parameters(storage, OLD, &changes, &OpenOptions::default())
    };
    for writes in 0.. {
        let storage = created(&CreateOptions::default());
        let faulty = FaultyStorage::new(Arc::clone(&storage));
        faulty.crash_after_writes(writes);
        let finished = set(&(Arc::new(faulty) as Arc<dyn Storage>)).is_ok();
        assert!(opens(&storage, OLD), "after {writes} writes");
        let report = set(&storage).expect("finished");
        assert_eq!(report.changes.is_empty(), finished, "{:?}", report.changes);
        let repository = Repository::open(storage, OLD, OpenOptions::default()).expect("opened");
        assert_eq!(repository.contents().max_pack_size_bytes(), 40 << 20);
        if finished {
            assert_eq!(writes, 2);
            return;
        }
    }
}

/// Snapshots and the numbers of their files.
type Backups = BTreeMap<ManifestId, BTreeSet<u64>>;

/// A repository with some snapshots that share files, taken hours apart.
fn with_snapshots() -> (Arc<dyn Storage>, Backups) {
    let storage = created(&CreateOptions::default());
    let clock = ManualClock::at(1_900_000_000);
    let options = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
    let repository = Repository::open(Arc::clone(&storage), OLD, options).expect("opened");
    let mut backups = Backups::new();
    for part in 0..3 {
        clock.advance(3600);
        let files: BTreeSet<u64> = (part * 5..part * 5 + 10).collect();
        backups.insert(backup(&repository, &files).expect("backed up"), files);
    }
    (storage, backups)
}

fn open(storage: &Arc<dyn Storage>) -> Arc<Repository> {
    Repository::open(Arc::clone(storage), OLD, OpenOptions::default()).expect("opened")
}

/// Calls `act` with a copy of `storage` that is cut off after some writes, then `after` with what it left; `act`
/// says whether it came to its end.
fn cut_off_now_and_then(
    storage: &Arc<dyn Storage>,
    act: impl Fn(Arc<dyn Storage>) -> bool,
    after: impl Fn(Arc<dyn Storage>, &str),
) {
    for writes in (0..).step_by(3) {
        let copy: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let mut bytes = Vec::new();
        let each = &mut |blob: BlobMetadata| {
            storage.get(&blob.id, &mut bytes)?;
            copy.put(&blob.id, &[&bytes], &PutOptions::default())
        };
        storage.list("", each).expect("copied");
        let faulty = FaultyStorage::new(Arc::clone(&copy));
        faulty.crash_after_writes(writes);
        let finished = act(Arc::new(faulty.clone()));
        assert_eq!(finished, !faulty.has_crashed(), "after {writes} writes");
        after(copy, &format!("cut off after {writes} writes"));
        if finished {
            assert!(writes > 6, "only {writes} writes");
            return;
        }
    }
}

#[test]
fn a_copy_of_a_repository_that_was_cut_off_names_no_missing_pack_and_goes_on() {
    let (source, backups) = with_snapshots();
    let copy = |target: &dyn Storage, delete| {
        let options = SyncToOptions { parallel: NonZeroUsize::new(1), delete, ..SyncToOptions::default() };
        sync_to(source.as_ref(), target, &options, &Progress::default())
    };
    let empty: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let act = |target: Arc<dyn Storage>| copy(target.as_ref(), false).is_ok();
    cut_off_now_and_then(&empty, act, |target, when| {
        if support::blobs(&target, "kopia.repository").is_empty() {
            return;
        }
        let (repository, mut bytes) = (open(&target), Vec::new());
        let each = &mut |info: ContentInfo| repository.contents().read(&info.id, &mut bytes);
        repository.contents().for_each(true, each).unwrap_or_else(|error| panic!("{when}: {error}"));
        copy(target.as_ref(), true).expect("finished");
        repository.refresh().expect("refreshed");
        for (id, files) in &backups {
            check(&repository, id, files).unwrap_or_else(|error| panic!("{when}: {error}"));
        }
    });
}

#[test]
fn copying_snapshots_cut_off_shows_whole_ones_only_and_goes_on() {
    let (source, backups) = with_snapshots();
    let source = open(&source);
    let started = |repository: &Repository| {
        let found = snapshots::list(repository, None, &Labels::new()).expect("listed");
        found.into_iter().map(|one| (one.start_time, one.id.expect("stored"))).collect::<BTreeMap<_, _>>()
    };
    let originals = started(&source);
    let copy = |target: &Arc<Repository>| {
        let options = SnapshotCopyOptions::default();
        snapshot_copy::copy(&source, target, &options, &Progress::default())
    };
    let act = |target: Arc<dyn Storage>| {
        Repository::open(target, OLD, OpenOptions::default()).is_ok_and(|target| copy(&target).is_ok())
    };
    cut_off_now_and_then(&created(&CreateOptions::default()), act, |target, when| {
        let target = open(&target);
        let whole = |expected: Option<usize>| {
            let copies = started(&target);
            assert!(expected.is_none_or(|count| count == copies.len()), "{when}: {copies:?}");
            for (start, id) in &copies {
                check(&target, id, &backups[&originals[start]])
                    .unwrap_or_else(|error| panic!("{when}: {error}"));
            }
        };
        whole(None);
        copy(&target).expect("finished");
        whole(Some(backups.len()));
    });
}
