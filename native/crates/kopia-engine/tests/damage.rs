//! What is damaged, missing or foreign is named exactly, and never read as if it were sound.

mod support;

use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::blob::{PutOptions, Storage};
use kopia_engine::clock::SystemClock;
use kopia_engine::content::WriteScratch;
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_engine::{Error, ErrorKind, Result};
use kopia_format::compression::CompressorId;
use kopia_format::format_blob::{FormatBlob, RepositoryConfig, RequiredFeature, UpgradeLock};
use kopia_format::{BlobId, ContentId, Timestamp};
use kopia_testing::clock::ManualClock;
use std::sync::Arc;
use support::{PASSWORD, blobs, create_options, memory_repository, open};

/// A flushed repository with one data content; its pack.
fn one_content() -> (Arc<dyn Storage>, ContentId, BlobId) {
    let (storage, repository) = memory_repository();
    let scratch = &mut WriteScratch::default();
    let id = repository.contents().write(None, vec![9; 5000], CompressorId::NONE, scratch).expect("written");
    repository.flush().expect("flushed");
    let pack = repository.contents().info(&id).expect("info").expect("known").pack;
    (storage, id, pack)
}

fn change(storage: &Arc<dyn Storage>, id: &BlobId, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    storage.get(id, &mut bytes).expect("blob");
    change(&mut bytes);
    storage.put(id, &[&bytes], &PutOptions::default()).expect("put");
}

fn read(storage: &Arc<dyn Storage>, id: &ContentId) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(storage).contents().read(id, &mut bytes).map(|()| bytes)
}

fn open_error(storage: &Arc<dyn Storage>, password: &str) -> Error {
    match Repository::open(Arc::clone(storage), password, OpenOptions::default()) {
        Err(error) => error,
        Ok(_) => panic!("the repository opened"),
    }
}

fn assert_names(error: &Error, names: &[&str]) {
    for name in names {
        assert!(error.to_string().contains(name), "{error} does not name {name}");
    }
}

#[test]
fn a_flipped_bit_in_a_pack_names_content_and_pack() {
    let (storage, id, pack) = one_content();
    change(&storage, &pack, |bytes| bytes[1000] ^= 1);
    let error = read(&storage, &id).expect_err("damaged");
    assert_eq!(error.kind, ErrorKind::Corrupted);
    assert_names(&error, &[&id.to_string(), pack.as_str()]);
}

#[test]
fn a_truncated_pack_names_content_and_pack() {
    let (storage, id, pack) = one_content();
    change(&storage, &pack, |bytes| bytes.truncate(1000));
    let error = read(&storage, &id).expect_err("damaged");
    assert_eq!(error.kind, ErrorKind::InvalidRange);
    assert_names(&error, &[&id.to_string(), pack.as_str()]);
}

#[test]
fn a_missing_pack_names_content_and_pack() {
    let (storage, id, pack) = one_content();
    storage.delete(&pack).expect("deleted");
    let error = read(&storage, &id).expect_err("missing");
    assert_eq!(error.kind, ErrorKind::BlobNotFound);
    assert_names(&error, &[&id.to_string(), pack.as_str()]);
}

#[test]
fn a_damaged_index_names_the_blob() {
    let (storage, _, _) = one_content();
    let index = blobs(&storage, "xn")[0].clone();
    change(&storage, &index, |bytes| bytes[20] ^= 1);
    let error = open_error(&storage, PASSWORD);
    assert_eq!(error.kind, ErrorKind::Corrupted);
    assert_names(&error, &[index.as_str()]);
    change(&storage, &index, |bytes| bytes.truncate(10));
    assert_eq!(open_error(&storage, PASSWORD).kind, ErrorKind::Corrupted);
}

#[test]
fn a_content_whose_index_is_gone_is_not_found() {
    let (storage, id, _) = one_content();
    blobs(&storage, "xn").iter().for_each(|index| storage.delete(index).expect("deleted"));
    let error = read(&storage, &id).expect_err("unknown");
    assert_eq!(error.kind, ErrorKind::ContentNotFound);
    assert_names(&error, &[&id.to_string()]);
}

#[test]
fn a_pack_that_was_rewritten_meanwhile_is_found_again() {
    let (storage, id, pack) = one_content();
    let reader = open(&storage);
    let maintainer = open(&storage);
    maintainer.contents().rewrite(&id, &mut WriteScratch::default()).expect("rewritten");
    maintainer.flush().expect("flushed");
    storage.delete(&pack).expect("deleted");
    let mut bytes = Vec::new();
    reader.contents().read(&id, &mut bytes).expect("found in its new pack");
    assert_eq!(bytes, [9; 5000]);
}

#[test]
fn the_wrong_password_and_the_wrong_place_are_told_apart() {
    let (storage, _, _) = one_content();
    assert_eq!(open_error(&storage, "wrong").kind, ErrorKind::InvalidPassword);
    let empty: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    assert_eq!(open_error(&empty, PASSWORD).kind, ErrorKind::RepositoryNotFound);
    change(&storage, &BlobId::new("kopia.repository"), |bytes| bytes.truncate(40));
    assert_eq!(open_error(&storage, PASSWORD).kind, ErrorKind::Corrupted);
}

#[test]
fn repositories_are_made_in_empty_places_only() {
    let (storage, _) = memory_repository();
    let create = |storage: &Arc<dyn Storage>, options: &CreateOptions| {
        let clock = Arc::new(SystemClock);
        Repository::create(Arc::clone(storage), PASSWORD, options, clock).expect_err("refused")
    };
    let error = create(&storage, &create_options());
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    assert_names(&error, &["repository exists"]);
    let foreign: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    foreign.put(&BlobId::new("holiday.jpg"), &[b"x"], &PutOptions::default()).expect("put");
    let error = create(&foreign, &create_options());
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    assert_names(&error, &["holiday.jpg"]);
    let empty: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let unknown = CreateOptions { hash: "MD5".into(), ..create_options() };
    assert_eq!(create(&empty, &unknown).kind, ErrorKind::UnsupportedFormat);
    assert_eq!(blobs(&empty, ""), [], "nothing is written when refused");
}

fn change_config(storage: &Arc<dyn Storage>, change_it: impl FnOnce(&mut RepositoryConfig)) {
    change(storage, &BlobId::new("kopia.repository"), |bytes| {
        let mut blob = FormatBlob::parse(bytes).expect("format blob");
        let key = blob.derive_key(PASSWORD).expect("key");
        let mut config = blob.decrypt_config(&key).expect("config");
        change_it(&mut config);
        blob.encrypt_config(&key, &config, [7; 12]).expect("sealed");
        *bytes = blob.encode();
    });
}

fn lock(seconds: i64) -> UpgradeLock {
    UpgradeLock {
        owner_id: "upgrader@elsewhere".into(),
        creation_time: Timestamp { seconds, nanoseconds: 0 },
        ..UpgradeLock::default()
    }
}

#[test]
fn an_upgrade_in_progress_keeps_everybody_out() {
    let (storage, _, _) = one_content();
    let clock = ManualClock::at(1_800_000_000);
    let options = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
    let opened = Repository::open(Arc::clone(&storage), PASSWORD, options).expect("opened before");
    change_config(&storage, |config| config.upgrade_lock = Some(lock(1_700_000_000)));
    let error = open_error(&storage, PASSWORD);
    assert!(error.kind == ErrorKind::AccessDenied && error.temporary, "{error}");
    assert_names(&error, &["upgrader@elsewhere"]);
    assert_eq!(opened.refresh().expect_err("locked").kind, ErrorKind::AccessDenied);
    clock.advance(900);
    let put = || {
        let scratch = &mut WriteScratch::default();
        opened.contents().write(None, vec![1], CompressorId::NONE, scratch).map(drop)
    };
    assert_eq!(put().expect_err("noticed after 15 minutes").kind, ErrorKind::AccessDenied);
    change_config(&storage, |config| config.upgrade_lock = None);
    put().expect("the lock is gone");
}

#[test]
fn unknown_required_features_are_refused() {
    let (storage, _, _) = one_content();
    let feature = RequiredFeature { feature: "index-v9".into(), ..RequiredFeature::default() };
    change_config(&storage, |config| config.required_features = vec![feature]);
    let error = open_error(&storage, PASSWORD);
    assert_eq!(error.kind, ErrorKind::UnsupportedFormat);
    assert_names(&error, &["index-v9"]);
}

#[test]
fn a_format_that_changed_under_an_open_repository_stops_it() {
    let (storage, _, _) = one_content();
    let opened = open(&storage);
    change_config(&storage, |config| config.max_pack_size = 30 << 20);
    opened.refresh().expect("packs of any size are read by all");
    change_config(&storage, |config| config.splitter = "FIXED-1M".into());
    assert_eq!(opened.refresh().expect_err("changed").kind, ErrorKind::UnsupportedFormat);
}
