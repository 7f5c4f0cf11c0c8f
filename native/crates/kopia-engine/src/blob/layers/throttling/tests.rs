use super::super::observing::{Observation, ObservedStorage, Observer, Operation};
use super::super::waiting::testing::FakeClock;
use super::*;
use crate::blob::memory::MemoryStorage;
use crate::error::ErrorKind;

const MIB: u64 = 1 << 20;

fn limits(upload: u64, download: u64, requests: u64) -> ThrottleLimits {
    ThrottleLimits {
        upload_bytes_per_second: NonZeroU64::new(upload),
        download_bytes_per_second: NonZeroU64::new(download),
        requests_per_second: NonZeroU64::new(requests),
    }
}

/// When how much passed.
#[derive(Debug)]
struct Passed(Arc<FakeClock>, Mutex<Vec<(Duration, u64)>>);

impl Observer for Passed {
    fn observe(&self, observation: &Observation<'_>) {
        let amount = if observation.operation == Operation::Metadata { 1 } else { observation.bytes };
        self.1.lock().push((self.0.now(), amount));
    }
}

struct Rig {
    clock: Arc<FakeClock>,
    throttle: Arc<Throttle>,
    memory: MemoryStorage,
    passed: Arc<Passed>,
    storage: ThrottlingStorage,
}

fn rig(limits: ThrottleLimits) -> Rig {
    let clock = Arc::new(FakeClock::default());
    let throttle = Arc::new(Throttle::with_clock(limits, CancelToken::new(), clock.clone()));
    let passed = Arc::new(Passed(clock.clone(), Mutex::default()));
    let memory = MemoryStorage::new();
    let observed = ObservedStorage::new(Arc::new(memory.clone()), passed.clone());
    let storage = ThrottlingStorage::new(Arc::new(observed), throttle.clone());
    Rig { clock, throttle, memory, passed, storage }
}

/// The most that passed in any two seconds.
fn most_in_two_seconds(passed: &[(Duration, u64)]) -> u64 {
    let window = Duration::from_secs(2);
    let from = |start: Duration| {
        passed.iter().filter(|(at, _)| *at >= start && *at < start + window).map(|(_, amount)| amount).sum()
    };
    passed.iter().map(|(start, _)| from(*start)).max().unwrap_or(0)
}

#[test]
fn downloads_never_exceed_the_limit_by_a_tenth_in_any_two_seconds() {
    let rig = rig(limits(0, MIB, 0));
    let id = "p1".into();
    rig.memory.put(&id, &[&vec![1; 20 << 20]], &PutOptions::default()).expect("put");
    rig.clock.sleep(Duration::from_secs(100));
    let (started, mut out) = (rig.clock.now(), Vec::new());
    rig.storage.get(&id, &mut out).expect("get");
    assert_eq!(out.len() as u64, 20 * MIB);
    for length in [1, 3 * MIB, 70_000, 5 * MIB] {
        rig.storage.get_range(&id, 7, length, &mut out).expect("get_range");
        assert_eq!(out.len() as u64, length);
    }
    let seconds = (rig.clock.now() - started).as_secs_f64();
    assert!((27.5..28.5).contains(&seconds), "28 MiB took {seconds} s, so the limit is used up too");
    let passed: Vec<_> = rig.passed.1.lock().iter().filter(|(_, amount)| *amount > 1).copied().collect();
    let most = most_in_two_seconds(&passed);
    assert!(most as f64 <= 2.2 * MIB as f64, "{most} bytes in two seconds");
}

#[test]
fn uploads_pass_in_slices_and_at_the_rate_of_the_limit() {
    let rig = rig(limits(MIB, 0, 0));
    let bytes = vec![7; 10 << 20];
    rig.storage.put(&"p1".into(), &[&bytes[..5], &bytes[5..]], &PutOptions::default()).expect("put");
    let mut writer = rig.storage.create(&"p2".into(), &PutOptions::default()).expect("create");
    let mut written = Vec::new();
    for piece in bytes.chunks(30_000) {
        writer.write(piece).expect("write");
        written.push((rig.clock.now(), piece.len() as u64));
    }
    writer.finish().expect("finish");
    let seconds = rig.clock.now().as_secs_f64();
    assert!((19.5..20.5).contains(&seconds), "20 MiB took {seconds} s");
    let most = most_in_two_seconds(&written);
    assert!(most as f64 <= 2.2 * MIB as f64, "{most} bytes in two seconds");
    let mut out = Vec::new();
    rig.memory.get(&"p1".into(), &mut out).expect("get");
    assert!(out == bytes, "slices join to the blob");
}

#[test]
fn requests_never_exceed_the_limit_by_a_tenth_in_any_two_seconds() {
    let rig = rig(limits(0, 0, 50));
    for _ in 0..500 {
        rig.storage.metadata(&"xe1".into()).expect_err("missing");
    }
    let seconds = rig.clock.now().as_secs_f64();
    assert!((9.5..10.5).contains(&seconds), "500 requests took {seconds} s");
    let passed = rig.passed.1.lock();
    assert!(most_in_two_seconds(&passed) <= 110);
}

#[test]
fn limits_can_be_changed_and_lifted_while_running() {
    let rig = rig(limits(0, 0, 1));
    let request = || rig.storage.metadata(&"xe1".into()).expect_err("missing");
    (0..3).for_each(|_| drop(request()));
    assert!(rig.clock.now() >= Duration::from_millis(1800));
    rig.throttle.set_limits(limits(0, 0, 1000));
    let before = rig.clock.now();
    (0..100).for_each(|_| drop(request()));
    assert!(rig.clock.now() - before < Duration::from_millis(1200));
    rig.throttle.set_limits(limits(0, 0, 0));
    let before = rig.clock.now();
    (0..10_000).for_each(|_| drop(request()));
    assert_eq!(rig.clock.now(), before);
}

#[test]
fn cancellation_ends_the_waiting() {
    let rig = rig(limits(1000, 0, 0));
    rig.throttle.cancel.cancel();
    let error =
        rig.storage.put(&"p1".into(), &[&[0; 100_000]], &PutOptions::default()).expect_err("canceled");
    assert_eq!(error.kind, ErrorKind::Canceled);
}
