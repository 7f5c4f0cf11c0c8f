//! Maintenance that is killed before each of its storage writes: whatever was backed up can be read, and the next
//! runs of another client finish the work.
//!
//! Each cycle is prepared so that its tasks have something to do, which is asserted. Killed before the n-th write and
//! after the one before it leave the same storage. `KILL_POINTS=all` takes every write, else every few of them
//! (starting elsewhere for each cycle).

mod support;

use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::{BlobMetadata, BlobWriter, PutOptions, RetentionMode, Storage};
use kopia_engine::maintenance::{self, MaintenanceReport, Mode, Outcome, TaskDetails};
use kopia_engine::repair::{self, RepairOptions};
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_engine::{Result, snapshots};
use kopia_format::epoch::{EPOCH_MARKER_BODY, epoch_marker_name};
use kopia_format::format_blob::KeyDerivation;
use kopia_format::maintenance::MaintenanceTask;
use kopia_format::{BlobId, ManifestId, Timestamp};
use kopia_testing::clock::ManualClock;
use kopia_testing::faulty::FaultyStorage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use support::kopia::RealKopia;
use support::small_backups::{backup, check, maintain};
use support::{PASSWORD, blobs};

const HOUR: i64 = 3600;
/// Without `KILL_POINTS=all` one write in so many.
const STRIDE: u64 = 5;
/// More writes than any cycle has here.
const WRITES_MAX: u64 = 1000;

/// A storage whose locks can be extended, which `MemoryStorage` alone does not offer.
#[derive(Debug, Clone)]
struct Lockable(MemoryStorage);

impl Storage for Lockable {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.0.get(id, out)
    }
    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.0.get_range(id, offset, length, out)
    }
    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.0.metadata(id)
    }
    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.0.put(id, pieces, options)
    }
    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        self.0.create(id, options)
    }
    fn delete(&self, id: &BlobId) -> Result<()> {
        self.0.delete(id)
    }
    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        self.0.list(prefix, each)
    }
    fn extend_retention(&self, id: &BlobId, _mode: RetentionMode, _period: Duration) -> Result<()> {
        self.0.metadata(id).map(drop)
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn is_local(&self) -> bool {
        true
    }
}

/// A repository at one moment, and what must be readable.
struct Scene {
    clock: ManualClock,
    storage: Lockable,
    kept: BTreeMap<ManifestId, BTreeSet<u64>>,
}

fn open(storage: Arc<dyn Storage>, clock: &ManualClock) -> Arc<Repository> {
    let options = OpenOptions {
        username: "tester".into(),
        hostname: "here".into(),
        clock: Arc::new(clock.clone()),
        ..OpenOptions::default()
    };
    Repository::open(storage, PASSWORD, options).expect("opened")
}

impl Scene {
    fn new(format_version: u32) -> Self {
        let clock = ManualClock::at(1_800_000_000);
        let storage = Lockable(MemoryStorage::with_clock(Arc::new(clock.clone())));
        let retention =
            (format_version == 3).then_some((RetentionMode::Governance, Duration::from_hours(72)));
        let options = CreateOptions {
            owner: Some("tester@here".into()),
            format_version,
            retention,
            key_derivation: KeyDerivation::Pbkdf2Sha256_600000,
            ..CreateOptions::default()
        };
        Repository::create(Arc::new(storage.clone()), PASSWORD, &options, Arc::new(clock.clone()))
            .expect("created");
        Self { clock, storage, kept: BTreeMap::new() }
    }

    fn open(&self) -> Arc<Repository> {
        open(Arc::new(self.storage.clone()), &self.clock)
    }

    fn back_up(&mut self, repository: &Repository, files: std::ops::Range<u64>) -> ManifestId {
        let files: BTreeSet<u64> = files.collect();
        let id = backup(repository, &files).expect("backed up");
        self.kept.insert(id.clone(), files);
        id
    }

    fn delete(&mut self, repository: &Repository, id: &ManifestId) {
        snapshots::delete(repository, id).expect("deleted");
        repository.flush().expect("flushed");
        self.kept.remove(id);
    }

    /// The same at the same moment, for one try.
    fn copy(&self) -> Self {
        let clock = ManualClock::default();
        clock.set(kopia_engine::clock::Clock::now(&self.clock));
        let storage = MemoryStorage::with_clock(Arc::new(clock.clone()));
        let mut bytes = Vec::new();
        let each = &mut |blob: BlobMetadata| {
            self.storage.get(&blob.id, &mut bytes)?;
            storage.put(&blob.id, &[&bytes], &PutOptions::default())?;
            storage.set_timestamp(&blob.id, blob.timestamp)
        };
        self.storage.list("", each).expect("copied");
        Self { clock, storage: Lockable(storage), kept: self.kept.clone() }
    }

    fn check(&self, repository: &Repository, when: &str) {
        repository.refresh().expect("refreshed");
        for (id, files) in &self.kept {
            check(repository, id, files).unwrap_or_else(|error| panic!("{when}: snapshot {id}: {error}"));
        }
    }

    /// Some more days by a client that knows nothing of the kill: garbage goes, and nothing else.
    fn finish(&self, when: &str) {
        let repository = self.open();
        self.check(&repository, when);
        for day in 0..4 {
            self.clock.advance(25 * HOUR);
            let report = maintain(&repository, Mode::Full).expect("maintained");
            assert_eq!(report.failed, None, "{when}, day {day}");
        }
        self.check(&repository, when);
        let used: BTreeSet<u64> = self.kept.values().flatten().copied().collect();
        let mut left = 0;
        let each = &mut |info: kopia_engine::content::ContentInfo| {
            left += usize::from(info.id.prefix().is_none());
            Ok(())
        };
        repository.contents().for_each(true, each).expect("listed");
        assert_eq!(left, used.len(), "{when}: contents of files that nobody needs are left");
    }
}

/// Calls `act` with a storage that ends before its n-th write, for each n; then `after`.
fn killed_everywhere(
    what: &str,
    scene: &Scene,
    first: u64,
    act: &(dyn Fn(Arc<dyn Storage>, &ManualClock) -> bool + Sync),
) {
    let stride = if std::env::var("KILL_POINTS").is_ok_and(|points| points == "all") { 1 } else { STRIDE };
    let mut writes = if stride == 1 { 0 } else { first % stride };
    loop {
        assert!(writes < WRITES_MAX, "{what}: more writes than any cycle has");
        let copy = scene.copy();
        let faulty = FaultyStorage::new(Arc::new(copy.storage.clone()));
        faulty.crash_after_writes(writes);
        let finished = act(Arc::new(faulty.clone()), &copy.clock);
        assert_eq!(finished, !faulty.has_crashed(), "{what} after {writes} writes");
        copy.finish(&format!("{what} killed after {writes} writes"));
        if finished {
            assert!(writes > 4, "{what}: only {writes} writes");
            eprintln!("{what}: {writes} writes or a few less");
            return;
        }
        writes += stride;
    }
}

fn maintained(storage: Arc<dyn Storage>, clock: &ManualClock, mode: Mode) -> bool {
    maintain(&open(storage, clock), mode).is_ok_and(|report| report.failed.is_none())
}

fn did(report: &MaintenanceReport, task: MaintenanceTask) -> TaskDetails {
    let found = report.task(task).unwrap_or_else(|| panic!("{} was not reached", task.name()));
    assert_eq!(found.outcome, Outcome::Done, "{}: {:?}", task.name(), found.why);
    found.details.clone().expect("details")
}

/// Many short packs, a third of them garbage; logs that are too old; locks to extend.
fn scene_with_garbage(format_version: u32) -> Scene {
    let mut scene = Scene::new(format_version);
    let repository = scene.open();
    let gone: Vec<_> = (0..6).map(|part| scene.back_up(&repository, part * 20..part * 20 + 15)).collect();
    (0..6).for_each(|part| drop(scene.back_up(&repository, part * 20 + 10..part * 20 + 20)));
    scene.storage.put(&"_log_old".into(), &[b"log"], &PutOptions::default()).expect("a log");
    gone.iter().for_each(|id| scene.delete(&repository, id));
    let mut parameters = maintenance::parameters(&repository).expect("parameters");
    parameters.extend_object_locks = format_version == 3;
    parameters.log_retention.max_age_nanoseconds = HOUR * 1_000_000_000;
    maintenance::set_parameters(&repository, &parameters).expect("set");
    repository.flush().expect("flushed");
    scene.clock.advance(25 * HOUR);
    scene
}

#[test]
fn a_full_cycle_that_collects_and_rewrites() {
    for format_version in [1, 3] {
        let scene = scene_with_garbage(format_version);
        let report = maintain(&scene.copy().open(), Mode::Full).expect("maintained");
        let TaskDetails::SnapshotGc { deleted, .. } = did(&report, MaintenanceTask::SnapshotGc) else {
            panic!()
        };
        let TaskDetails::Rewrite { rewritten, .. } = did(&report, MaintenanceTask::FullRewriteContents)
        else {
            panic!()
        };
        let TaskDetails::Logs { deleted: logs, .. } = did(&report, MaintenanceTask::CleanupLogs) else {
            panic!()
        };
        assert!(deleted.count > 30 && rewritten.count > 30 && logs.count == 1, "{report:?}");
        if format_version == 3 {
            did(&report, MaintenanceTask::ExtendBlobRetentionTime);
        }
        killed_everywhere("full cycle 1", &scene, 0, &|storage, clock| {
            maintained(storage, clock, Mode::Full)
        });
    }
}

#[test]
fn a_full_cycle_that_drops_and_deletes() {
    for format_version in [1, 3] {
        let scene = scene_with_garbage(format_version);
        let repository = scene.open();
        // Collected twice, rewritten in the first and third cycle: so the fourth deletes.
        for _ in 0..3 {
            maintain(&repository, Mode::Full).expect("maintained");
            scene.clock.advance(25 * HOUR);
        }
        let report = maintain(&scene.copy().open(), Mode::Full).expect("maintained");
        did(&report, MaintenanceTask::FullDropDeletedContent);
        let TaskDetails::DeleteBlobs { deleted, .. } = did(&report, MaintenanceTask::FullDeleteBlobs) else {
            panic!()
        };
        assert!(deleted.count > 0, "{report:?}");
        killed_everywhere("full cycle 4", &scene, 1, &|storage, clock| {
            maintained(storage, clock, Mode::Full)
        });
    }
}

#[test]
fn a_quick_cycle_that_joins_legacy_indexes() {
    let scene = scene_with_garbage(1);
    let report = maintain(&scene.copy().open(), Mode::Quick).expect("maintained");
    did(&report, MaintenanceTask::IndexCompaction);
    did(&report, MaintenanceTask::QuickRewriteContents);
    killed_everywhere("quick cycle", &scene, 2, &|storage, clock| maintained(storage, clock, Mode::Quick));
}

#[test]
fn a_full_cycle_with_every_task_of_epochs() {
    let mut scene = Scene::new(3);
    let repository = scene.open();
    for epoch in 1..=10 {
        scene.back_up(&repository, epoch * 3..epoch * 3 + 2);
        let marker = BlobId::new(epoch_marker_name(epoch));
        scene.storage.put(&marker, &[EPOCH_MARKER_BODY], &PutOptions::default()).expect("epoch");
        scene.clock.advance(HOUR);
    }
    // One set is old enough for what it replaces to go.
    maintain(&repository, Mode::Quick).expect("maintained");
    for part in 0..20 {
        scene.clock.advance(80 * 60);
        scene.back_up(&repository, part * 2 + 100..part * 2 + 102);
    }
    let report = maintain(&scene.copy().open(), Mode::Full).expect("maintained");
    did(&report, MaintenanceTask::CompactSingleEpoch);
    did(&report, MaintenanceTask::GenerateEpochRangeIndex);
    let advanced = did(&report, MaintenanceTask::AdvanceEpoch);
    assert!(matches!(advanced, TaskDetails::AdvanceEpoch { advanced: true, .. }), "{report:?}");
    let TaskDetails::EpochMarkers { markers, .. } = did(&report, MaintenanceTask::CleanupEpochMarkers) else {
        panic!()
    };
    let superseded = did(&report, MaintenanceTask::DeleteSupersededEpochIndexes);
    let TaskDetails::SupersededIndexes { deleted } = superseded else { panic!() };
    assert!(markers > 0 && deleted.count > 0, "{report:?}");
    killed_everywhere("epochs", &scene, 3, &|storage, clock| maintained(storage, clock, Mode::Full));
}

#[test]
fn a_repair_of_damaged_indexes() {
    for (format_version, prefix) in [(1, "n"), (3, "xn")] {
        let scene = scene_with_garbage(format_version);
        let storage: Arc<dyn Storage> = Arc::new(scene.storage.clone());
        let mut bytes = Vec::new();
        for id in blobs(&storage, prefix) {
            let timestamp: Timestamp = storage.metadata(&id).expect("listed").timestamp;
            storage.get(&id, &mut bytes).expect("read");
            bytes[40] ^= 1;
            storage.put(&id, &[&bytes], &PutOptions::default()).expect("damaged");
            scene.storage.0.set_timestamp(&id, timestamp).expect("there");
        }
        let run = |storage: Arc<dyn Storage>, clock: &ManualClock| {
            let options = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
            repair::run(&storage, PASSWORD, &options, &RepairOptions::default()).is_ok()
        };
        let stride =
            if std::env::var("KILL_POINTS").is_ok_and(|points| points == "all") { 1 } else { STRIDE };
        for writes in (0..).step_by(stride as usize) {
            let copy = scene.copy();
            let faulty = FaultyStorage::new(Arc::new(copy.storage.clone()));
            faulty.crash_after_writes(writes);
            let finished = run(Arc::new(faulty.clone()), &copy.clock);
            assert!(run(Arc::new(copy.storage.clone()), &copy.clock), "killed after {writes} writes");
            copy.check(&copy.open(), &format!("repair killed after {writes} writes"));
            if finished {
                assert!(writes > 0);
                break;
            }
        }
    }
}

#[test]
fn the_real_kopia_verifies_what_a_killed_cycle_has_left() {
    let scene = scene_with_garbage(3);
    let faulty = FaultyStorage::new(Arc::new(scene.storage.clone()));
    faulty.crash_after_writes(7);
    assert!(!maintained(Arc::new(faulty), &scene.clock, Mode::Full));
    let Some(kopia) = RealKopia::on_copy_of(&scene.storage, 3) else { return };
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    scene.finish("a killed cycle");
    let Some(kopia) = RealKopia::on_copy_of(&scene.storage, 3) else { return };
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    kopia.run(&["content", "verify", "--full"]);
}
