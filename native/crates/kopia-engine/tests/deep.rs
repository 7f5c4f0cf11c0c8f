//! Trees of directories nested so deeply that no source can have been like that: an error, never a crash.

#![allow(clippy::unwrap_used)] // all of it is test code

use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::cancel::CancelToken;
use kopia_engine::clock::SystemClock;
use kopia_engine::content::WriteScratch;
use kopia_engine::error::ErrorKind;
use kopia_engine::manifest::Labels;
use kopia_engine::progress::Progress;
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_engine::restore::{RestoreOptions, RestoreSource, RestoreTarget, restore};
use kopia_engine::tree::{self, LEVELS_MAX, WALK_STACK_BYTES};
use kopia_engine::verify::{VerifyOptions, verify_snapshots};
use kopia_format::ManifestId;
use kopia_format::compression::CompressorId;
use kopia_testing::directory::temporary_directory;
use std::sync::Arc;

const PASSWORD: &str = "test-password";
const MTIME: &str = "2024-01-01T00:00:00Z";

fn repository() -> Arc<Repository> {
    let storage = Arc::new(MemoryStorage::default());
    Repository::create(storage.clone(), PASSWORD, &CreateOptions::default(), Arc::new(SystemClock)).unwrap();
    Repository::open(storage, PASSWORD, OpenOptions::default()).unwrap()
}

/// A snapshot of so many directories, each in the one before.
fn chain(repository: &Repository, levels: usize) -> ManifestId {
    let mut scratch = WriteScratch::default();
    let mut entries = String::new();
    let mut object = String::new();
    for _ in 0..levels {
        let json = format!("{{\"stream\":\"kopia:directory\",\"entries\":[{entries}],\"summary\":{{}}}}\n");
        let (contents, bytes) = (repository.contents(), json.into_bytes());
        object = contents.write(Some(b'k'), bytes, CompressorId::NONE, &mut scratch).unwrap().to_string();
        entries = entry(&object);
    }
    let root = entry(&object);
    let payload = format!(
        r#"{{"id":"","source":{{"host":"h","userName":"u","path":"/p"}},"description":"","startTime":"{MTIME}","endTime":"{MTIME}","rootEntry":{root}}}"#
    );
    let labels = [("type", "snapshot"), ("hostname", "h"), ("username", "u"), ("path", "/p")];
    let labels: Labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let id = repository.manifests().put(labels, payload.as_bytes()).unwrap();
    repository.flush().unwrap();
    id
}

fn entry(object: &str) -> String {
    format!(r#"{{"name":"n","type":"d","mode":"0755","mtime":"{MTIME}","obj":"{object}"}}"#)
}

#[test]
fn a_tree_that_is_too_deep_is_damage_and_no_crash() {
    let repository = repository();
    let id = chain(&repository, 10_000);
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    let options = VerifyOptions { percent: 100.0, ..Default::default() };
    let ids = std::slice::from_ref(&id);
    let verified = verify_snapshots(&repository, ids, &options, &progress, &cancel).unwrap();
    assert_eq!(verified.damages.len(), 1);
    let error = verified.damages[0].error.to_string();
    assert!(error.contains("nested more than"), "{error}");

    let target = temporary_directory();
    let options = RestoreOptions { ignore_errors: true, owners: false, ..Default::default() };
    let source = RestoreSource::Named(id.as_str().into());
    let place = RestoreTarget::Path(target.path().join("target"));
    let restored = restore(&repository, source, place, &options, &progress, &cancel).unwrap();
    assert!(!restored.failures.is_empty());
    // Shells and libraries fail at such depths.
    let removed = std::process::Command::new("rm").arg("-rf").arg(target.path()).status().unwrap();
    assert!(removed.success());
}

#[test]
fn trees_are_walked_as_deep_as_they_may_be() {
    let repository = repository();
    let count = |levels| {
        let root = tree::root_entry(&repository, chain(&repository, levels).as_str()).unwrap();
        let mut count = 0;
        let each = &mut |_: &[u8], _: &_| {
            count += 1;
            Ok(())
        };
        tree::walk(repository.contents(), root, each).map(|()| count)
    };
    let walk = || {
        assert_eq!(count(LEVELS_MAX).unwrap(), LEVELS_MAX);
        assert_eq!(count(LEVELS_MAX + 1).unwrap_err().kind, ErrorKind::Corrupted);
        // The levels are counted anew.
        assert_eq!(count(LEVELS_MAX).unwrap(), LEVELS_MAX);
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(WALK_STACK_BYTES);
        thread.spawn_scoped(scope, walk).unwrap().join().unwrap();
    });
}
