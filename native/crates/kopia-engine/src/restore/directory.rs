//! Directories of the target, as handles: whoever holds one writes inside of the target.
//!
//! A name from a snapshot is never more than one component below a handle, and no handle is
//! opened through a symlink, except the root, whose path is the user's. A directory gets its attributes when the last user
//! lets go: writing a child would change its time again.

use super::attributes::{self, Creation};
use super::errors::target_error;
use super::filesystem_error;
use super::job::{Handle, Job};
use super::options::Overwrite;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::Timestamp;
use kopia_format::snapshot::{DirectoryEntry, EntryType};
use rustix::fs::{self, Dir, Mode, OFlags};
use rustix::io::{self, Errno};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// Marks the failure of an entry whose place another entry of the snapshot has.
pub(super) const SAME_NAME: &str = "same_name";
const NEW_DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o700);

/// A directory that is being filled.
pub(super) struct TargetDirectory {
    handle: OwnedFd,
    /// `None` for the root.
    parent: Option<Arc<TargetDirectory>>,
    entry: DirectoryEntry,
    /// Made by this restore: nothing is in there that it did not put there.
    pub(super) fresh: bool,
    /// What new files get here from the system, once the first was made.
    pub(super) creation: OnceLock<Creation>,
    /// Whether the entry's attributes are to be set in the end.
    finishing: bool,
    /// Smallest hole of the file system, in bytes.
    pub(super) block_bytes: usize,
    /// The mode that it had, if it had to be changed to work in it.
    locked_mode: Option<Mode>,
    /// Directories above it.
    depth: usize,
    _held: Handle,
}

impl TargetDirectory {
    /// Opens the root of the target and makes it, and what is above it, if missing.
    pub(super) fn open_root(job: &Job<'_>, entry: &DirectoryEntry, path: &Path) -> Result<Arc<Self>> {
        let is_there = path.exists();
        if !is_there {
            use std::os::unix::fs::DirBuilderExt;
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|error| target_error(format!("cannot create {}", path.display()), error))?;
        }
        let handle = open_by_path(path)?;
        // What is empty is as good as made: two names of the snapshot that are one name here are found out.
        let fresh = !is_there || is_empty(&handle).unwrap_or(false);
        let mut directory = Self::new(job, handle, None, entry.clone(), fresh, true);
        directory.locked_mode = attributes::unlock(&directory);
        if !fresh && job.options.overwrite == Overwrite::Never {
            directory.check_empty()?;
        }
        Ok(Arc::new(directory))
    }

    /// Opens a directory that is there, to put one entry into it.
    pub(super) fn open_parent(job: &Job<'_>, path: &Path) -> Result<Arc<Self>> {
        let entry = DirectoryEntry {
            name: Vec::new(),
            entry_type: EntryType::Directory,
            mode: 0,
            size: 0,
            modified: Timestamp::default(),
            uid: 0,
            gid: 0,
            object: None,
            summary: None,
        };
        Ok(Arc::new(Self::new(job, open_by_path(path)?, None, entry, false, false)))
    }

    fn new(
        job: &Job<'_>,
        handle: OwnedFd,
        parent: Option<Arc<Self>>,
        entry: DirectoryEntry,
        fresh: bool,
        finishing: bool,
    ) -> Self {
        let block_bytes = match &parent {
            Some(parent) => parent.block_bytes,
            None => block_bytes_of(&handle),
        };
        let depth = parent.as_ref().map_or(0, |parent| parent.depth + 1);
        let creation = OnceLock::new();
        Self {
            handle,
            parent,
            entry,
            fresh,
            creation,
            finishing,
            block_bytes,
            locked_mode: None,
            depth,
            _held: job.handles.hold(),
        }
    }

    /// Makes or opens the directory `entry` below `parent`.
    pub(super) fn enter(job: &Job<'_>, parent: &Arc<Self>, entry: &DirectoryEntry) -> Result<Arc<Self>> {
        let name = entry.name.as_slice();
        let fresh = match fs::mkdirat(parent, name, NEW_DIRECTORY_MODE) {
            Ok(()) => true,
            Err(Errno::EXIST) if parent.fresh => return Err(parent.same_name(name)),
            Err(Errno::EXIST) => false,
            Err(error) => return Err(parent.error("create directory", name, error)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || fs::openat(parent, name, flags, Mode::empty());
        let (mut locked_mode, mut opened) = (None, open());
        if opened.as_ref().is_err_and(|error| *error == Errno::ACCESS) {
            locked_mode = attributes::unlock_unopened(parent, name);
            opened = open();
        }
        let handle = match opened {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let path = parent.path_text(name);
                let message = format!("{path:?} exists and is not a directory");
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
            opened => opened.map_err(|error| parent.error("open directory", name, error))?,
        };
        let mut directory = Self::new(job, handle, Some(Arc::clone(parent)), entry.clone(), fresh, true);
        directory.locked_mode =
            locked_mode.or_else(|| if fresh { None } else { attributes::unlock(&directory) });
        if !fresh && job.options.overwrite == Overwrite::Never {
            directory.check_empty()?;
        }
        Ok(Arc::new(directory))
    }

    fn check_empty(&self) -> Result<()> {
        if is_empty(&self.handle).map_err(|error| self.error("list", b"", error))? {
            return Ok(());
        }
        let message = format!("directory {:?} exists and is not empty", self.path_text(b""));
        Err(Error::new(ErrorKind::AlreadyExists, message))
    }

    /// Lets go of a directory; the last user sets its attributes, then those of its parents likewise.
    pub(super) fn release(directory: Arc<Self>, job: &Job<'_>) {
        let mut last = Some(directory);
        while let Some(directory) = last.take().and_then(Arc::into_inner) {
            directory.finish(job);
            last = directory.parent;
        }
    }

    fn finish(&self, job: &Job<'_>) {
        if !self.finishing || job.is_stopped() {
            return;
        }
        if let Some(mode) = self.locked_mode.filter(|_| !job.options.modes) {
            // Best effort: it was ours to change, and only to work in it.
            let _ = fs::fchmod(&self.handle, mode);
        }
        match attributes::set_on_directory(job, &self.handle, &self.entry) {
            Ok(refused) => job.note_refused(|| self.path(b""), refused),
            Err(error) => return job.fail(self.path(b""), self.error("set attributes of", b"", error)),
        }
        job.directories.fetch_add(1, Ordering::Relaxed);
        crate::progress::Progress::add(&job.progress.directories_done, 1);
    }

    /// Directories that stay open as long as this one does, itself among them.
    pub(super) fn handles_above(&self) -> usize {
        self.depth + 1
    }

    /// An entry is there that this restore has put there: what were two names are one here.
    pub(super) fn same_name(&self, name: &[u8]) -> Error {
        let path = self.path_text(name);
        let message = format!(
            "{path:?} was restored already under the same name: two names of the snapshot are one here, since they \
             were not UTF-8 or the target does not tell upper from lower case"
        );
        Error::new(ErrorKind::AlreadyExists, message).with(SAME_NAME, path)
    }

    /// Path of an entry in here, below the root.
    pub(super) fn path(&self, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut directory = self;
        while let Some(parent) = &directory.parent {
            names.push(&directory.entry.name);
            directory = parent;
        }
        names.retain(|name| !name.is_empty());
        names.reverse();
        names.join(&b'/')
    }

    /// [`Self::path`] for messages; the root is `.`.
    pub(super) fn path_text(&self, name: &[u8]) -> String {
        let path = self.path(name);
        String::from_utf8_lossy(if path.is_empty() { b"." } else { &path }).into_owned()
    }

    /// An error of the target's file system on an entry in here.
    pub(super) fn error(&self, doing: &str, name: &[u8], error: Errno) -> Error {
        target_error(format!("cannot {doing} {:?}", self.path_text(name)), error.into())
    }

    /// Another handle.
    pub(super) fn duplicate(&self) -> Result<OwnedFd> {
        let copy = self.handle.try_clone();
        copy.map_err(|error| target_error("cannot duplicate a directory handle".into(), error))
    }
}

impl AsFd for TargetDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

fn open_by_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty()).map_err(|error| filesystem_error("open directory", path, error))
}

/// Network file systems name their transfer size: then a page is as good a guess as any.
fn block_bytes_of(handle: &OwnedFd) -> usize {
    const USUAL: usize = 4096;
    let found = fs::fstatvfs(handle).map_or(0, |found| found.f_bsize as usize);
    if (512..=65_536).contains(&found) && found.is_power_of_two() { found } else { USUAL }
}

/// Whether a directory has no entries.
fn is_empty(directory: impl AsFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !is_dot(entry?.file_name().to_bytes()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a listed name is the directory itself or its parent.
pub(super) fn is_dot(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}
