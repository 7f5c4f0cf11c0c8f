use super::super::waiting::testing::FakeClock;
use super::*;
use crate::blob::memory::MemoryStorage;
use crate::error::{Error, ErrorKind};
use std::cell::Cell;

fn retrying(policy: RetryPolicy) -> (RetryingStorage, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::default());
    let inner = Arc::new(MemoryStorage::new());
    let storage =
        RetryingStorage { clock: clock.clone(), ..RetryingStorage::new(inner, policy, CancelToken::new()) };
    (storage, clock)
}

fn busy() -> Error {
    Error::new(ErrorKind::Storage, "busy").temporary()
}

#[test]
fn delays_grow_to_the_bound_and_jitter_only_shortens() {
    let policy = RetryPolicy::default();
    let milliseconds: Vec<_> = (1..=4).map(|count| policy.delay(count, 0.0).as_millis()).collect();
    assert_eq!(milliseconds, [100, 150, 225, 337]);
    assert_eq!(policy.delay(100, 0.0), Duration::from_secs(32));
    assert_eq!(policy.delay(u32::MAX, 0.0), Duration::from_secs(32));
    assert_eq!(policy.delay(1, 1.0), Duration::from_millis(80));
}

#[test]
fn temporary_errors_are_tried_again_until_they_end() {
    let (storage, clock) = retrying(RetryPolicy { jitter: 0.0, ..RetryPolicy::default() });
    let count = Cell::new(0);
    let result = storage.retry(|| {
        count.set(count.get() + 1);
        if count.get() < 4 { Err(busy()) } else { Ok(count.get()) }
    });
    assert_eq!(result.expect("the fourth attempt"), 4);
    assert_eq!(clock.now(), Duration::from_millis(100 + 150 + 225));
}

#[test]
fn gives_up_after_the_last_attempt_and_says_how_many_there_were() {
    let (storage, _) = retrying(RetryPolicy::default());
    let count = Cell::new(0);
    let error = storage
        .retry(|| -> Result<()> {
            count.set(count.get() + 1);
            Err(busy())
        })
        .expect_err("busy");
    assert_eq!((count.get(), error.temporary), (10, true));
    assert!(error.context.contains(&("attempts", "10".to_owned())));
}

#[test]
fn gives_up_when_the_time_is_over() {
    let (storage, clock) = retrying(RetryPolicy {
        elapsed_max: Duration::from_secs(5),
        attempt_count_max: u32::MAX,
        ..RetryPolicy::default()
    });
    storage.retry(|| -> Result<()> { Err(busy()) }).expect_err("busy");
    assert!(clock.now() <= Duration::from_secs(5));
}

#[test]
fn permanent_errors_come_back_at_once() {
    let (storage, clock) = retrying(RetryPolicy::default());
    let error = storage.get(&"xe1".into(), &mut Vec::new()).expect_err("missing");
    assert_eq!((error.kind, clock.now()), (ErrorKind::BlobNotFound, Duration::ZERO));
}

#[test]
fn cancellation_ends_the_waiting() {
    let (storage, clock) = retrying(RetryPolicy::default());
    let error = storage
        .retry(|| -> Result<()> {
            storage.cancel.cancel();
            Err(busy())
        })
        .expect_err("canceled");
    assert_eq!((error.kind, clock.now()), (ErrorKind::Canceled, Duration::ZERO));
}

#[test]
fn a_listing_that_was_seen_in_part_is_not_repeated() {
    let (storage, _) = retrying(RetryPolicy::default());
    for id in ["a", "b"] {
        storage.put(&id.into(), &[], &PutOptions::default()).expect("put");
    }
    let mut seen = Vec::new();
    let result = storage.list("", &mut |blob| {
        seen.push(blob.id.to_string());
        Err(busy())
    });
    assert!(result.is_err());
    assert_eq!(seen, ["a"]);
}
