//! What restore refuses, leaves, replaces and takes up again: hostile snapshots, full targets, damage.

#![allow(clippy::unwrap_used)] // all of it is test code

use kopia_engine::blob::Storage;
use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::cancel::CancelToken;
use kopia_engine::clock::SystemClock;
use kopia_engine::content::WriteScratch;
use kopia_engine::error::{Error, ErrorKind};
use kopia_engine::progress::Progress;
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_engine::restore::{
    Overwrite, RestoreOptions, RestoreResult, RestoreSource, RestoreTarget, restore,
};
use kopia_engine::tree::{self, Change};
use kopia_engine::verify::{VerifyOptions, VerifyResult, verify_contents, verify_snapshots};
use kopia_format::BlobId;
use kopia_format::compression::CompressorId;
use kopia_testing::data::splitmix;
use kopia_testing::directory::temporary_directory;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;

const PASSWORD: &str = "test-password";

struct Fixture {
    storage: Arc<MemoryStorage>,
    repository: Arc<Repository>,
    target: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let storage = Arc::new(MemoryStorage::default());
        let options = CreateOptions::default();
        Repository::create(storage.clone(), PASSWORD, &options, Arc::new(SystemClock)).unwrap();
        let repository = Repository::open(storage.clone(), PASSWORD, OpenOptions::default()).unwrap();
        Self { storage, repository, target: temporary_directory() }
    }

    fn content(&self, prefix: Option<u8>, bytes: &[u8]) -> String {
        let (none, mut scratch) = (CompressorId::NONE, WriteScratch::default());
        self.repository.contents().write(prefix, bytes.to_vec(), none, &mut scratch).unwrap().to_string()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let object = self.content(None, bytes);
        entry(name, 'f', bytes.len(), &object)
    }

    fn directory(&self, entries: &[String]) -> String {
        let entries = entries.join(",");
        let json = format!("{{\"stream\":\"kopia:directory\",\"entries\":[{entries}],\"summary\":{{}}}}\n");
        self.content(Some(b'k'), json.as_bytes())
    }

    fn root(&self) -> std::path::PathBuf {
        self.target.path().join("target")
    }

    fn try_restore(&self, id: &str, options: &RestoreOptions) -> Result<RestoreResult, Error> {
        let (progress, cancel) = (Progress::default(), CancelToken::new());
        let target = RestoreTarget::Path(self.root());
        restore(&self.repository, RestoreSource::Named(id.into()), target, options, &progress, &cancel)
    }

    fn restore(&self, id: &str, overwrite: Overwrite) -> RestoreResult {
        let options = RestoreOptions { overwrite, ignore_errors: true, owners: false, ..Default::default() };
        self.try_restore(id, &options).unwrap()
    }

    /// A snapshot manifest, so that the tree can be verified by name.
    fn snapshot(&self, root: &str) -> kopia_format::ManifestId {
        let payload = format!(
            r#"{{"id":"","source":{{"host":"h","userName":"u","path":"/p"}},"description":"","startTime":"2024-01-01T00:00:00Z","endTime":"2024-01-01T00:00:00Z","rootEntry":{{"name":"p","type":"d","mode":"0755","mtime":"2024-01-01T00:00:00Z","obj":"{root}"}}}}"#
        );
        let labels = [("type", "snapshot"), ("hostname", "h"), ("username", "u"), ("path", "/p")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let id = self.repository.manifests().put(labels, payload.as_bytes()).unwrap();
        self.repository.flush().unwrap();
        id
    }

    fn verify(&self, snapshots: &[kopia_format::ManifestId]) -> VerifyResult {
        let options = VerifyOptions { percent: 100.0, ..Default::default() };
        let (progress, cancel) = (Progress::default(), CancelToken::new());
        verify_snapshots(&self.repository, snapshots, &options, &progress, &cancel).unwrap()
    }

    fn verify_all(&self) -> VerifyResult {
        let options = VerifyOptions { percent: 100.0, ..Default::default() };
        let (progress, cancel) = (Progress::default(), CancelToken::new());
        verify_contents(&self.repository, &options, &progress, &cancel).unwrap()
    }

    /// Changes a stored blob.
    fn damage(&self, blob: &BlobId, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        self.storage.get(blob, &mut bytes).unwrap();
        change(&mut bytes);
        self.storage.put(blob, &[&bytes], &Default::default()).unwrap();
    }

    fn pack_of(&self, object: &str) -> (BlobId, u32) {
        let content = kopia_format::ContentId::parse(object).unwrap();
        let info = self.repository.contents().info(&content).unwrap().unwrap();
        (info.pack, info.offset)
    }
}

fn entry(name: &str, kind: char, size: usize, object: &str) -> String {
    let name = serde_json::to_string(name).unwrap();
    format!(
        r#"{{"name":{name},"type":"{kind}","mode":"0644","size":{size},"mtime":"2024-01-02T03:04:05.5Z","obj":"{object}"}}"#
    )
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn names_that_lead_out_of_the_target_are_refused_one_by_one() {
    let fixture = Fixture::new();
    let names_refused = ["..", ".", "", "../evil", "/evil", "a/b", "nul\0byte"];
    let mut entries: Vec<String> = names_refused.iter().map(|name| fixture.file(name, b"evil")).collect();
    let inner = fixture.directory(&[fixture.file("evil", b"evil")]);
    entries.push(entry("..", 'd', 0, &inner));
    entries.push(entry("../../evil", 's', 4, &fixture.content(None, b"evil")));
    entries.push(fixture.file("good", b"good"));
    let root = fixture.directory(&entries);

    let result = fixture.restore(&root, Overwrite::Always);
    assert_eq!((result.failed_count, result.file_count), (9, 1));
    assert!(result.failures.iter().all(|failure| failure.error.to_string().contains("refused")));
    assert_eq!(names(&fixture.root()), ["good"]);
    assert_eq!(names(fixture.target.path()), ["target"]);
}

#[test]
fn nothing_is_written_through_a_symlink_of_the_snapshot_or_of_the_target() {
    let fixture = Fixture::new();
    let outside = fixture.target.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    let link_target = fixture.content(None, outside.to_str().unwrap().as_bytes());
    let inner = fixture.directory(&[fixture.file("file", b"evil"), fixture.file("kept", b"evil")]);
    // The snapshot makes a link, then a directory of the same name with a file in it.
    let crafted = fixture.directory(&[
        entry("trap", 's', 1, &link_target),
        entry("trap", 'd', 0, &inner),
        fixture.file("last", b"x"),
    ]);
    fixture.restore(&crafted, Overwrite::Always);
    assert_eq!(names(&outside), ["kept"]);

    // The target has links where the snapshot has a directory and a file.
    fs::remove_dir_all(fixture.root()).unwrap();
    fs::create_dir(fixture.root()).unwrap();
    symlink(&outside, fixture.root().join("directory")).unwrap();
    symlink(outside.join("kept"), fixture.root().join("kept")).unwrap();
    fs::hard_link(outside.join("kept"), fixture.root().join("hard")).unwrap();
    let root = fixture.directory(&[
        entry("directory", 'd', 0, &inner),
        fixture.file("kept", b"restored"),
        fixture.file("hard", b"restored"),
    ]);
    let result = fixture.restore(&root, Overwrite::Always);
    assert_eq!((result.failed_count, result.file_count), (1, 2));
    assert_eq!(names(&outside), ["kept"]);
    assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
    assert_eq!(fs::read(fixture.root().join("kept")).unwrap(), b"restored");
    assert!(!fs::symlink_metadata(fixture.root().join("kept")).unwrap().is_symlink());
}

#[test]
fn what_exists_is_replaced_left_or_refused_as_asked() {
    let fixture = Fixture::new();
    let link = fixture.content(None, b"new-target");
    let root = fixture.directory(&[
        fixture.file("equal", b"12345"),
        fixture.file("other", b"restored"),
        entry("link", 's', 10, &link),
    ]);
    fixture.restore(&root, Overwrite::Always);
    let equal = fixture.root().join("equal");
    // Same size and time, other bytes: only `Skip` may leave it.
    let times = filetime(&equal);
    fs::write(&equal, "54321").unwrap();
    set_time(&equal, times);
    fs::write(fixture.root().join("other"), "longer than before").unwrap();
    fs::remove_file(fixture.root().join("link")).unwrap();
    symlink("old-target", fixture.root().join("link")).unwrap();

    let never =
        fixture.try_restore(&root, &RestoreOptions { overwrite: Overwrite::Never, ..Default::default() });
    assert_eq!(never.unwrap_err().kind, ErrorKind::AlreadyExists);

    let result = fixture.restore(&root, Overwrite::Skip);
    assert_eq!((result.skipped_count, result.file_count, result.failed_count), (2, 1, 0));
    assert_eq!(fs::read(&equal).unwrap(), b"54321");
    assert_eq!(fs::read(fixture.root().join("other")).unwrap(), b"restored");

    let result = fixture.restore(&root, Overwrite::Always);
    assert_eq!((result.skipped_count, result.file_count), (0, 2));
    assert_eq!(fs::read(&equal).unwrap(), b"12345");
    assert_eq!(fs::read_link(fixture.root().join("link")).unwrap(), Path::new("new-target"));
}

fn filetime(path: &Path) -> (i64, i64) {
    let found = fs::metadata(path).unwrap();
    (found.mtime(), found.mtime_nsec())
}

fn set_time(path: &Path, (tv_sec, tv_nsec): (i64, i64)) {
    let time = rustix::fs::Timespec { tv_sec, tv_nsec };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::futimens(fs::File::options().write(true).open(path).unwrap(), &times).unwrap();
}

#[test]
fn extra_entries_are_deleted_only_when_asked_for() {
    let fixture = Fixture::new();
    let root = fixture.directory(&[fixture.file("kept", b"1"), fixture.file("was-directory", b"2")]);
    fs::create_dir_all(fixture.root().join("extra/deep")).unwrap();
    fs::create_dir_all(fixture.root().join("was-directory/x")).unwrap();
    fs::write(fixture.root().join("extra/deep/file"), "x").unwrap();
    let result = fixture.restore(&root, Overwrite::Always);
    assert_eq!((result.failed_count, result.deleted_count), (1, 0));

    let options = RestoreOptions { delete_extra: true, ..Default::default() };
    let result = fixture.try_restore(&root, &options).unwrap();
    assert_eq!((result.failed_count, result.deleted_count), (0, 2));
    assert_eq!(names(&fixture.root()), ["kept", "was-directory"]);
}

#[test]
fn holes_stay_holes_and_short_objects_are_filled_with_zeros() {
    let fixture = Fixture::new();
    let mut bytes = vec![0; 1 << 20];
    bytes[300_000..301_000].copy_from_slice(&splitmix(1, 1000));
    let whole = fixture.content(None, &bytes);
    // Two chunks by an index object; the entry says more than the object has, as checkpoints do.
    let index = format!(
        "{{\"stream\":\"kopia:indirect\",\"entries\":[{{\"l\":1048576,\"o\":\"{whole}\"}},{{\"s\":1048576,\"l\":1048576,\"o\":\"{whole}\"}}]}}\n"
    );
    let indirect = format!("I{}", fixture.content(Some(b'x'), index.as_bytes()));
    let root =
        fixture.directory(&[entry("small", 'f', 1 << 20, &whole), entry("large", 'f', 3 << 20, &indirect)]);
    fixture.restore(&root, Overwrite::Always);
    let small = fs::read(fixture.root().join("small")).unwrap();
    assert!(small == bytes);
    let large = fs::read(fixture.root().join("large")).unwrap();
    assert!(large[..1 << 20] == bytes && large[1 << 20..2 << 20] == bytes);
    assert!(large.len() == 3 << 20 && large[2 << 20..].iter().all(|byte| *byte == 0));
    for (name, blocks_max) in [("small", 16), ("large", 32)] {
        assert!(fs::metadata(fixture.root().join(name)).unwrap().blocks() <= blocks_max, "{name}");
    }
}

#[test]
fn a_canceled_restore_goes_on_where_it_was() {
    let fixture = Fixture::new();
    let files: Vec<String> =
        (0..200).map(|n| fixture.file(&format!("f{n:03}"), &splitmix(n, 5000))).collect();
    let root = fixture.directory(&files);
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    cancel.cancel();
    let what = || RestoreSource::Named(root.clone());
    let target = || RestoreTarget::Path(fixture.root());
    let options = RestoreOptions::default();
    let canceled = restore(&fixture.repository, what(), target(), &options, &progress, &cancel);
    assert_eq!(canceled.unwrap_err().kind, ErrorKind::Canceled);

    fixture.restore(&root, Overwrite::Always);
    for number in 0..50 {
        fs::remove_file(fixture.root().join(format!("f{number:03}"))).unwrap();
    }
    let result = fixture.restore(&root, Overwrite::Skip);
    assert_eq!((result.file_count, result.skipped_count), (50, 150));
    for number in 0..200 {
        assert_eq!(fs::read(fixture.root().join(format!("f{number:03}"))).unwrap(), splitmix(number, 5000));
    }
}

#[test]
fn damaged_contents_are_named_and_their_files_are_not_restored() {
    let fixture = Fixture::new();
    let good = fixture.file("good", &splitmix(1, 5000));
    let bad_object = fixture.content(None, &splitmix(2, 5000));
    let bad = entry("bad", 'f', 5000, &bad_object);
    let root = fixture.directory(&[entry("sub", 'd', 0, &fixture.directory(&[good, bad]))]);
    let snapshot = fixture.snapshot(&root);
    assert_eq!(fixture.verify(&[]).damage_count, 0);
    assert_eq!(fixture.verify_all().damage_count, 0);

    let (pack, offset) = fixture.pack_of(&bad_object);
    fixture.damage(&pack, |bytes| bytes[offset as usize + 100] ^= 1);
    let result = fixture.restore(&root, Overwrite::Always);
    assert_eq!((result.file_count, result.failed_count), (1, 1));
    let failure = &result.failures[0];
    assert_eq!((failure.path.as_slice(), failure.error.kind), (&b"sub/bad"[..], ErrorKind::Corrupted));
    assert!(failure.error.to_string().contains(&format!("content {bad_object} in pack {pack}")));
    assert_eq!(names(&fixture.root().join("sub")), ["good"]);

    let stopped = fixture.try_restore(&root, &RestoreOptions::default()).unwrap_err();
    assert_eq!(stopped.kind, ErrorKind::Corrupted);
    assert!(stopped.to_string().contains("sub/bad"), "{stopped}");

    for found in [fixture.verify(&[snapshot]), fixture.verify_all()] {
        assert_eq!(found.damage_count, 1);
        assert!(found.damages[0].error.to_string().contains(&bad_object));
    }
    assert_eq!(fixture.verify(&[]).damages[0].path, b"sub/bad");
}

#[test]
fn missing_and_cut_off_packs_are_told_for_each_content() {
    let fixture = Fixture::new();
    let files: Vec<String> = (0..20).map(|n| fixture.file(&format!("f{n:02}"), &splitmix(n, 9000))).collect();
    let root = fixture.directory(&files);
    fixture.snapshot(&root);
    let object = fixture.content(None, &splitmix(10, 9000));
    let (pack, offset) = fixture.pack_of(&object);

    fixture.damage(&pack, |bytes| bytes.truncate(offset as usize + 10));
    let whole = fixture.restore(&root, Overwrite::Always);
    let verified = fixture.verify(&[]);
    assert!((1..20).contains(&whole.failed_count), "{}", whole.failed_count);
    assert_eq!(whole.failed_count + whole.file_count, 20);
    assert_eq!(verified.damage_count, whole.failed_count);
    assert_eq!(fixture.verify_all().damage_count, whole.failed_count);

    fixture.storage.delete(&pack).unwrap();
    let result = fixture.restore(&root, Overwrite::Always);
    let lost = result.failures.iter().filter(|f| f.error.kind == ErrorKind::BlobNotFound).count() as u64;
    assert_eq!((lost, result.file_count), (result.failed_count, 20 - result.failed_count));
    assert!(result.failures[0].error.to_string().contains(pack.as_str()));
    assert_eq!(fixture.verify(&[]).damage_count, result.failed_count);
}

#[test]
fn differences_of_two_trees_are_told_by_entry() {
    let fixture = Fixture::new();
    let same = fixture.directory(&[fixture.file("deep", b"deep")]);
    let before = fixture.directory(&[
        entry("same", 'd', 0, &same),
        entry("sub", 'd', 0, &fixture.directory(&[fixture.file("a", b"1"), fixture.file("b", b"2")])),
        fixture.file("gone", b"x"),
        fixture.file("turned", b"x"),
    ]);
    let after = fixture.directory(&[
        entry("same", 'd', 0, &same),
        entry("sub", 'd', 0, &fixture.directory(&[fixture.file("b", b"3"), fixture.file("c", b"4")])),
        entry("turned", 'd', 0, &same),
    ]);
    let resolve = |id: &str| tree::resolve(&fixture.repository, id).unwrap();
    let mut found = Vec::new();
    tree::diff(fixture.repository.contents(), resolve(&before), resolve(&after), &mut |difference| {
        found.push((String::from_utf8(difference.path).unwrap(), difference.change));
        Ok(())
    })
    .unwrap();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("", Change::Modified),
        ("gone", Change::Removed),
        ("sub", Change::Modified),
        ("sub/a", Change::Removed),
        ("sub/b", Change::Modified),
        ("sub/c", Change::Added),
        ("turned", Change::Removed),
        ("turned", Change::Added),
        ("turned/deep", Change::Added),
    ];
    let mut expected: Vec<_> = expected.map(|(path, change)| (path.to_owned(), change)).into();
    expected.sort_by_key(|(path, change)| (path.clone(), format!("{change:?}")));
    found.sort_by_key(|(path, change)| (path.clone(), format!("{change:?}")));
    assert_eq!(found, expected);
}

#[test]
fn contents_that_changed_places_are_refused_by_their_seals_alone() {
    let fixture = Fixture::new();
    let (one, two) = (splitmix(1, 5000), splitmix(2, 5000));
    let files = [fixture.file("one", &one), fixture.file("two", &two), fixture.file("three", b"whole")];
    let objects = [fixture.content(None, &one), fixture.content(None, &two)];
    let root = fixture.directory(&files);
    fixture.repository.flush().unwrap();
    let [(pack, first), (_, second)] = objects.map(|object| fixture.pack_of(&object));
    fixture.damage(&pack, |bytes| {
        let (before, behind) = bytes.split_at_mut(first.max(second) as usize);
        before[first.min(second) as usize..][..5028].swap_with_slice(&mut behind[..5028]);
    });

    let result = fixture.restore(&root, Overwrite::Always);
    assert_eq!(result.failed_count, 2);
    assert!(result.failures.iter().all(|failure| failure.error.kind == ErrorKind::Corrupted), "{result:?}");
    assert_eq!(names(&fixture.root()), ["three"]);
    assert_eq!(fixture.verify(&[fixture.snapshot(&root)]).damage_count, 2);
}

#[test]
fn bytes_that_were_sealed_under_a_wrong_hash_are_found_by_hashing_and_care_always_hashes() {
    let fixture = Fixture::new();
    let wrong = kopia_format::ContentId::parse(&"5a".repeat(16)).unwrap();
    let (none, mut scratch) = (CompressorId::NONE, WriteScratch::default());
    fixture.repository.contents().put_hashed(wrong, &mut b"not these".to_vec(), none, &mut scratch).unwrap();
    fixture.repository.flush().unwrap();

    let mut bytes = Vec::new();
    fixture.repository.contents().read(&wrong, &mut bytes).unwrap();
    assert_eq!(bytes, b"not these");
    let refused = fixture.repository.contents().read_hashed(&wrong, &mut bytes).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Corrupted);
    let rewritten = fixture.repository.contents().rewrite(&wrong, &mut scratch).unwrap_err();
    assert_eq!(rewritten.kind, ErrorKind::Corrupted);
    assert_eq!(fixture.verify_all().damage_count, 1);

    let options = OpenOptions { check_hashes: true, ..OpenOptions::default() };
    let hashing = Repository::open(fixture.storage.clone(), PASSWORD, options).unwrap();
    assert_eq!(hashing.contents().read(&wrong, &mut bytes).unwrap_err().kind, ErrorKind::Corrupted);
}

/// An index object of `entries` (length, object) stored under an ID of our choosing.
fn index_called(fixture: &Fixture, id: &str, entries: &[(u64, &str)]) {
    let mut start = 0;
    let entries: Vec<_> = entries
        .iter()
        .map(|(length, object)| {
            let entry = format!(r#"{{"s":{start},"l":{length},"o":"{object}"}}"#);
            start += length;
            entry
        })
        .collect();
    let json = format!(r#"{{"stream":"kopia:indirect","entries":[{}]}}"#, entries.join(","));
    let content = kopia_format::ContentId::parse(id).unwrap();
    let (mut bytes, mut scratch) = (json.into_bytes(), WriteScratch::default());
    fixture.repository.contents().put_hashed(content, &mut bytes, CompressorId::NONE, &mut scratch).unwrap();
}

/// Restores, reads, verifies and marks an object that cannot be followed; all of them name it.
fn assert_refused(fixture: &Fixture, object: &str, size: usize) {
    let root = fixture.directory(&[entry("hostile", 'f', size, object), fixture.file("good", b"good")]);
    let snapshot = fixture.snapshot(&root);

    let result = fixture.restore(&root, Overwrite::Always);
    assert_eq!((result.failed_count, result.file_count), (1, 1), "{:?}", result.failures);
    assert_eq!(result.failures[0].error.kind, ErrorKind::Corrupted);
    assert_eq!(fs::read(fixture.root().join("good")).unwrap(), b"good");

    let contents = fixture.repository.contents();
    let parsed = kopia_format::ObjectId::parse(object).unwrap();
    let read = kopia_engine::object::ObjectReader::open(contents, parsed).err().unwrap();
    assert_eq!(read.kind, ErrorKind::Corrupted);
    assert!(read.to_string().contains(&parsed.content.to_string()), "{read}");
    let marked = kopia_engine::object::for_each_content(contents, parsed, &mut |_| Ok(())).unwrap_err();
    assert_eq!(marked.kind, ErrorKind::Corrupted);

    let verified = fixture.verify(&[snapshot]);
    assert_eq!(verified.damage_count, 1, "{:?}", verified.damages);
}

#[test]
fn an_index_object_that_names_itself_is_damage_not_a_crash() {
    let fixture = Fixture::new();
    let id = format!("x{}", "ab".repeat(16));
    index_called(&fixture, &id, &[(4, &format!("I{id}"))]);
    assert_refused(&fixture, &format!("I{id}"), 4);

    // Two that name each other, and one that is its own index.
    let fixture = Fixture::new();
    let (one, two) = (format!("x{}", "01".repeat(16)), format!("x{}", "02".repeat(16)));
    index_called(&fixture, &one, &[(4, &format!("I{two}")), (4, &format!("I{two}"))]);
    index_called(&fixture, &two, &[(4, &format!("I{one}"))]);
    assert_refused(&fixture, &format!("{}{one}", "I".repeat(200)), 8);
}

#[test]
fn an_index_object_that_multiplies_is_damage_not_a_run_without_end() {
    let fixture = Fixture::new();
    let leaf = fixture.content(None, b"x");
    let mut below = leaf;
    let mut length = 1;
    for level in 1..6 {
        let id = format!("x{}", format!("{level:02}").repeat(16));
        index_called(&fixture, &id, &vec![(length, below.as_str()); 200]);
        length *= 200;
        below = format!("I{id}");
    }
    assert_refused(&fixture, &below, length as usize);
}

#[test]
fn an_index_object_of_white_space_is_given_up() {
    let fixture = Fixture::new();
    // One chunk of white space, named so often that the index of the index says four terabytes.
    let blank = fixture.content(Some(b'x'), &vec![b' '; 4 << 20]);
    let id = format!("x{}", "0c".repeat(16));
    index_called(&fixture, &id, &vec![(4 << 20, blank.as_str()); 1000]);
    assert_refused(&fixture, &format!("II{id}"), 4);
}

#[test]
fn no_number_of_a_user_starts_threads_without_end() {
    let fixture = Fixture::new();
    let root = fixture.directory(&[fixture.file("good", b"good")]);
    let options =
        RestoreOptions { parallelism: Some(usize::MAX), owners: false, ..RestoreOptions::default() };
    assert_eq!(fixture.try_restore(&root, &options).unwrap().file_count, 1);
    assert_eq!(fs::read(fixture.root().join("good")).unwrap(), b"good");
    let snapshot = fixture.snapshot(&root);
    let options = VerifyOptions { percent: 100.0, parallelism: Some(usize::MAX), ..Default::default() };
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    let verified = verify_snapshots(&fixture.repository, &[snapshot], &options, &progress, &cancel).unwrap();
    assert_eq!(verified.damage_count, 0);
}
