//! The memory storage: conformance and settable times.
#![allow(clippy::unwrap_used)]

use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::{PutOptions, Storage};
use kopia_format::{BlobId, Timestamp};
use kopia_testing::clock::ManualClock;
use kopia_testing::conformance::verify_storage;
use std::sync::Arc;

#[test]
fn keeps_every_promise() {
    verify_storage(&MemoryStorage::new());
}

#[test]
fn times_come_from_the_clock_and_can_be_set() {
    let clock = ManualClock::at(1000);
    let storage = MemoryStorage::with_clock(Arc::new(clock.clone()));
    let (id, options) = (BlobId::new("xe1"), PutOptions::default());
    storage.put(&id, &[b"1"], &options).unwrap();
    clock.advance(60);
    assert_eq!(storage.metadata(&id).unwrap().timestamp.seconds, 1000);
    storage.put(&id, &[b"1"], &options).unwrap();
    assert_eq!(storage.metadata(&id).unwrap().timestamp.seconds, 1060);
    let set = Timestamp { seconds: 5, nanoseconds: 6 };
    storage.set_timestamp(&id, set).unwrap();
    assert_eq!(storage.metadata(&id).unwrap().timestamp, set);
    assert!(storage.set_timestamp(&"xe2".into(), set).is_err());
}
