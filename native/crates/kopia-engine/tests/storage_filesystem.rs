//! The filesystem storage: conformance under every sharding, Kopia's layout, faults of the disk.
#![allow(clippy::unwrap_used)]

use kopia_engine::ErrorKind;
use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::blob::{PutOptions, Storage};
use kopia_format::BlobId;
use kopia_testing::conformance::{names, verify_storage};
use kopia_testing::directory::temporary_directory;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

const PACK: &str = "p0123456789abcdef0123456789abcdef-s0123456789abcdef147";

fn options(directory: &TempDir) -> FilesystemOptions {
    FilesystemOptions { sync: false, ..FilesystemOptions::new(directory.path().join("repo")) }
}

fn initialized(directory: &TempDir) -> FilesystemStorage {
    FilesystemStorage::initialize(&options(directory)).unwrap()
}

fn put(storage: &dyn Storage, id: &str, bytes: &[u8]) -> kopia_engine::Result<()> {
    storage.put(&BlobId::new(id), &[bytes], &PutOptions::default())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn files_under(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else {
            found.insert(path.to_str().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn keeps_every_promise_under_each_sharding() {
    for shards in [vec![1, 3], vec![3, 3], vec![]] {
        let directory = temporary_directory();
        let options = FilesystemOptions { shards: Some(shards.clone()), ..options(&directory) };
        let storage = FilesystemStorage::initialize(&options).unwrap();
        assert_eq!(storage.sharding().shards, shards);
        verify_storage(&storage);
        let left = files_under(&options.root);
        assert_eq!(left.len(), 1, "only .shards is left: {left:?}");
    }
}

#[test]
fn keeps_every_promise_with_overrides() {
    let directory = temporary_directory();
    let json = r#"{"default":[2],"maxNonShardedLength":3,"overrides":[{"prefix":"tx","shards":[]},{"prefix":"t","shards":[1,1,1,1]}]}"#;
    fs::write(directory.path().join(".shards"), json).unwrap();
    let options = FilesystemOptions { sync: false, ..FilesystemOptions::new(directory.path()) };
    verify_storage(&FilesystemStorage::open(&options).unwrap());
    assert_eq!(fs::read_to_string(directory.path().join(".shards")).unwrap(), json);
}

#[test]
fn synced_storage_does_the_same() {
    let directory = temporary_directory();
    let storage =
        FilesystemStorage::initialize(&FilesystemOptions { sync: true, ..options(&directory) }).unwrap();
    put(&storage, "kopia.repository", b"f").unwrap();
    for number in 0..40 {
        let id = BlobId::new(format!("p{number:02x}{}", &PACK[3..]));
        let mut writer = storage.create(&id, &PutOptions::default()).unwrap();
        writer.write(&vec![number; 9 << 18]).unwrap();
        writer.finish().unwrap();
    }
    storage.sync().unwrap();
    assert_eq!(names(&storage, "p").len(), 40);
}

#[test]
fn layout_and_modes_are_kopias() {
    let directory = temporary_directory();
    let storage = initialized(&directory);
    let root = options(&directory).root;
    put(&storage, PACK, b"pack").unwrap();
    put(&storage, "xe7", b"epoch-marker").unwrap();
    let file = root.join("p/012/3456789abcdef0123456789abcdef-s0123456789abcdef147.f");
    assert_eq!(fs::read(&file).unwrap(), b"pack");
    assert_eq!(fs::read(root.join("xe7.f")).unwrap(), b"epoch-marker");
    assert_eq!((mode(&file), mode(&root.join("p/012")), mode(&root)), (0o600, 0o700, 0o700));
    let shards = fs::read_to_string(root.join(".shards")).unwrap();
    assert_eq!(shards, "{\"default\":[1,3],\"maxNonShardedLength\":20}\n");
}

#[test]
fn missing_shards_file_means_three_three_and_is_written_at_the_first_put() {
    let directory = temporary_directory();
    let options = FilesystemOptions { sync: false, ..FilesystemOptions::new(directory.path()) };
    let storage = FilesystemStorage::open(&options).unwrap();
    assert_eq!(names(&storage, ""), BTreeSet::new());
    assert!(!directory.path().join(".shards").exists(), "reading writes nothing");
    put(&storage, PACK, b"pack").unwrap();
    assert!(directory.path().join("p01/234/56789abcdef0123456789abcdef-s0123456789abcdef147.f").exists());
    let shards = fs::read_to_string(directory.path().join(".shards")).unwrap();
    assert_eq!(shards, "{\"default\":[3,3],\"maxNonShardedLength\":20}\n");
}

#[test]
fn initialize_obeys_an_existing_shards_file() {
    let directory = temporary_directory();
    fs::create_dir(options(&directory).root).unwrap();
    let json = "{\"default\":[5],\"maxNonShardedLength\":20}";
    fs::write(options(&directory).root.join(".shards"), json).unwrap();
    assert_eq!(initialized(&directory).sharding().shards, [5]);
}

#[test]
fn foreign_and_temporary_files_are_ignored() {
    let directory = temporary_directory();
    let storage = initialized(&directory);
    let root = options(&directory).root;
    put(&storage, PACK, b"pack").unwrap();
    let temporary = "p/012/3456789abcdef0123456789abcdef-s0.f.tmp.0011223344556677";
    for name in [temporary, "README", "p/notes.txt", ".f", "x.f.bak"] {
        fs::write(root.join(name), b"foreign").unwrap();
    }
    fs::create_dir_all(root.join("lost+found")).unwrap();
    fs::write(root.join("lost+found/x.f"), b"foreign").unwrap();
    std::os::unix::fs::symlink("/no/such/file", root.join("broken.f")).unwrap();
    fs::create_dir(root.join("directory.f")).unwrap();
    assert_eq!(names(&storage, ""), BTreeSet::from([PACK.to_owned()]));
}

#[test]
fn timestamp_is_the_modification_time() {
    let directory = temporary_directory();
    let storage = initialized(&directory);
    put(&storage, "xe7", b"1").unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_600_000_000, 123_456_789);
    let file = fs::File::options().write(true).open(options(&directory).root.join("xe7.f")).unwrap();
    file.set_modified(time).unwrap();
    let timestamp = storage.metadata(&"xe7".into()).unwrap().timestamp;
    assert_eq!((timestamp.seconds, timestamp.nanoseconds), (1_600_000_000, 123_456_789));
}

#[test]
fn dropped_writer_and_failed_put_leave_no_file() {
    let directory = temporary_directory();
    let storage = initialized(&directory);
    let mut writer = storage.create(&PACK.into(), &PutOptions::default()).unwrap();
    writer.write(&vec![1; 1 << 20]).unwrap();
    drop(writer);
    fs::create_dir(options(&directory).root.join("xe7.f")).unwrap();
    let error = put(&storage, "xe7", b"1").unwrap_err();
    assert!(error.to_string().contains("xe7.f"), "{error}");
    assert_eq!(files_under(&options(&directory).root).len(), 1);
}

#[test]
fn retention_is_refused() {
    let directory = temporary_directory();
    let retention = Some((kopia_engine::blob::RetentionMode::Governance, std::time::Duration::from_secs(1)));
    let options = PutOptions { retention, ..PutOptions::default() };
    let error = initialized(&directory).put(&"xe7".into(), &[], &options).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
}

#[test]
fn missing_directory_is_said_and_never_taken_for_an_empty_repository() {
    let directory = temporary_directory();
    let error = FilesystemStorage::open(&options(&directory)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::RepositoryNotFound);
    assert!(error.to_string().contains("repo does not exist"), "{error}");

    let storage = initialized(&directory);
    fs::remove_dir_all(options(&directory).root).unwrap();
    let root = options(&directory).root.display().to_string();
    let mut out = Vec::new();
    for result in [
        storage.get(&PACK.into(), &mut out),
        put(&storage, PACK, b"1"),
        put(&storage, "xe7", b"1"),
        storage.list("", &mut |_| Ok(())),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Storage, "{error}");
        assert!(error.to_string().contains(&root), "{error}");
    }
    assert!(!options(&directory).root.exists(), "the root is never made by a put");
}

#[test]
fn a_file_as_root_or_a_damaged_shards_file_is_refused() {
    let directory = temporary_directory();
    fs::write(options(&directory).root, b"").unwrap();
    assert_eq!(FilesystemStorage::open(&options(&directory)).unwrap_err().kind, ErrorKind::InvalidArgument);
    fs::write(directory.path().join(".shards"), b"{").unwrap();
    let error = FilesystemStorage::open(&FilesystemOptions::new(directory.path())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupted);
    assert!(error.to_string().contains(".shards"), "{error}");
}

/// A file system of 1 MiB, unmounted when dropped; `None` where this process may not mount.
struct SmallFilesystem(TempDir);

impl SmallFilesystem {
    fn mount() -> Option<Self> {
        let directory = temporary_directory();
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"], directory.path());
        mounted.then_some(Self(directory))
    }
}

impl Drop for SmallFilesystem {
    fn drop(&mut self) {
        run("umount", &[], self.0.path());
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let output = std::process::Command::new(program).args(arguments).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn full_disk_and_read_only_mount_are_said_and_leave_nothing() {
    let Some(filesystem) = SmallFilesystem::mount() else {
        eprintln!("SKIPPED: mounting a small file system is not allowed here");
        return;
    };
    let root = filesystem.0.path();
    let storage = FilesystemStorage::open(&FilesystemOptions::new(root)).unwrap();
    put(&storage, "xe1", b"before").unwrap();
    let files = files_under(root);
    let too_much = vec![7; 2 << 20];
    let error = put(&storage, "xe2", &too_much).unwrap_err();
    assert_eq!((error.kind, error.temporary), (ErrorKind::NoSpace, false), "{error}");
    let mut writer = storage.create(&PACK.into(), &PutOptions::default()).unwrap();
    assert_eq!(writer.write(&too_much).unwrap_err().kind, ErrorKind::NoSpace);
    drop(writer);
    assert_eq!(files_under(root), files, "no temporary file is left");
    put(&storage, "xe3", b"after").unwrap();

    assert!(run("mount", &["-o", "remount,ro"], root));
    for result in [put(&storage, "xe4", b"4"), storage.delete(&"xe1".into())] {
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::AccessDenied, "{error}");
        assert!(error.to_string().contains("mounted read-only"), "{error}");
    }
    assert_eq!(names(&storage, ""), BTreeSet::from(["xe1".to_owned(), "xe3".to_owned()]));
}
