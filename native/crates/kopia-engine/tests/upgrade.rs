//! An upgrade that is cut off at any of its writes goes on, or is rolled back, and nothing is lost.

mod support;

use kopia_engine::ErrorKind;
use kopia_engine::blob::Storage;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::content::WriteScratch;
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository, UpgradeOptions, UpgradeState};
use kopia_format::compression::CompressorId;
use kopia_format::{BlobId, ContentId};
use kopia_testing::clock::ManualClock;
use kopia_testing::faulty::FaultyStorage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use support::{PASSWORD, blobs, create_in, create_options, open};

/// More than an upgrade of so small a repository needs.
const WRITES_MAX: u64 = 20;

/// Contents that were written, with their bytes.
type Written = Vec<(ContentId, Vec<u8>)>;

/// A repository of format 1 in which something was written and something deleted.
fn old_repository() -> (Arc<dyn Storage>, Written) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create_in(&storage, &CreateOptions { format_version: 1, ..create_options() });
    let repository = open(&storage);
    let mut written = Vec::new();
    for number in 0..6u8 {
        let data = vec![number; 3000];
        let scratch = &mut WriteScratch::default();
        let id = repository.contents().write(None, data.clone(), CompressorId::NONE, scratch);
        written.push((id.expect("written"), data));
        repository.flush().expect("flushed");
    }
    let (gone, _) = written.pop().expect("written");
    repository.contents().delete(&gone).expect("deleted");
    repository.flush().expect("flushed");
    (storage, written)
}

fn at_once(owner: &str) -> UpgradeOptions {
    UpgradeOptions {
        owner_id: owner.into(),
        io_drain_timeout: Duration::ZERO,
        max_permitted_clock_drift: Duration::ZERO,
        allow_unsafe: true,
        ..UpgradeOptions::default()
    }
}

fn upgrade(storage: &Arc<dyn Storage>) -> kopia_engine::Result<UpgradeState> {
    Repository::upgrade(storage, PASSWORD, &at_once("me"), &OpenOptions::default())
}

fn everything(storage: &Arc<dyn Storage>) -> BTreeMap<String, Vec<u8>> {
    let read = |id: BlobId| {
        let mut bytes = Vec::new();
        storage.get(&id, &mut bytes).expect("blob");
        (id.as_str().to_owned(), bytes)
    };
    blobs(storage, "").into_iter().map(read).collect()
}

fn assert_holds(storage: &Arc<dyn Storage>, written: &[(ContentId, Vec<u8>)]) {
    let repository = open(storage);
    assert_eq!((repository.config().version, repository.config().epoch_parameters.enabled), (3, true));
    for (id, data) in written {
        let mut bytes = Vec::new();
        repository.contents().read(id, &mut bytes).expect("readable");
        assert_eq!(bytes, *data);
    }
}

#[test]
fn cut_off_at_any_write_an_upgrade_is_rolled_back_to_the_last_byte() {
    let (inner, _) = old_repository();
    let before = everything(&inner);
    let faulty = FaultyStorage::new(Arc::clone(&inner));
    let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
    for writes in 0..WRITES_MAX {
        let begun = faulty.write_count();
        faulty.crash_after_writes(begun + writes);
        if upgrade(&storage).is_ok() {
            assert!(writes > 4, "the upgrade was not cut off");
            return;
        }
        faulty.revive();
        match Repository::roll_back_upgrade(storage.as_ref(), PASSWORD, "me", false) {
            Ok(()) => {}
            // Nothing but a backup was stored, or everything was done but deleting it.
            Err(error) => assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}"),
        }
        let mut after = everything(&inner);
        if after.contains_key("kopia.repository.backup.me") {
            after.remove("kopia.repository.backup.me");
            inner.delete(&BlobId::new("kopia.repository.backup.me")).expect("deleted");
        }
        if after != before {
            // Only once it is committed is there no way back.
            assert_eq!(upgrade(&storage).expect("committed"), UpgradeState::UpToDate);
            assert!(writes > 4);
            return;
        }
    }
    panic!("the upgrade never ended");
}

#[test]
fn cut_off_again_and_again_an_upgrade_goes_on_and_loses_nothing() {
    let (inner, written) = old_repository();
    let faulty = FaultyStorage::new(Arc::clone(&inner));
    let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
    for writes in 0..WRITES_MAX {
        faulty.crash_after_writes(faulty.write_count() + writes);
        let went = upgrade(&storage);
        faulty.revive();
        if went.is_ok() {
            assert_holds(&inner, &written);
            assert!(blobs(&inner, "kopia.repository.backup").is_empty());
            return;
        }
    }
    panic!("the upgrade never ended");
}

#[test]
fn others_are_refused_until_it_is_over_and_nobody_waits_too_short() {
    let (storage, written) = old_repository();
    let clock = ManualClock::at(2_000_000_000);
    let options = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
    let run = |wanted: &UpgradeOptions| Repository::upgrade(&storage, PASSWORD, wanted, &options);
    let short = UpgradeOptions { allow_unsafe: false, ..at_once("me") };
    assert_eq!(run(&short).expect_err("not safe").kind, ErrorKind::InvalidArgument);
    let usual = UpgradeOptions { owner_id: "me".into(), ..UpgradeOptions::default() };
    assert!(matches!(run(&usual).expect("locked"), UpgradeState::Draining { .. }));
    let other = UpgradeOptions { owner_id: "other".into(), ..UpgradeOptions::default() };
    assert_eq!(run(&other).expect_err("of somebody else").kind, ErrorKind::AccessDenied);
    let refused = Repository::open(Arc::clone(&storage), PASSWORD, options.clone());
    assert!(refused.is_err_and(|error| error.temporary && error.to_string().contains("by me")));
    clock.advance(34 * 60);
    assert!(matches!(run(&usual).expect("draining"), UpgradeState::Draining { .. }));
    clock.advance(61);
    let UpgradeState::Upgraded { entries: Some(entries) } = run(&usual).expect("upgraded") else {
        panic!("not upgraded");
    };
    assert!(entries > written.len() as u64, "the deleted one and those of manifests as well");
    assert_holds(&storage, &written);
}
