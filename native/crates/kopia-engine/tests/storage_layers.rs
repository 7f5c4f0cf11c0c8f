//! Layers: conformance of every stack, faults through them, and the kill point.
#![allow(clippy::unwrap_used)]

use kopia_engine::blob::connection::{Connection, ConnectionOptions};
use kopia_engine::blob::layers::concurrency::ConcurrencyStorage;
use kopia_engine::blob::layers::kill_point::{KillMoment, KillPoint, KillPointStorage};
use kopia_engine::blob::layers::logging::RequestLog;
use kopia_engine::blob::layers::metrics::{RequestResult, StorageMetrics};
use kopia_engine::blob::layers::observing::{ObservedStorage, Operation};
use kopia_engine::blob::layers::retrying::{RetryPolicy, RetryingStorage};
use kopia_engine::blob::layers::throttling::{Throttle, ThrottleLimits, ThrottlingStorage};
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::url::ProviderConfig;
use kopia_engine::blob::{PutOptions, Storage};
use kopia_engine::cancel::CancelToken;
use kopia_engine::{ErrorKind, Result};
use kopia_format::BlobId;
use kopia_testing::conformance::{names, verify_storage};
use kopia_testing::directory::temporary_directory;
use kopia_testing::faulty::{Fault, FaultyStorage};
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// So wide that nothing waits, but the limits are on.
fn wide_limits() -> ThrottleLimits {
    let wide = NonZeroU64::new(4 << 30);
    ThrottleLimits {
        upload_bytes_per_second: wide,
        download_bytes_per_second: wide,
        requests_per_second: wide,
    }
}

type Layer<'a> = dyn Fn(Arc<dyn Storage>) -> Arc<dyn Storage> + 'a;

const NEVER: KillPoint = KillPoint { moment: KillMoment::Before, write_number: u64::MAX };

fn quick_retry() -> RetryPolicy {
    RetryPolicy { delay_first: Duration::from_micros(10), ..RetryPolicy::default() }
}

fn all_layers() -> ConnectionOptions {
    ConnectionOptions {
        sync: false,
        limits: wide_limits(),
        request_count_max: NonZeroUsize::new(1),
        kill_at: Some(NEVER),
        retry: quick_retry(),
        ..ConnectionOptions::default()
    }
}

fn put(storage: &dyn Storage, id: &str, bytes: &[u8]) -> Result<()> {
    storage.put(&BlobId::new(id), &[bytes], &PutOptions::default())
}

#[test]
fn each_layer_alone_keeps_every_promise() {
    let throttle = Arc::new(Throttle::new(wide_limits(), CancelToken::new()));
    let layers: [&Layer<'_>; 7] = [
        &|inner| Arc::new(RetryingStorage::new(inner, RetryPolicy::default(), CancelToken::new())),
        &|inner| Arc::new(ThrottlingStorage::new(inner, throttle.clone())),
        &|inner| Arc::new(ConcurrencyStorage::new(inner, NonZeroUsize::MIN)),
        &|inner| Arc::new(ObservedStorage::new(inner, Arc::new(StorageMetrics::new()))),
        &|inner| Arc::new(ObservedStorage::new(inner, Arc::new(RequestLog))),
        &|inner| Arc::new(KillPointStorage::new(inner, NEVER)),
        &|inner| Arc::new(FaultyStorage::new(inner)),
    ];
    for layer in layers {
        verify_storage(&*layer(Arc::new(MemoryStorage::new())));
    }
}

#[test]
fn all_layers_together_keep_every_promise() {
    let cancel = CancelToken::new();
    let connection = Connection::stack(Arc::new(MemoryStorage::new()), &all_layers(), &cancel);
    verify_storage(&*connection.storage);
    let directory = temporary_directory();
    let config = ProviderConfig::from_path(directory.path().join("repo")).unwrap();
    let connection = Connection::initialize(&config, None, &all_layers(), &cancel).unwrap();
    verify_storage(&*connection.storage);
    assert!(connection.metrics.read_one(Operation::Put, RequestResult::Ok).request_count > 10_000);
}

#[test]
fn a_storage_that_often_fails_for_a_moment_keeps_every_promise_behind_retries() {
    let faulty = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    // Local storages stream, so a failed `finish` cannot be repeated: see the retrying layer.
    faulty.when(|call| call.number % 7 == 3 && call.operation != Operation::Put, Fault::FailTemporarily);
    let connection = Connection::stack(Arc::new(faulty.clone()), &all_layers(), &CancelToken::new());
    verify_storage(&*connection.storage);
    let failed = connection.metrics.read_one(Operation::Delete, RequestResult::Temporary);
    assert!(failed.request_count > 1000, "each attempt is counted: {failed:?}");
}

#[test]
fn puts_are_tried_again_and_permanent_failures_are_not() {
    let faulty = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let connection = Connection::stack(Arc::new(faulty.clone()), &all_layers(), &CancelToken::new());
    faulty.at_nth(Operation::Put, 1, Fault::FailTemporarily);
    faulty.at_nth(Operation::Put, 2, Fault::LoseAnswer);
    put(&*connection.storage, "p1", b"1").unwrap();
    assert_eq!(faulty.call_count(Operation::Put), 3);
    faulty.when(|_| true, Fault::Fail(ErrorKind::NoSpace));
    assert_eq!(put(&*connection.storage, "p2", b"2").unwrap_err().kind, ErrorKind::NoSpace);
    assert_eq!(faulty.call_count(Operation::Put), 4);
}

#[test]
fn read_only_connection_changes_nothing() {
    let directory = temporary_directory();
    let config = ProviderConfig::from_path(directory.path().to_owned()).unwrap();
    let options = ConnectionOptions { read_only: true, ..all_layers() };
    let connection = Connection::open(&config, &options, &CancelToken::new()).unwrap();
    assert_eq!(put(&*connection.storage, "p1", b"1").unwrap_err().kind, ErrorKind::AccessDenied);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

const CHILD_DIRECTORY: &str = "STORAGE_LAYERS_TEST_DIRECTORY";
const CHILD_POINT: &str = "STORAGE_LAYERS_TEST_KILL_POINT";

/// Not a test of its own: the process that `the_process_dies_at_the_chosen_write` starts.
#[test]
#[ignore = "started by the_process_dies_at_the_chosen_write"]
fn child_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD_DIRECTORY) else { return };
    let point = std::env::var(CHILD_POINT).unwrap().parse().unwrap();
    let options = ConnectionOptions { kill_at: Some(point), ..ConnectionOptions::default() };
    let config = ProviderConfig::parse(&directory).unwrap();
    let storage = Connection::open(&config, &options, &CancelToken::new()).unwrap().storage;
    put(&*storage, "xe1", b"1").unwrap();
    let mut writer = storage.create(&"p1".into(), &PutOptions::default()).unwrap();
    writer.write(&vec![7; 1 << 20]).unwrap();
    writer.finish().unwrap();
    storage.delete(&"xe1".into()).unwrap();
    put(&*storage, "xe2", b"2").unwrap();
}

/// Starts the child on `directory` and returns the blobs that it left.
fn blobs_after_kill(directory: &Path, point: &str) -> Vec<String> {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_until_it_is_killed", "--ignored"])
        .env(CHILD_DIRECTORY, directory)
        .env(CHILD_POINT, point)
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(9), "{point}: {status}");
    let config = ProviderConfig::from_path(directory.to_owned()).unwrap();
    let connection = Connection::open(&config, &ConnectionOptions::default(), &CancelToken::new()).unwrap();
    names(&*connection.storage, "").into_iter().collect()
}

#[test]
fn the_process_dies_at_the_chosen_write() {
    for (point, left) in [
        ("before:1", &[][..]),
        ("after:1", &["xe1"]),
        ("before:2", &["xe1"]),
        ("after:2", &["p1", "xe1"]),
        ("after:3", &["p1"]),
        ("after:4", &["p1", "xe2"]),
    ] {
        let directory = temporary_directory();
        assert_eq!(blobs_after_kill(directory.path(), point), left, "{point}");
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let is_temporary = |name: &str| name.contains(".tmp.");
        let temporary_count = entries
            .filter(|entry| is_temporary(entry.as_ref().unwrap().file_name().to_str().unwrap()))
            .count();
        assert_eq!(temporary_count, usize::from(point == "before:2"), "{point}");
    }
}
