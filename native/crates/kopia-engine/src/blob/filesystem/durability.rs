//! What has been written but is not yet known to be on stable storage.
//!
//! The cheapest correct way, and why it is correct:
//!
//! * A **pack** (`p…`, `q…`) is renamed to its name at once, its writeback is started while it is
//!   being written, and its `fdatasync` waits for the next `sync()`. Nothing names a pack before
//!   `sync()` has returned, so a pack torn by a power cut is an orphan that maintenance deletes.
//!   Many packs then share few journal commits, and the disk works while the next one is sealed.
//! * **Every other blob** is found by its name or prefix, so a torn one would be believed: it is
//!   `fdatasync`ed before its rename. There are few of them, and they are small.
//! * **Directories** that got an entry are `fsync`ed once each in `sync()`, not at each rename.
//!
//! The surprise: after a failed `fdatasync` Linux marks the pages clean, so the next one would
//! succeed without the data. A failure is therefore remembered and every later `sync()` fails.

use super::errors::storage_error;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Bound of descriptors, and of packs in the page cache, that wait for `sync()`.
const PENDING_FILES_MAX: usize = 32;

/// Keeps what the next `sync()` has to bring to stable storage.
#[derive(Debug)]
pub(super) struct Durability {
    enabled: bool,
    pending: Mutex<Pending>,
    /// Held during a whole `sync()`: a second caller must not return while the first is still
    /// working on entries that it took. Holds the first failure.
    failure: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Pending {
    files: Vec<(PathBuf, File)>,
    directories: BTreeSet<PathBuf>,
}

impl Durability {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, pending: Mutex::default(), failure: Mutex::default() }
    }

    /// Starts writeback of `offset..offset + length` without waiting for it.
    ///
    /// `DONTNEED` is the one call without `unsafe` that does this; that it also drops pages that
    /// are clean already is welcome: packs just written are not read again by a backup.
    pub(super) fn start_writeback(&self, file: &File, offset: u64, length: u64) {
        if let (true, Some(length)) = (self.enabled, NonZeroU64::new(length)) {
            // Only advice: a file system that refuses it loses nothing but time.
            let _ = fadvise(file, offset, Some(length), Advice::DontNeed);
        }
    }

    /// Called before the rename. Says whether the file's data are to be kept for `sync()`.
    pub(super) fn before_rename(&self, blob: &str, path: &Path, file: &File) -> Result<bool> {
        if !self.enabled {
            return Ok(false);
        }
        let is_pack = blob.starts_with('p') || blob.starts_with('q');
        if is_pack && self.pending.lock().files.len() < PENDING_FILES_MAX {
            return Ok(true);
        }
        file.sync_data().map_err(|error| storage_error("sync file", path, error))?;
        Ok(false)
    }

    /// Called after the rename: `directory` has a new entry; `file`'s data wait for `sync()`.
    pub(super) fn renamed(&self, directory: &Path, path: &Path, file: Option<File>) {
        if !self.enabled {
            return;
        }
        let mut pending = self.pending.lock();
        pending.files.extend(file.map(|file| (path.to_owned(), file)));
        if !pending.directories.contains(directory) {
            pending.directories.insert(directory.to_owned());
        }
    }

    /// `parent` got a new sub-directory.
    pub(super) fn directory_created_in(&self, parent: &Path) {
        self.renamed(parent, parent, None);
    }

    /// Returns when all that was registered before is on stable storage.
    pub(super) fn sync(&self) -> Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let mut failure = self.failure.lock();
        if let Some(message) = &*failure {
            let message = format!("an earlier sync failed, what was put since then may be lost: {message}");
            return Err(Error::new(ErrorKind::Storage, message));
        }
        let pending = std::mem::take(&mut *self.pending.lock());
        sync_pending(&pending).inspect_err(|error| *failure = Some(error.to_string()))
    }
}

fn sync_pending(pending: &Pending) -> Result<()> {
    for (path, file) in &pending.files {
        permanent(file.sync_data(), "sync file", path)?;
    }
    for directory in &pending.directories {
        permanent(sync_directory(directory), "sync directory", directory)?;
    }
    Ok(())
}

/// A failed sync is never cured by another one, whatever the error number says.
fn permanent(result: io::Result<()>, what: &str, path: &Path) -> Result<()> {
    result.map_err(|error| Error { temporary: false, ..storage_error(what, path, error) })
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some network and FUSE file systems have no fsync of directories: their renames are
        // durable by themselves, or nothing can be done.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOTSUP)) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_in(directory: &Path, name: &str) -> (PathBuf, File) {
        let path = directory.join(name);
        (path.clone(), File::create(path).expect("create"))
    }

    #[test]
    fn packs_wait_for_sync_and_other_blobs_do_not() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let durability = Durability::new(true);
        let (path, file) = file_in(directory.path(), "f");
        assert!(durability.before_rename("p12", &path, &file).expect("pack"));
        assert!(!durability.before_rename("xn0_12", &path, &file).expect("index"));
        assert!(!durability.before_rename("kopia.repository", &path, &file).expect("format blob"));
        durability.renamed(directory.path(), &path, Some(file));
        assert_eq!(durability.pending.lock().files.len(), 1);
        durability.sync().expect("sync");
        let pending = durability.pending.lock();
        assert!(pending.files.is_empty() && pending.directories.is_empty());
    }

    #[test]
    fn waiting_packs_are_bounded() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let durability = Durability::new(true);
        for number in 0..PENDING_FILES_MAX + 3 {
            let (path, file) = file_in(directory.path(), &format!("{number}"));
            let waits = durability.before_rename("p12", &path, &file).expect("pack");
            durability.renamed(directory.path(), &path, waits.then_some(file));
        }
        assert_eq!(durability.pending.lock().files.len(), PENDING_FILES_MAX);
    }

    #[test]
    fn failed_sync_makes_every_later_sync_fail() {
        let durability = Durability::new(true);
        durability.directory_created_in(Path::new("/no/such/directory"));
        let first = durability.sync().expect_err("the directory is missing");
        assert!(first.to_string().contains("/no/such/directory"), "{first}");
        let second = durability.sync().expect_err("remembered");
        assert!(second.to_string().contains("/no/such/directory"), "{second}");
        assert!(!first.temporary && !second.temporary);
    }

    #[test]
    fn without_sync_nothing_is_kept() {
        let durability = Durability::new(false);
        durability.directory_created_in(Path::new("/no/such/directory"));
        durability.sync().expect("nothing to do");
    }
}
