//! Sources that change while they are backed up: what is recorded, what is told, and what the next backup does.

mod support;

use kopia_engine::cancel::CancelToken;
use kopia_engine::progress::Progress;
use kopia_engine::repository::{OpenOptions, Repository};
use kopia_engine::restore::{RestoreOptions, RestoreSource, RestoreTarget, restore};
use kopia_engine::snapshots::SOURCE_DELETED;
use kopia_engine::source::Source;
use kopia_engine::upload::{UploadOptions, UploadResult, upload};
use kopia_testing::data::splitmix;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::ticking::TickingClock;
use support::{PASSWORD, memory_repository};
use tempfile::TempDir;

/// A source, a repository, and a clock in whose ticks the source changes.
struct Scene {
    place: TempDir,
    clock: TickingClock,
    repository: Arc<Repository>,
}

impl Scene {
    fn new() -> Self {
        let (storage, _) = memory_repository();
        let clock = TickingClock::default();
        let options = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
        let repository = Repository::open(storage, PASSWORD, options).expect("opened");
        Self { place: TempDir::new().expect("directory"), clock, repository }
    }

    fn source(&self) -> PathBuf {
        self.place.path().join("source")
    }

    /// Writes `count` files of different bytes below a directory of the source.
    fn write(&self, below: &str, seed: u64, count: u64) {
        let directory = self.source().join(below);
        fs::create_dir_all(&directory).expect("made");
        for number in 0..count {
            fs::write(directory.join(format!("{number:05}")), splitmix(seed + number, 40)).expect("written");
        }
    }

    fn backup(&self) -> UploadResult {
        let options = UploadOptions { parallelism: Some(1), ..UploadOptions::default() };
        let (progress, cancel) = (Progress::default(), CancelToken::new());
        let source = Source::Path(self.source());
        upload(&self.repository, source, &options, &progress, &cancel).expect("saved")
    }

    /// Backs up while `event` happens, after about so many contents were stored.
    fn backup_meanwhile(&self, contents: u64, event: impl FnOnce() + Send + 'static) -> UploadResult {
        self.clock.plan(contents, event);
        let result = self.backup();
        assert!(self.clock.has_happened(), "the backup was over before");
        result
    }

    /// Restores a snapshot and compares every byte with the source.
    fn assert_restores_the_source(&self, result: &UploadResult) {
        let target = self.place.path().join("restored");
        let id = result.manifest.id.as_ref().expect("saved").as_str().to_owned();
        let (progress, cancel) = (Progress::default(), CancelToken::new());
        let (what, to) = (RestoreSource::Named(id), RestoreTarget::Path(target.clone()));
        restore(&self.repository, what, to, &RestoreOptions::default(), &progress, &cancel)
            .expect("restored");
        assert_eq!(files(&target), files(&self.source()));
        fs::remove_dir_all(&target).expect("removed");
    }
}

/// All files below a directory with their bytes.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("listed") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                let bytes = fs::read(&path).expect("read");
                all.insert(path.strip_prefix(root).expect("below").to_owned(), bytes);
            }
        }
    }
    all
}

#[test]
fn a_source_that_is_deleted_while_it_is_read_is_a_failure_and_no_parent() {
    for below in ["", "a/b"] {
        let scene = Scene::new();
        scene.write(below, 1, 800);
        scene.write("z", 5000, 300);
        let source = scene.source();
        let result = scene.backup_meanwhile(200, move || fs::remove_dir_all(source).expect("removed"));
        assert_eq!(result.manifest.incomplete_reason, SOURCE_DELETED, "{below}");
        assert!(result.manifest.stats.error_count > 0 && !result.errors.is_empty(), "{below}");
        let files = result.manifest.root_entry.as_ref().and_then(|root| root.summary.as_ref());
        let files = files.map_or(0, |summary| summary.total_file_count);
        assert!((1..1100).contains(&files), "what was read is kept: {files}");

        scene.write(below, 9000, 800);
        scene.write("z", 20_000, 300);
        let quiet = scene.backup();
        assert_eq!((quiet.parents.len(), quiet.manifest.incomplete_reason.as_str()), (0, ""), "{below}");
        scene.assert_restores_the_source(&quiet);
    }
}

#[test]
fn a_directory_that_is_deleted_below_a_living_one_is_a_failed_entry() {
    let scene = Scene::new();
    for directory in ["a", "b", "c"] {
        scene.write(directory, 1, 200);
    }
    let gone = scene.source().join("b");
    let result = scene.backup_meanwhile(50, move || fs::remove_dir_all(gone).expect("removed"));
    assert_eq!(result.manifest.incomplete_reason, SOURCE_DELETED);
    let paths: Vec<_> = result.errors.iter().map(|error| String::from_utf8_lossy(&error.path)).collect();
    assert_eq!(paths, ["b"]);
    let quiet = scene.backup();
    assert!(quiet.parents.is_empty() && quiet.errors.is_empty());
    scene.assert_restores_the_source(&quiet);
}

#[test]
fn a_file_that_vanishes_from_a_living_tree_is_passed_over_and_counted() {
    let scene = Scene::new();
    scene.write("", 1, 300);
    let source = scene.source();
    let result = scene.backup_meanwhile(10, move || {
        for name in ["00290", "00291"] {
            fs::remove_file(source.join(name)).expect("removed");
        }
    });
    assert_eq!((result.vanished_count, result.manifest.stats.error_count), (2, 0));
    assert_eq!(result.manifest.incomplete_reason, "");
    scene.assert_restores_the_source(&result);
    assert_eq!(scene.backup().vanished_count, 0);
}

#[test]
fn a_living_directory_that_loses_most_of_its_files_is_a_failure() {
    let scene = Scene::new();
    scene.write("spool", 1, 900);
    let spool = scene.source().join("spool");
    let result = scene.backup_meanwhile(100, move || {
        for number in 400..900 {
            fs::remove_file(spool.join(format!("{number:05}"))).expect("removed");
        }
    });
    assert_eq!((result.manifest.incomplete_reason.as_str(), result.vanished_count), (SOURCE_DELETED, 500));
    let quiet = scene.backup();
    assert!(quiet.parents.is_empty() && quiet.errors.is_empty());
    scene.assert_restores_the_source(&quiet);
}

/// Writes bytes of the same length in place, as databases and mail boxes do.
fn write_over(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(path).expect("opened");
    file.write_all_at(bytes, 0).expect("written");
}

#[test]
fn a_linked_file_that_is_rewritten_between_its_names_is_read_under_each() {
    let scene = Scene::new();
    scene.write("a", 1, 1);
    scene.write("m", 10, 300);
    scene.write("z", 20, 1);
    let (first, second) = (scene.source().join("a/x"), scene.source().join("z/x"));
    fs::write(&first, b"AAAA").expect("written");
    fs::hard_link(&first, &second).expect("linked");
    scene.backup_meanwhile(150, move || write_over(&first, b"BBBB"));
    for _ in 0..2 {
        let quiet = scene.backup();
        scene.assert_restores_the_source(&quiet);
    }
    assert_eq!(fs::read(&second).expect("read"), b"BBBB");
}

#[test]
fn a_file_that_was_written_while_a_backup_ran_is_read_once_more_by_the_next() {
    let scene = Scene::new();
    scene.write("a", 1, 300);
    scene.write("z", 20, 1);
    let (path, written) = (scene.source().join("z/x"), scene.source().join("z/x"));
    scene.backup_meanwhile(100, move || fs::write(written, b"AAAA").expect("written"));
    // As if in the same tick of the clock: neither size nor time tells.
    let modified = fs::metadata(&path).and_then(|found| found.modified()).expect("time");
    write_over(&path, b"BBBB");
    fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(modified)).expect("set");
    let quiet = scene.backup();
    assert_eq!(quiet.incremental.bytes_read, 4);
    scene.assert_restores_the_source(&quiet);
    let third = scene.backup();
    assert_eq!((third.incremental.bytes_read, third.incremental.files_cached), (0, 302));
    scene.assert_restores_the_source(&third);
}
