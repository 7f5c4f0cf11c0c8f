//! Snapshots of the vectors, made by the real Kopia, restore to exactly what was backed up.

#![allow(clippy::unwrap_used)] // all of it is test code

use aws_lc_rs::digest::{SHA256, digest};
use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::cancel::CancelToken;
use kopia_engine::progress::Progress;
use kopia_engine::repository::{OpenOptions, Repository};
use kopia_engine::restore::{RestoreOptions, RestoreResult, RestoreSource, RestoreTarget, restore};
use kopia_format::ids::encode_hex;
use kopia_format::snapshot::mode_bits;
use kopia_testing::directory::temporary_directory;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

const REPOSITORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors/repos");

struct Fixture {
    directory: tempfile::TempDir,
    expected: Value,
    repository: Arc<Repository>,
}

fn open(name: &str) -> Fixture {
    let directory = temporary_directory();
    let archive = std::fs::File::open(format!("{REPOSITORIES}/{name}.tar")).unwrap();
    tar::Archive::new(archive).unpack(directory.path()).unwrap();
    let expected = std::fs::read(format!("{REPOSITORIES}/{name}.expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let options = FilesystemOptions::new(directory.path().join(name));
    let storage = Arc::new(FilesystemStorage::open(&options).unwrap());
    let password = expected["password"].as_str().unwrap();
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let repository = Repository::open(storage, password, options).unwrap();
    Fixture { directory, expected, repository }
}

fn restore_to(fixture: &Fixture, id: &str, target: RestoreTarget<'_>) -> RestoreResult {
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    let what = RestoreSource::Named(id.into());
    restore(&fixture.repository, what, target, &RestoreOptions::default(), &progress, &cancel).unwrap()
}

fn mode_of(entry: &Value) -> u32 {
    let text = entry["mode"].as_str().unwrap_or("0");
    mode_bits::to_unix(u32::from_str_radix(text, 8).unwrap())
}

fn time_of(entry: &Value) -> (i64, i64) {
    let text = entry["mtime"].as_str().unwrap_or("1970-01-01T00:00:00Z");
    let time = kopia_format::Timestamp::parse(text).unwrap();
    (time.seconds, time.nanoseconds.into())
}

/// Owners are only compared as root; elsewhere nobody may set them.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn check_entry(target: &Path, entry: &Value, fixture: &str) {
    let path = target.join(entry["path"].as_str().unwrap());
    let what = format!("{fixture}: {}", path.display());
    let found = std::fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((found.mtime(), found.mtime_nsec()), time_of(entry), "{what}: time");
    if is_root() {
        let owner = |key: &str| entry[key].as_u64().unwrap_or(0) as u32;
        assert_eq!((found.uid(), found.gid()), (owner("uid"), owner("gid")), "{what}: owner");
    }
    match entry["type"].as_str().unwrap() {
        "s" => {
            assert_eq!(std::fs::read_link(&path).unwrap().to_str(), entry["target"].as_str(), "{what}");
            return;
        }
        "f" => {
            assert_eq!(found.len(), entry["size"].as_u64().unwrap_or(0), "{what}: size");
            let bytes = std::fs::read(&path).unwrap();
            let hash = encode_hex(digest(&SHA256, &bytes).as_ref());
            assert_eq!(hash, entry["sha256"].as_str().unwrap(), "{what}: bytes");
        }
        _ => assert!(found.is_dir(), "{what}"),
    }
    assert_eq!(found.mode() & 0o7777, mode_of(entry), "{what}: mode");
}

fn count_below(directory: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        count += 1;
        if entry.file_type().unwrap().is_dir() {
            count += count_below(&entry.path());
        }
    }
    count
}

/// The tree that a snapshot must restore to.
fn expected_tree(name: &str, fixture: &Fixture, snapshot: usize) -> Vec<Value> {
    // What was damaged and is to be repaired is listed with the undamaged repository.
    let other = (name == "v3-ecc10-corrupted").then(|| open("v3-ecc10").expected);
    let expected = other.as_ref().unwrap_or(&fixture.expected);
    expected["snapshots"][snapshot]["tree"].as_array().unwrap().clone()
}

/// Number of snapshots and entries that were compared.
fn check_fixture(name: &str) -> (usize, usize) {
    let fixture = open(name);
    let (mut snapshots, mut entries) = (0, 0);
    for (number, snapshot) in fixture.expected["snapshots"].as_array().unwrap().iter().enumerate() {
        let id = snapshot["manifestID"].as_str().unwrap();
        let tree = expected_tree(name, &fixture, number);
        if tree.iter().any(|entry| entry["path"] == "dev/vdblk") {
            continue;
        }
        let target = fixture.directory.path().join(format!("restored-{id}"));
        restore_to(&fixture, id, RestoreTarget::Path(target.clone()));
        for entry in &tree {
            check_entry(&target, entry, name);
        }
        let below = if target.is_dir() { count_below(&target) } else { 0 };
        assert_eq!(below + 1, tree.len(), "{name}: nothing else is restored");
        snapshots += 1;
        entries += tree.len();
    }
    (snapshots, entries)
}

#[test]
fn every_snapshot_of_the_vectors_restores_to_what_was_backed_up() {
    let mut names: Vec<String> = std::fs::read_dir(REPOSITORIES)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".tar").map(str::to_owned))
        .collect();
    names.sort();
    assert_eq!(names.len(), 24);
    let mut sum = (0, 0);
    for name in names {
        let (snapshots, entries) = check_fixture(&name);
        sum = (sum.0 + snapshots, sum.1 + entries);
    }
    assert!(sum.0 > 25 && sum.1 > 300, "{sum:?}");
}

#[test]
fn a_block_mode_snapshot_of_velero_goes_to_a_device_and_not_to_a_path() {
    let fixture = open("velero-like");
    let snapshots = fixture.expected["snapshots"].as_array().unwrap();
    let has_block = |snapshot: &&Value| {
        snapshot["tree"].as_array().unwrap().iter().any(|entry| entry["path"] == "dev/vdblk")
    };
    let snapshot = snapshots.iter().find(has_block).unwrap();
    let id = snapshot["manifestID"].as_str().unwrap();
    let entry = &snapshot["tree"][1];

    let device = fixture.directory.path().join("device");
    std::fs::write(&device, vec![0xAA; 400_000]).unwrap();
    restore_to(&fixture, id, RestoreTarget::Device(device.clone()));
    let bytes = std::fs::read(&device).unwrap();
    let hash = encode_hex(digest(&SHA256, &bytes[..300_000]).as_ref());
    assert_eq!(hash, entry["sha256"].as_str().unwrap());
    assert_eq!(bytes[300_000..], vec![0xAA; 100_000], "a device keeps what is behind");

    let target = fixture.directory.path().join("tree");
    let what = RestoreSource::Named(id.into());
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    let options = RestoreOptions { ignore_errors: true, ..RestoreOptions::default() };
    let target = RestoreTarget::Path(target);
    let result = restore(&fixture.repository, what, target, &options, &progress, &cancel).unwrap();
    assert_eq!((result.failed_count, result.file_count), (1, 0));
    assert_eq!(result.failures[0].path, b"/dev/vdblk");
}

#[test]
fn streams_and_archives_hold_the_same_bytes_as_the_tree() {
    for name in ["v3-big", "v1", "v3-nocompress-128k", "v3-default"] {
        let fixture = open(name);
        let snapshot = &fixture.expected["snapshots"][0];
        let id = snapshot["manifestID"].as_str().unwrap();
        let tree = snapshot["tree"].as_array().unwrap();
        for entry in tree.iter().filter(|entry| entry["type"] == "f") {
            let mut bytes = Vec::new();
            let path = format!("{id}/{}", entry["path"].as_str().unwrap());
            restore_to(&fixture, &path, RestoreTarget::Stream(&mut bytes));
            assert_eq!(encode_hex(digest(&SHA256, &bytes).as_ref()), entry["sha256"].as_str().unwrap());
        }
        let mut archive = Vec::new();
        restore_to(&fixture, id, RestoreTarget::Tar(&mut archive));
        let target = fixture.directory.path().join("unpacked");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(fixture.directory.path().join("tree.tar"), &archive).unwrap();
        let archive = fixture.directory.path().join("tree.tar");
        let status =
            std::process::Command::new("tar").arg("-C").arg(&target).arg("-xpf").arg(archive).status();
        assert!(status.unwrap().success());
        for entry in tree {
            check_entry(&target, entry, name);
        }
    }
}
