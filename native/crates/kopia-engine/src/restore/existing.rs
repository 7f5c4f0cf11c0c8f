//! What is in the target already: leave it, delete it, or refuse.
//!
//! Everything is relative to a handle and follows no symlink.

use super::attributes;
use super::directory::{TargetDirectory, is_dot};
use super::job::Job;
use crate::error::Result;
use crate::tree;
use kopia_format::ObjectId;
use kopia_format::Timestamp;
use kopia_format::snapshot::{DirectoryEntry, EntryType};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::{self, Errno};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

/// Times closer than this are taken as equal: file systems round them.
const TIME_TOLERANCE_NANOSECONDS: u128 = 2_000_000_000;

/// Whether what is there may be left as it is: a regular file of the same size and time, or any symlink
/// for a symlink.
pub(super) fn is_restored(directory: &TargetDirectory, entry: &DirectoryEntry) -> bool {
    let Ok(found) = fs::statat(directory, entry.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) else {
        return false;
    };
    match (FileType::from_raw_mode(found.st_mode), entry.entry_type) {
        (FileType::Symlink, EntryType::Symlink) => true,
        (FileType::RegularFile, EntryType::File) => {
            i128::from(found.st_size) == i128::from(entry.size)
                && modified(&found).nanoseconds_since(entry.modified).unsigned_abs()
                    < TIME_TOLERANCE_NANOSECONDS
        }
        _ => false,
    }
}

#[allow(clippy::unnecessary_cast, reason = "the fields have other types on other machines")]
fn modified(found: &Stat) -> Timestamp {
    Timestamp { seconds: found.st_mtime as i64, nanoseconds: found.st_mtime_nsec as u32 }
}

/// Deletes entries of an existing directory that the snapshot's directory `object` does not have, or
/// has as something else (directory or not).
pub(super) fn delete_extra(job: &Job<'_>, directory: &TargetDirectory, object: ObjectId) -> Result<()> {
    // Eight bytes a name: a million of them fit. Two names with one number only keep an extra entry.
    let numbers = RandomState::new();
    let mut kept = Vec::new();
    tree::for_each_entry(job.contents, object, &mut |entry| {
        let is_directory = entry.entry_type == EntryType::Directory;
        kept.push(numbers.hash_one((entry.name.as_slice(), is_directory)));
        Ok(())
    })?;
    kept.sort_unstable();
    let listed = |error| directory.error("list", b"", error);
    for found in Dir::read_from(directory).map_err(listed)? {
        let found = found.map_err(listed)?;
        let name = found.file_name().to_bytes();
        if is_dot(name) {
            continue;
        }
        let is_directory = is_directory(directory, name, found.file_type());
        if kept.binary_search(&numbers.hash_one((name, is_directory))).is_err() {
            remove(directory.as_fd(), name, is_directory)
                .map_err(|error| directory.error("delete", name, error))?;
            job.deleted.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn is_directory(parent: impl AsFd, name: &[u8], told: FileType) -> bool {
    match told {
        FileType::Unknown => fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory),
        told => told == FileType::Directory,
    }
}

/// Removes an entry and, of a directory, everything in it.
fn remove(parent: impl AsFd, name: &[u8], directory: bool) -> io::Result<()> {
    let parent = parent.as_fd();
    if !directory {
        return fs::unlinkat(parent, name, AtFlags::empty());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = fs::openat(parent, name, flags, Mode::empty())?;
    attributes::unlock(&handle);
    for found in Dir::read_from(&handle)? {
        let found = found?;
        let name = found.file_name().to_bytes();
        if !is_dot(name) {
            match remove(&handle, name, is_directory(&handle, name, found.file_type())) {
                Err(Errno::NOENT) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
    }
    fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
