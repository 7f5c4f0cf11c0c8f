//! Maintenance by the clock: what goes, what stays, when, and what is said about it.

mod support;

use kopia_engine::ErrorKind;
use kopia_engine::blob::Storage;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::maintenance::{self, MaintenanceOptions, Mode, Outcome, Safety, TaskDetails};
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_engine::snapshots;
use kopia_format::maintenance::MaintenanceTask;
use kopia_testing::clock::ManualClock;
use std::collections::BTreeSet;
use std::sync::Arc;
use support::small_backups::{backup, check, maintain};
use support::{PASSWORD, blobs};

const HOUR: i64 = 3600;

struct World {
    clock: ManualClock,
    storage: Arc<dyn Storage>,
    repository: Arc<Repository>,
}

fn options(clock: &ManualClock, username: &str) -> OpenOptions {
    OpenOptions {
        username: username.into(),
        hostname: "here".into(),
        clock: Arc::new(clock.clone()),
        ..OpenOptions::default()
    }
}

fn world(format_version: u32) -> World {
    let clock = ManualClock::at(1_800_000_000);
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::with_clock(Arc::new(clock.clone())));
    let create =
        CreateOptions { owner: Some("tester@here".into()), format_version, ..CreateOptions::default() };
    Repository::create(Arc::clone(&storage), PASSWORD, &create, Arc::new(clock.clone())).expect("created");
    let repository =
        Repository::open(Arc::clone(&storage), PASSWORD, options(&clock, "tester")).expect("opened");
    World { clock, storage, repository }
}

fn files(numbers: std::ops::Range<u64>) -> BTreeSet<u64> {
    numbers.collect()
}

/// Full cycles, far enough apart for all margins.
fn days(world: &World, count: usize) {
    for _ in 0..count {
        world.clock.advance(25 * HOUR);
        let report = maintain(&world.repository, Mode::Full).expect("maintained");
        assert_eq!(report.failed, None);
    }
}

#[test]
fn a_deleted_snapshot_is_gone_after_some_days_and_the_others_stay() {
    for format_version in [1, 2, 3] {
        let world = world(format_version);
        let kept = backup(&world.repository, &files(0..40)).expect("backed up");
        let gone = backup(&world.repository, &files(30..400)).expect("backed up");
        let bytes_before = bytes_of_packs(&world.storage);
        snapshots::delete(&world.repository, &gone).expect("deleted");
        world.repository.flush().expect("flushed");
        days(&world, 7);
        check(&world.repository, &kept, &files(0..40)).expect("still whole");
        let bytes = bytes_of_packs(&world.storage);
        assert!(
            bytes * 4 < bytes_before,
            "format {format_version}: {bytes} of {bytes_before} bytes are left"
        );
    }
}

fn bytes_of_packs(storage: &Arc<dyn Storage>) -> u64 {
    let mut bytes = 0;
    for prefix in ["p", "q"] {
        let each = &mut |blob: kopia_engine::blob::BlobMetadata| {
            bytes += blob.length;
            Ok(())
        };
        storage.list(prefix, each).expect("listed");
    }
    bytes
}

#[test]
fn nothing_younger_than_a_day_is_collected() {
    let world = world(3);
    let id = backup(&world.repository, &files(0..10)).expect("backed up");
    snapshots::delete(&world.repository, &id).expect("deleted");
    world.repository.flush().expect("flushed");
    world.clock.advance(23 * HOUR);
    let report = maintain(&world.repository, Mode::Full).expect("maintained");
    let gc = report.task(MaintenanceTask::SnapshotGc).expect("ran").details.clone();
    let Some(TaskDetails::SnapshotGc { deleted, too_recent, .. }) = gc else { panic!("{gc:?}") };
    // Ten files, two directories, the root.
    assert_eq!((deleted.count, too_recent.count), (0, 13));
}

#[test]
fn a_content_used_again_after_the_collection_is_stored_anew() {
    for format_version in [1, 3] {
        let world = world(format_version);
        let other = Repository::open(Arc::clone(&world.storage), PASSWORD, options(&world.clock, "other"))
            .expect("opened");
        let first = backup(&world.repository, &files(0..10)).expect("backed up");
        world.clock.advance(25 * HOUR);
        other.refresh().expect("refreshed");
        snapshots::delete(&world.repository, &first).expect("deleted");
        world.repository.flush().expect("flushed");
        maintain(&world.repository, Mode::Full).expect("maintained");
        // The other client has not seen the deletion yet and relies on the old contents.
        world.clock.advance(10 * 60);
        let again = backup(&other, &files(0..10)).expect("backed up");
        days(&world, 5);
        check(&world.repository, &again, &files(0..10)).expect("still whole");
    }
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_would_go() {
    let world = world(3);
    let id = backup(&world.repository, &files(0..30)).expect("backed up");
    snapshots::delete(&world.repository, &id).expect("deleted");
    world.repository.flush().expect("flushed");
    world.clock.advance(25 * HOUR);
    let before = blobs(&world.storage, "");
    let dry = MaintenanceOptions { mode: Mode::Full, dry_run: true, ..MaintenanceOptions::default() };
    let report = maintenance::run(&world.repository, &dry).expect("looked");
    assert_eq!(blobs(&world.storage, ""), before);
    let gc = report.task(MaintenanceTask::SnapshotGc).expect("ran");
    assert_eq!(gc.outcome, Outcome::DryRun);
    let Some(TaskDetails::SnapshotGc { unused, deleted, .. }) = gc.details else { panic!("{gc:?}") };
    assert_eq!((unused.count, deleted.count), (33, 0));
    serde_json::to_string(&report).expect("JSON");
}

#[test]
fn without_margins_all_goes_at_once() {
    for format_version in [1, 3] {
        let world = world(format_version);
        let kept = backup(&world.repository, &files(0..10)).expect("backed up");
        let gone = backup(&world.repository, &files(100..300)).expect("backed up");
        snapshots::delete(&world.repository, &gone).expect("deleted");
        world.repository.flush().expect("flushed");
        let before = bytes_of_packs(&world.storage);
        let options =
            MaintenanceOptions { mode: Mode::Full, safety: Safety::None, ..MaintenanceOptions::default() };
        for _ in 0..2 {
            world.clock.advance(10);
            let report = maintenance::run(&world.repository, &options).expect("maintained");
            assert_eq!(report.failed, None);
        }
        assert!(bytes_of_packs(&world.storage) * 4 < before);
        check(&world.repository, &kept, &files(0..10)).expect("still whole");
    }
}

#[test]
fn only_the_owner_maintains_and_the_refusal_says_who_that_is() {
    let world = world(3);
    let other = Repository::open(Arc::clone(&world.storage), PASSWORD, options(&world.clock, "other"))
        .expect("opened");
    let refused = maintenance::run(&other, &MaintenanceOptions::default()).expect_err("not the owner");
    assert_eq!(refused.kind, ErrorKind::AccessDenied);
    assert!(refused.message.contains("tester@here"), "{refused}");
    maintenance::take_over(&other, "other@here").expect("taken over");
    assert_eq!(maintenance::run(&other, &MaintenanceOptions::default()).expect("runs").cycle, "full");
    world.repository.refresh().expect("refreshed");
    assert!(maintenance::run(&world.repository, &MaintenanceOptions::default()).is_err());
}

#[test]
fn the_shared_identity_of_velero_needs_a_word_that_nobody_else_maintains() {
    let world = world(3);
    maintenance::take_over(&world.repository, maintenance::SHARED_OWNER).expect("taken over");
    let options = OpenOptions { clock: Arc::new(world.clock.clone()), ..OpenOptions::default() };
    let velero = Repository::open(Arc::clone(&world.storage), PASSWORD, options).expect("opened");
    assert!(maintenance::run(&velero, &MaintenanceOptions::default()).is_err());
    let alone = MaintenanceOptions { shared_owner_is_alone: true, ..MaintenanceOptions::default() };
    maintenance::run(&velero, &alone).expect("runs");
}

#[test]
fn the_schedule_says_when_and_the_full_cycle_comes_first() {
    let world = world(3);
    let auto = MaintenanceOptions::default();
    let mut cycles = Vec::new();
    for minutes in [0, 30, 31, 61, 23 * 60] {
        world.clock.advance(minutes * 60);
        cycles.push(maintenance::run(&world.repository, &auto).expect("runs").cycle);
    }
    assert_eq!(cycles, ["full", "none", "quick", "quick", "full"]);
    let info = maintenance::info(&world.repository).expect("info");
    assert_eq!(info.runs["snapshot-gc"].len(), 2);
    assert!(info.runs.values().flatten().all(|run| run.success));
}

#[test]
fn clocks_that_differ_stop_it() {
    let world = world(3);
    let late = ManualClock::at(1_800_000_000 + 600);
    let repository =
        Repository::open(Arc::clone(&world.storage), PASSWORD, options(&late, "tester")).expect("opened");
    let refused = maintenance::run(&repository, &MaintenanceOptions::default()).expect_err("refused");
    assert!(refused.message.contains("clock"), "{refused}");
}

#[test]
fn a_local_lock_keeps_a_second_process_out() {
    let world = world(3);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("lock");
    let file = std::fs::File::create(&path).expect("lock file");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("locked");
    let options = MaintenanceOptions { lock_file: Some(path), ..MaintenanceOptions::default() };
    let refused = maintenance::run(&world.repository, &options).expect_err("refused");
    assert!(refused.temporary && refused.message.contains("another process"), "{refused}");
    drop(file);
    maintenance::run(&world.repository, &options).expect("runs");
}

#[test]
fn epochs_advance_and_are_compacted_so_that_indexes_stay_few() {
    let world = world(3);
    let mut kept = Vec::new();
    for day in 0..30 {
        for hour in 0..4 {
            kept.push((
                backup(&world.repository, &files(day * 10 + hour..day * 10 + 8)).expect("backed up"),
                day,
                hour,
            ));
            world.clock.advance(6 * HOUR);
            let report = maintain(&world.repository, Mode::Auto).expect("maintained");
            assert_eq!(report.failed, None);
        }
    }
    assert!(!blobs(&world.storage, "xs").is_empty());
    let uncompacted = blobs(&world.storage, "xn").len();
    assert!(uncompacted < 130, "{uncompacted} uncompacted index blobs");
    world.repository.refresh().expect("refreshed");
    for (id, day, hour) in kept {
        check(&world.repository, &id, &files(day * 10 + hour..day * 10 + 8)).expect("whole");
    }
}
