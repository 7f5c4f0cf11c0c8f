//! Changing the password, cut off anywhere.

mod support;

use kopia_engine::ErrorKind;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::{RetentionMode, Storage};
use kopia_engine::clock::SystemClock;
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_format::format_blob::KeyDerivation;
use kopia_testing::faulty::FaultyStorage;
use std::sync::Arc;
use std::time::Duration;

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
