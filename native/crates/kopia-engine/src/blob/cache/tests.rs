//! The cache over a storage that counts: what is fetched, what is kept, and what damage does.

use super::*;
use crate::blob::layers::metrics::{RequestResult, StorageMetrics};
use crate::blob::layers::observing::{ObservedStorage, Operation};
use crate::blob::memory::MemoryStorage;
use std::fs;
use std::path::Path;

struct Bench {
    cache: CachingStorage,
    metrics: Arc<StorageMetrics>,
}

impl Bench {
    fn new(directory: &Path, bytes_max: u64) -> Self {
        let memory = MemoryStorage::new();
        for name in ["q1", "q2", "q3", "xn0_1", "p1", "kopia.maintenance"] {
            memory.put(&name.into(), &[&[b'a'; 100], name.as_bytes()], &PutOptions::default()).expect("put");
        }
        let metrics = Arc::new(StorageMetrics::new());
        let inner = Arc::new(ObservedStorage::new(Arc::new(memory), metrics.clone()));
        let options = CacheOptions { directory: directory.to_owned(), bytes_max };
        Self { cache: CachingStorage::new(inner, &options), metrics }
    }

    fn read(&self, id: &str) -> Vec<u8> {
        let mut out = b"left".to_vec();
        self.cache.get_range(&id.into(), 99, 3, &mut out).expect(id);
        out
    }

    fn gets(&self) -> u64 {
        self.metrics.read_one(Operation::Get, RequestResult::Ok).request_count
    }
}

fn files(root: &Path) -> Vec<std::path::PathBuf> {
    let locations = fs::read_dir(root).expect("root").map(|entry| entry.expect("entry").path());
    let inside = |path| fs::read_dir(path).expect("location").map(|entry| entry.expect("entry").path());
    locations.filter(|path| path.is_dir()).flat_map(inside).collect()
}

#[test]
fn metadata_and_indexes_are_fetched_once_by_all_processes() {
    let directory = tempfile::tempdir().expect("directory");
    let first = Bench::new(directory.path(), 10_000);
    for _ in 0..3 {
        assert_eq!((first.read("q1"), first.read("xn0_1")), (b"aq1".to_vec(), b"axn".to_vec()));
    }
    assert_eq!((first.gets(), first.cache.counts()), (2, (4, 2)));
    let second = Bench::new(directory.path(), 10_000);
    let mut out = Vec::new();
    second.cache.get(&"q1".into(), &mut out).expect("whole");
    assert_eq!((out.len(), second.gets()), (102, 0));
}

#[test]
fn data_packs_and_mutable_blobs_are_always_asked_of_the_storage() {
    let directory = tempfile::tempdir().expect("directory");
    let bench = Bench::new(directory.path(), 10_000);
    (0..2).for_each(|_| drop((bench.read("p1"), bench.read("kopia.maintenance"))));
    assert_eq!((bench.gets(), files(directory.path()).len()), (4, 0));
}

#[test]
fn the_least_recently_used_blob_makes_room_and_the_budget_holds() {
    let directory = tempfile::tempdir().expect("directory");
    let bench = Bench::new(directory.path(), 320);
    let total =
        || files(directory.path()).iter().map(|path| fs::metadata(path).expect("file").len()).sum::<u64>();
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
    for id in ["q1", "q2"] {
        bench.read(id);
        pause();
    }
    Bench::new(directory.path(), 320).read("q1");
    pause();
    bench.read("q3");
    assert!(total() <= 320, "{}", total());
    let names: Vec<_> =
        files(directory.path()).iter().filter_map(|path| Some(path.file_name()?.to_owned())).collect();
    assert!(names.contains(&"q1".into()) && names.contains(&"q3".into()), "{names:?}");
    assert_eq!(Bench::new(directory.path(), 100).read("q2"), b"aq2", "a budget below one blob keeps nothing");
}

#[test]
fn a_damaged_file_is_fetched_anew() {
    let directory = tempfile::tempdir().expect("directory");
    Bench::new(directory.path(), 10_000).read("q1");
    let path = files(directory.path()).remove(0);
    let whole = fs::read(&path).expect("file");
    let mut flipped = whole.clone();
    flipped[140] ^= 1;
    for damaged in [flipped, whole[..149].to_vec(), whole[..20].to_vec(), Vec::new()] {
        fs::write(&path, damaged).expect("damage");
        let bench = Bench::new(directory.path(), 10_000);
        assert_eq!((bench.read("q1"), bench.gets()), (b"aq1".to_vec(), 1));
        assert_eq!(fs::read(&path).expect("file"), whole);
    }
}

#[test]
fn what_a_killed_process_left_goes_with_the_next_store() {
    let directory = tempfile::tempdir().expect("directory");
    let bench = Bench::new(directory.path(), 10_000);
    bench.read("q1");
    let left = files(directory.path()).remove(0).with_file_name("q9.tmp");
    fs::write(&left, b"half").expect("leave");
    bench.read("q2");
    assert!(!left.exists());
}

#[test]
fn a_disk_that_takes_nothing_costs_only_the_cache() {
    let directory = tempfile::tempdir().expect("directory");
    let bench = Bench::new(directory.path(), 10_000);
    fs::create_dir(directory.path().join("lock")).expect("in the way");
    (0..2).for_each(|_| assert_eq!(bench.read("q1"), b"aq1"));
    let file = directory.path().join("file");
    fs::write(&file, b"").expect("file");
    assert_eq!(Bench::new(&file.join("below"), 10_000).read("q1"), b"aq1");
}

#[test]
fn a_range_outside_and_a_missing_blob_are_the_storages_errors() {
    let directory = tempfile::tempdir().expect("directory");
    let bench = Bench::new(directory.path(), 10_000);
    let mut out = Vec::new();
    for _ in 0..2 {
        let error = bench.cache.get_range(&"q1".into(), 100, 50, &mut out).expect_err("outside");
        assert_eq!(error.kind, crate::ErrorKind::InvalidRange);
    }
    let error = bench.cache.get(&"q9".into(), &mut out).expect_err("missing");
    assert_eq!(error.kind, crate::ErrorKind::BlobNotFound);
}

#[test]
fn a_deleted_blob_is_not_read_from_the_cache() {
    let directory = tempfile::tempdir().expect("directory");
    let bench = Bench::new(directory.path(), 10_000);
    bench.read("q1");
    bench.cache.delete(&"q1".into()).expect("delete");
    assert!(bench.cache.get(&"q1".into(), &mut Vec::new()).is_err());
}

#[test]
fn readers_side_by_side_fetch_a_blob_once() {
    let directory = tempfile::tempdir().expect("directory");
    let bench = Bench::new(directory.path(), 10_000);
    std::thread::scope(|scope| {
        (0..8).for_each(|_| drop(scope.spawn(|| assert_eq!(bench.read("q1"), b"aq1"))));
    });
    assert_eq!(bench.gets(), 1);
}

#[test]
fn what_was_written_is_read_from_the_disk() {
    let directory = tempfile::tempdir().expect("directory");
    let bench = Bench::new(directory.path(), 10_000);
    let (first, second) = (vec![b'b'; 99], b"bq4".to_vec());
    bench.cache.put(&"q4".into(), &[&first, &second], &PutOptions::default()).expect("put");
    let mut writer = bench.cache.create(&"q5".into(), &PutOptions::default()).expect("create");
    [&first, &second].into_iter().try_for_each(|piece| writer.write(piece)).expect("written");
    writer.finish().expect("finished");
    assert_eq!((bench.read("q4"), bench.read("q5"), bench.gets()), (b"bq4".to_vec(), b"bq4".to_vec(), 0));
    bench.cache.put(&"p4".into(), &[&first], &PutOptions::default()).expect("put");
    assert_eq!(files(directory.path()).len(), 2, "data packs are not kept");
}

#[test]
fn the_format_blob_is_always_asked_for_and_remembered_as_it_was_last() {
    let directory = tempfile::tempdir().expect("directory");
    let bench = Bench::new(directory.path(), 10_000);
    let id = BlobId::new("kopia.repository");
    assert_eq!(bench.cache.remembered(&id), None);
    for content in [b"first".as_slice(), b"second"] {
        bench.cache.put(&id, &[content], &PutOptions::default()).expect("put");
        let mut out = Vec::new();
        bench.cache.get(&id, &mut out).expect("got");
        assert_eq!((out.as_slice(), bench.cache.remembered(&id).as_deref()), (content, Some(content)));
    }
    assert_eq!(bench.gets(), 2);
}
