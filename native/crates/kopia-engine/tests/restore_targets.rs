//! Targets that are not like the source: one name for two, no privileges, few descriptors.

mod support;

use kopia_engine::cancel::CancelToken;
use kopia_engine::progress::Progress;
use kopia_engine::repository::Repository;
use kopia_engine::restore::{RestoreOptions, RestoreResult, RestoreSource, RestoreTarget, restore};
use kopia_engine::source::Source;
use kopia_engine::upload::{UploadOptions, UploadResult, upload};
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use support::memory_repository;
use tempfile::TempDir;

const NOBODY: u32 = 65_534;

fn backup(repository: &Repository, source: &Path) -> UploadResult {
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    let source = Source::Path(source.to_owned());
    upload(repository, source, &UploadOptions::default(), &progress, &cancel).expect("saved")
}

fn restored(repository: &Repository, snapshot: &UploadResult, target: &Path) -> RestoreResult {
    let id = snapshot.manifest.id.as_ref().expect("saved").as_str().to_owned();
    let options = RestoreOptions { ignore_errors: true, ..RestoreOptions::default() };
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    let (what, to) = (RestoreSource::Named(id), RestoreTarget::Path(target.to_owned()));
    restore(repository, what, to, &options, &progress, &cancel).expect("restored")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `work` as a user without privileges; its threads are that user's too.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_res_gid(group, group, group).expect("group");
            rustix::thread::set_thread_res_uid(user, user, user).expect("user");
            work()
        });
        thread.join().expect("did not panic")
    })
}

#[test]
fn two_names_that_are_one_in_the_target_are_a_failed_entry_and_the_first_stays() {
    let place = TempDir::new().expect("directory");
    let source = place.path().join("source");
    for (directory, content) in [(&b"d\xfc"[..], "one"), (&b"d\xf6"[..], "two")] {
        let directory = source.join(OsStr::from_bytes(directory));
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join("inside"), content).expect("written");
    }
    fs::write(source.join(OsStr::from_bytes(b"M\xf6ller")), "AAAA").expect("written");
    fs::write(source.join(OsStr::from_bytes(b"M\xfcller")), "BBBB").expect("written");
    std::os::unix::fs::symlink("1", source.join(OsStr::from_bytes(b"l\xf6"))).expect("linked");
    std::os::unix::fs::symlink("2", source.join(OsStr::from_bytes(b"l\xfc"))).expect("linked");
    let (_, repository) = memory_repository();
    let snapshot = backup(&repository, &source);
    assert_eq!((snapshot.not_utf8_count, snapshot.manifest.stats.error_count), (6, 0));
    for is_there in [false, true] {
        let target = place.path().join(format!("target-{is_there}"));
        if is_there {
            fs::create_dir(&target).expect("made");
        }
        let result = restored(&repository, &snapshot, &target);
        assert_eq!(result.failed_count, 3, "{:?}", result.failures);
        assert!(result.failures.iter().all(|failure| failure.error.to_string().contains("two names")));
        assert_eq!((result.file_count, result.symlink_count), (2, 1));
        let content = fs::read_to_string(target.join("M\u{fffd}ller")).expect("read");
        assert!(content == "AAAA" || content == "BBBB");
        assert_eq!(fs::read_to_string(target.join("d\u{fffd}/inside")).expect("read"), "two");
    }
}

#[test]
fn without_privileges_files_and_directories_that_deny_it_are_restored_over() {
    if !is_root() {
        return;
    }
    let place = TempDir::new().expect("directory");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("set");
    let (source, target) = (place.path().join("source"), place.path().join("target"));
    fs::create_dir_all(source.join("shut/deep")).expect("made");
    for name in ["shut/file", "shut/deep/file"] {
        fs::write(source.join(name), name).expect("written");
        fs::set_permissions(source.join(name), Permissions::from_mode(0o444)).expect("set");
        chown(source.join(name), Some(NOBODY), Some(NOBODY)).expect("owned");
    }
    for (name, mode) in [("shut/deep", 0o000), ("shut", 0o555), ("", 0o555)] {
        fs::set_permissions(source.join(name), Permissions::from_mode(mode)).expect("set");
        chown(source.join(name), Some(NOBODY), Some(NOBODY)).expect("owned");
    }
    fs::create_dir(&target).expect("made");
    chown(&target, Some(NOBODY), Some(NOBODY)).expect("owned");
    let (_, repository) = memory_repository();
    let snapshot = backup(&repository, &source);
    for round in 0..2 {
        let result = as_nobody(|| restored(&repository, &snapshot, &target));
        assert_eq!((result.failed_count, result.refused_count), (0, 0), "{round}: {:?}", result.failures);
        for name in ["shut/file", "shut/deep/file"] {
            assert_eq!(fs::read_to_string(target.join(name)).expect("read"), name);
        }
        for (name, mode) in [("shut/deep", 0o000), ("shut", 0o555), ("", 0o555), ("shut/file", 0o444)] {
            let found = fs::metadata(target.join(name)).expect("there").permissions().mode() & 0o7777;
            assert_eq!(found, mode, "{round}: {name}");
        }
        // Other bytes of the same length: the second round writes over what denies it.
        as_nobody(|| {
            let file = target.join("shut/file");
            fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("set");
            fs::write(&file, "SHUT/FILE").expect("written");
            fs::set_permissions(&file, Permissions::from_mode(0o444)).expect("set");
        });
    }
}

#[test]
fn refused_owners_are_counted_and_the_bytes_stay() {
    if !is_root() {
        return;
    }
    let place = TempDir::new().expect("directory");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("set");
    let (source, target) = (place.path().join("source"), place.path().join("target"));
    fs::create_dir(&source).expect("made");
    fs::write(source.join("roots"), "of root").expect("written");
    std::os::unix::fs::symlink("roots", source.join("link")).expect("linked");
    fs::create_dir(&target).expect("made");
    chown(&target, Some(NOBODY), Some(NOBODY)).expect("owned");
    let (_, repository) = memory_repository();
    let snapshot = backup(&repository, &source);
    let result = as_nobody(|| restored(&repository, &snapshot, &target));
    assert_eq!((result.failed_count, result.refused_count), (0, 3), "{:?}", result.failures);
    assert!(result.refused.iter().any(|one| one.error.to_string().contains("owner of \"roots\"")));
    assert_eq!(fs::read_to_string(target.join("roots")).expect("read"), "of root");
}

#[test]
fn many_small_directories_are_restored_with_few_descriptors() {
    let place = TempDir::new().expect("directory");
    let (source, target) = (place.path().join("source"), place.path().join("target"));
    for number in 0..600 {
        let directory = source.join(format!("{number:03}"));
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join("file"), number.to_string()).expect("written");
    }
    let (_, repository) = memory_repository();
    let snapshot = backup(&repository, &source);
    let before = getrlimit(Resource::Nofile);
    // The other tests of this program run beside this one.
    setrlimit(Resource::Nofile, Rlimit { current: Some(160), ..before }).expect("lowered");
    let result = restored(&repository, &snapshot, &target);
    setrlimit(Resource::Nofile, before).expect("raised");
    assert_eq!((result.failed_count, result.file_count), (0, 600), "{:?}", result.failures.first());
    for number in 0..600 {
        let content = fs::read_to_string(target.join(format!("{number:03}/file"))).expect("read");
        assert_eq!(content, number.to_string());
    }
}
