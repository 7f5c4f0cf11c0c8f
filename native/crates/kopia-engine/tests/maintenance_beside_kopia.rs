//! Weeks with the real `kopia` in the middle: our clients back up, delete and maintain for days, then `kopia` backs up
//! the same files while our full maintenance collects, drops and deletes what had become old, `kopia` maintains in its
//! turn, and our days go on. All margins are kept; nothing that a snapshot needs is ever lost.
//!
//! `kopia` has no clock to set. So its part is now, and ours lies before and after it: our clock is moved, and our
//! blobs get its times. `KOPIA_SEEDS=50` tries more; the seed of a failure is in its message.

mod support;

use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::blob::{BlobMetadata, BlobWriter, PutOptions, Storage};
use kopia_engine::clock::{Clock, SystemClock};
use kopia_engine::maintenance::{Mode, TaskDetails};
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_engine::{Result, snapshots};
use kopia_format::maintenance::MaintenanceTask;
use kopia_format::{BlobId, ManifestId, Timestamp};
use kopia_testing::data::SplitMix;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use support::PASSWORD;
use support::kopia::RealKopia;
use support::small_backups::{backup, bytes_of, check, maintain};

const HOUR: i64 = 3600;
/// Days of ours before `kopia` comes, and after.
const DAYS_BEFORE: i64 = 8;
const DAYS_AFTER: i64 = 4;
const FILES: u64 = 150;
/// Backups by `kopia` beside our maintenance.
const ROUNDS: u64 = 3;

/// The system's clock, moved by some seconds.
#[derive(Debug, Clone)]
struct MovedClock(Arc<AtomicI64>);

impl MovedClock {
    fn move_to(&self, seconds_from_now: i64) {
        self.0.store(seconds_from_now, Ordering::Relaxed);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        Timestamp { seconds: now.seconds + self.0.load(Ordering::Relaxed), ..now }
    }
}

/// A storage whose blobs get the time of that clock.
#[derive(Debug, Clone)]
struct TimedStorage {
    inner: Arc<FilesystemStorage>,
    clock: MovedClock,
}

impl TimedStorage {
    fn timed(&self, options: &PutOptions) -> PutOptions {
        PutOptions { modified: options.modified.or_else(|| Some(self.clock.now())), ..options.clone() }
    }
}

impl Storage for TimedStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.inner.get(id, out)
    }
    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.inner.get_range(id, offset, length, out)
    }
    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        self.inner.metadata(id)
    }
    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.inner.put(id, pieces, &self.timed(options))
    }
    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        self.inner.create(id, &self.timed(options))
    }
    fn delete(&self, id: &BlobId) -> Result<()> {
        self.inner.delete(id)
    }
    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, each)
    }
    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn is_local(&self) -> bool {
        true
    }
}

struct Weeks {
    seed: u64,
    random: SplitMix,
    clock: MovedClock,
    kopia: RealKopia,
    writer: Arc<Repository>,
    maintainer: Arc<Repository>,
    model: BTreeMap<ManifestId, BTreeSet<u64>>,
    /// Contents collected and packs deleted so far.
    freed: [u64; 2],
}

impl Weeks {
    fn new(seed: u64) -> Option<Self> {
        let clock = MovedClock(Arc::default());
        let options = CreateOptions { owner: Some("tester@here".into()), ..CreateOptions::default() };
        let kopia = RealKopia::new(&options, "tester", "here")?;
        let client = || {
            let place = FilesystemOptions::new(kopia.repository());
            let inner = Arc::new(FilesystemStorage::open(&place).expect("directory"));
            let storage: Arc<dyn Storage> = Arc::new(TimedStorage { inner, clock: clock.clone() });
            let clock = Arc::new(clock.clone());
            Repository::open(storage, PASSWORD, OpenOptions { clock, ..OpenOptions::default() })
                .expect("opened")
        };
        let (writer, maintainer) = (client(), client());
        let (random, model) = (SplitMix::new(seed), BTreeMap::new());
        Some(Self { seed, random, clock, kopia, writer, maintainer, model, freed: [0; 2] })
    }

    fn files(&mut self) -> BTreeSet<u64> {
        (0..10 + self.random.below(50)).map(|_| self.random.below(FILES)).collect()
    }

    fn back_up(&mut self) {
        let files = self.files();
        self.writer.refresh().expect("refreshed");
        let id = backup(&self.writer, &files).expect("backed up");
        self.model.insert(id, files);
    }

    fn delete_one(&mut self) {
        let index = self.random.below(self.model.len() as u64) as usize;
        let Some(id) = self.model.keys().nth(index).cloned() else { return };
        self.writer.refresh().expect("refreshed");
        snapshots::delete(&self.writer, &id).expect("deleted");
        self.writer.flush().expect("flushed");
        self.model.remove(&id);
    }

    fn maintain(&mut self) {
        self.maintainer.refresh().expect("refreshed");
        let report = maintain(&self.maintainer, Mode::Full).expect("maintained");
        assert_eq!(report.failed, None, "seed {}", self.seed);
        let details = |task| report.task(task).and_then(|task| task.details.clone());
        if let Some(TaskDetails::SnapshotGc { deleted, .. }) = details(MaintenanceTask::SnapshotGc) {
            self.freed[0] += deleted.count;
        }
        if let Some(TaskDetails::DeleteBlobs { deleted, .. }) = details(MaintenanceTask::FullDeleteBlobs) {
            self.freed[1] += deleted.count;
        }
    }

    /// Two backups, a deletion and maintenance in each of some days.
    fn days(&mut self, from: i64, to: i64) {
        for day in from..to {
            self.clock.move_to(day * 25 * HOUR);
            self.back_up();
            self.clock.move_to(day * 25 * HOUR + 6 * HOUR);
            self.back_up();
            self.delete_one();
            self.clock.move_to(day * 25 * HOUR + 12 * HOUR);
            self.maintain();
        }
    }

    /// `kopia` backs up what is old, deleted or about to be deleted, while we maintain.
    fn beside_kopia(&mut self) {
        self.clock.move_to(0);
        let source = self.kopia.beside("source");
        let rounds: Vec<_> = (0..ROUNDS).map(|_| self.files()).collect();
        self.delete_one();
        std::thread::scope(|scope| {
            let kopia = &self.kopia;
            let backups = scope.spawn(move || {
                for files in &rounds {
                    write_files(&source, files);
                    kopia.run(&["snapshot", "create", source.to_str().expect("UTF-8"), "--no-progress"]);
                }
            });
            let mut cycles = 0;
            while !backups.is_finished() || cycles == 0 {
                self.maintainer.refresh().expect("refreshed");
                let report = maintain(&self.maintainer, Mode::Full).expect("maintained");
                assert_eq!(report.failed, None, "seed {}", self.seed);
                cycles += 1;
            }
        });
        self.prove();
        self.kopia.run(&["maintenance", "run", "--full"]);
        self.prove();
    }

    /// `kopia` reads every file of every snapshot; ours are also compared with what went in.
    fn prove(&self) {
        self.kopia.run(&["snapshot", "verify", "--verify-files-percent=100", "--no-progress"]);
        self.writer.refresh().expect("refreshed");
        for (id, files) in &self.model {
            check(&self.writer, id, files)
                .unwrap_or_else(|error| panic!("seed {}: {id}: {error}", self.seed));
        }
    }
}

fn write_files(directory: &Path, files: &BTreeSet<u64>) {
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir(directory).expect("made");
    for &number in files {
        std::fs::write(directory.join(format!("{number:06}")), bytes_of(number)).expect("written");
    }
}

#[test]
fn nothing_is_lost_in_weeks_with_the_real_kopia_in_the_middle() {
    let seeds: u64 = std::env::var("KOPIA_SEEDS").map_or(1, |count| count.parse().expect("a number"));
    for seed in 0..seeds {
        let Some(mut weeks) = Weeks::new(seed) else { return };
        weeks.days(-DAYS_BEFORE, 0);
        assert!(weeks.freed[0] > 0 && weeks.freed[1] > 0, "seed {seed}: nothing was freed before");
        weeks.beside_kopia();
        weeks.days(1, DAYS_AFTER);
        weeks.prove();
    }
}
