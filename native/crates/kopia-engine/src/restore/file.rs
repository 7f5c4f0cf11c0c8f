//! Making files: small ones in one go, large ones part by part from several threads, symlinks.
//!
//! A file that fails is removed: one with holes where bytes are lost would be a wrong file.

use super::attributes::{self, Creation, Current, Refused};
use super::directory::TargetDirectory;
use super::errors::target_error;
use super::existing;
use super::job::{Handle, Job};
use super::options::Overwrite;
use super::sparse::write_sparse;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use kopia_format::snapshot::DirectoryEntry;
use kopia_kernels::is_zero;
use parking_lot::Mutex;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const WRITE_FLAGS: OFlags = OFlags::WRONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const MAKE_FLAGS: OFlags = WRITE_FLAGS.union(OFlags::CREATE).union(OFlags::EXCL);

/// A file made or emptied, and what it has.
struct Opened {
    file: File,
    current: Current,
}

/// Makes the file `entry` in `directory`, or empties the one that is there.
fn open(job: &Job<'_>, directory: &TargetDirectory, entry: &DirectoryEntry) -> Result<Opened> {
    let mode = attributes::mode_to_create_with(job, entry, directory.creation.get());
    match fs::openat(directory, entry.name.as_slice(), MAKE_FLAGS, mode) {
        Ok(handle) => made(job, directory, entry, handle.into(), mode),
        Err(Errno::EXIST) if directory.fresh => Err(directory.same_name(&entry.name)),
        Err(Errno::EXIST) if job.options.overwrite == Overwrite::Never => {
            Err(already_exists(directory, entry))
        }
        Err(Errno::EXIST) => empty(job, directory, entry),
        Err(error) => Err(directory.error("create file", &entry.name, error)),
    }
}

fn made(
    job: &Job<'_>,
    directory: &TargetDirectory,
    entry: &DirectoryEntry,
    file: File,
    mode: Mode,
) -> Result<Opened> {
    let requested = mode.as_raw_mode();
    if let Some(creation) = directory.creation.get() {
        return Ok(Opened { file, current: Current::created(creation, job, requested) });
    }
    let found = fs::fstat(&file).map_err(|error| directory.error("look at", &entry.name, error))?;
    // Another thread may have learned the same meanwhile.
    let _ = directory.creation.set(Creation::learn(job, &found, requested));
    Ok(Opened { file, current: Current::from(&found) })
}

/// Empties a regular file that is there. Anything else, files with other names (hard links, which may
/// lie outside of the target) and files that deny being written (0444) are replaced instead; directories and devices
/// are refused.
fn empty(job: &Job<'_>, directory: &TargetDirectory, entry: &DirectoryEntry) -> Result<Opened> {
    let name = entry.name.as_slice();
    let failed = |error| directory.error("overwrite", name, error);
    let found = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile if found.st_nlink == 1 => {
            match fs::openat(directory, name, WRITE_FLAGS | OFlags::NONBLOCK, Mode::empty()) {
                Ok(handle) => {
                    let file = File::from(handle);
                    let opened = fs::fstat(&file).map_err(failed)?;
                    if (opened.st_dev, opened.st_ino, opened.st_nlink) == (found.st_dev, found.st_ino, 1) {
                        fs::ftruncate(&file, 0).map_err(failed)?;
                        let current = Current::from(&opened);
                        return Ok(Opened { file, current });
                    }
                }
                Err(Errno::ACCESS) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        FileType::RegularFile | FileType::Symlink => {}
        _ => return Err(already_exists(directory, entry)),
    }
    fs::unlinkat(directory, name, AtFlags::empty()).map_err(failed)?;
    let mode = attributes::mode_to_create_with(job, entry, directory.creation.get());
    let handle = fs::openat(directory, name, MAKE_FLAGS, mode).map_err(failed)?;
    made(job, directory, entry, handle.into(), mode)
}

fn already_exists(directory: &TargetDirectory, entry: &DirectoryEntry) -> Error {
    let message = format!("{:?} exists already", directory.path_text(&entry.name));
    Error::new(ErrorKind::AlreadyExists, message)
}

fn expected_length(entry: &DirectoryEntry) -> u64 {
    entry.size.max(0).cast_unsigned()
}

/// Restores a file whose bytes are all at hand.
pub(super) fn write_whole(job: &Job<'_>, directory: &TargetDirectory, entry: &DirectoryEntry, data: &[u8]) {
    let restored = open(job, directory, entry).and_then(|Opened { file, current }| {
        let written = fill(job, directory, entry, &file, data);
        let set = attributes::set(job, &file, entry, current);
        // The last word of a network file system on what was written comes with the close.
        written.and_then(|()| Ok(kopia_kernels::close(file)?)).map_err(|error| {
            // Best effort: the failure is told in any case.
            let _ = fs::unlinkat(directory, entry.name.as_slice(), AtFlags::empty());
            let path = directory.path_text(&entry.name);
            target_error(format!("cannot write file {path:?}"), error)
        })?;
        Ok(set)
    });
    match restored {
        Ok(set) => {
            note_attributes(job, directory, entry, set);
            count_file(job, data.len() as u64);
        }
        Err(error) => job.fail(directory.path(&entry.name), error),
    }
}

/// Tells what became of the attributes of a file that is written: it stays in any case.
fn note_attributes(
    job: &Job<'_>,
    directory: &TargetDirectory,
    entry: &DirectoryEntry,
    set: rustix::io::Result<Option<Refused>>,
) {
    match set {
        Ok(refused) => job.note_refused(|| directory.path(&entry.name), refused),
        Err(error) => {
            let path = directory.path(&entry.name);
            job.fail(path, directory.error("set attributes of", &entry.name, error));
        }
    }
}

fn fill(
    job: &Job<'_>,
    directory: &TargetDirectory,
    entry: &DirectoryEntry,
    file: &File,
    data: &[u8],
) -> io::Result<()> {
    let sparse = job.options.sparse && data.len() >= directory.block_bytes;
    if sparse {
        write_sparse(file, data, 0, directory.block_bytes)?;
    } else {
        file.write_all_at(data, 0)?;
    }
    // An object may be shorter than its entry says (checkpoints of unfinished files): zeros follow, as in Kopia.
    let length = expected_length(entry).max(data.len() as u64);
    if sparse || length > data.len() as u64 { file.set_len(length) } else { Ok(()) }
}

fn count_file(job: &Job<'_>, bytes: u64) {
    job.files.fetch_add(1, Ordering::Relaxed);
    job.file_bytes.fetch_add(bytes, Ordering::Relaxed);
    Progress::add(&job.progress.files_done, 1);
    Progress::add(&job.progress.bytes_written, bytes);
}

/// Restores a symlink. One that is there is replaced, anything else refused.
pub(super) fn write_symlink(
    job: &Job<'_>,
    directory: &TargetDirectory,
    entry: &DirectoryEntry,
    target: &[u8],
) {
    match make_symlink(job, directory, entry, target) {
        Ok(()) => {
            note_attributes(job, directory, entry, attributes::set_on_symlink(job, directory, entry));
            job.symlinks.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => job.fail(directory.path(&entry.name), error),
    }
}

fn make_symlink(
    job: &Job<'_>,
    directory: &TargetDirectory,
    entry: &DirectoryEntry,
    target: &[u8],
) -> Result<()> {
    let name = entry.name.as_slice();
    let failed = |error| directory.error("create symlink", name, error);
    match fs::symlinkat(target, directory, name) {
        Err(Errno::EXIST) if directory.fresh => return Err(directory.same_name(name)),
        Err(Errno::EXIST) if job.options.overwrite != Overwrite::Never => {}
        Err(Errno::EXIST) => return Err(already_exists(directory, entry)),
        result => return result.map_err(failed),
    }
    let found = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
        return Err(already_exists(directory, entry));
    }
    fs::unlinkat(directory, name, AtFlags::empty()).map_err(failed)?;
    fs::symlinkat(target, directory, name).map_err(failed)
}

/// Where a large file goes.
pub(super) enum Placement {
    /// A name in a directory.
    In(Arc<TargetDirectory>),
    /// A device or file that is there, written over in place.
    Device(File),
}

/// A file of several contents, written by whoever has one of them. Opened at the first part; gets
/// length and attributes when the last user lets go.
pub(super) struct LargeFile {
    entry: DirectoryEntry,
    placement: Placement,
    state: Mutex<State>,
    /// Length of the object as far as it was planned, in bytes.
    length: AtomicU64,
    _held: Handle,
}

enum State {
    Unopened,
    Open(Arc<Opened>),
    /// Written and closed.
    Closed,
    /// Told already.
    Failed,
}

impl LargeFile {
    pub(super) fn new(job: &Job<'_>, entry: DirectoryEntry, placement: Placement) -> Self {
        let state = Mutex::new(State::Unopened);
        Self { entry, placement, state, length: AtomicU64::new(0), _held: job.handles.hold() }
    }

    /// The object has bytes up to here at least.
    pub(super) fn reaches(&self, length: u64) {
        self.length.fetch_max(length, Ordering::Relaxed);
    }

    /// Notes that the file cannot be restored; only the first reason is told.
    pub(super) fn fail(&self, job: &Job<'_>, error: Error) {
        self.fail_in(&mut self.state.lock(), job, error);
    }

    fn fail_in(&self, state: &mut State, job: &Job<'_>, error: Error) {
        let before = std::mem::replace(state, State::Failed);
        if matches!(before, State::Failed) {
            return;
        }
        job.fail(self.path(), error);
        // Only once it was emptied: before, what is there is the user's.
        if let (State::Open(_) | State::Closed, Placement::In(directory)) = (before, &self.placement) {
            let _ = fs::unlinkat(directory, self.entry.name.as_slice(), AtFlags::empty());
        }
    }

    fn path(&self) -> Vec<u8> {
        match &self.placement {
            Placement::In(directory) => directory.path(&self.entry.name),
            Placement::Device(_) => self.entry.name.clone(),
        }
    }

    /// The open file; `None` if it has failed.
    fn opened(&self, job: &Job<'_>) -> Option<Arc<Opened>> {
        let Placement::In(directory) = &self.placement else { return None };
        let mut state = self.state.lock();
        match &*state {
            State::Open(opened) => return Some(Arc::clone(opened)),
            State::Failed | State::Closed => return None,
            State::Unopened => {}
        }
        match open(job, directory, &self.entry) {
            Ok(opened) => {
                let opened = Arc::new(opened);
                *state = State::Open(Arc::clone(&opened));
                Some(opened)
            }
            Err(error) => {
                *state = State::Failed;
                job.fail(self.path(), error);
                None
            }
        }
    }

    /// Writes a part; `all_zero` if that is known of `data`.
    pub(super) fn write(&self, job: &Job<'_>, offset: u64, data: &[u8], all_zero: bool) {
        let written = match &self.placement {
            Placement::Device(device) => device.write_all_at(data, offset),
            Placement::In(directory) => {
                let Some(opened) = self.opened(job) else { return };
                match job.options.sparse {
                    true if all_zero => Ok(()),
                    true => write_sparse(&opened.file, data, offset, directory.block_bytes),
                    false => opened.file.write_all_at(data, offset),
                }
            }
        };
        match written {
            Ok(()) => Progress::add(&job.progress.bytes_written, data.len() as u64),
            Err(error) => {
                let path = String::from_utf8_lossy(&self.path()).into_owned();
                self.fail(job, target_error(format!("cannot write {path:?}"), error));
            }
        }
    }

    /// Lets go of the file; the last user finishes it, or removes it if the restore was stopped.
    pub(super) fn release(file: Arc<Self>, job: &Job<'_>) {
        let Some(file) = Arc::into_inner(file) else { return };
        if job.is_stopped() {
            file.fail(job, Error::new(ErrorKind::Canceled, "stopped"));
        } else {
            file.finish(job);
        }
        if let Placement::In(directory) = file.placement {
            TargetDirectory::release(directory, job);
        }
    }

    fn finish(&self, job: &Job<'_>) {
        let length = self.length.load(Ordering::Relaxed);
        if let Placement::In(directory) = &self.placement {
            let Some(opened) = self.opened(job) else { return };
            let finished = opened.file.set_len(length.max(expected_length(&self.entry)));
            let set = attributes::set(job, &opened.file, &self.entry, opened.current);
            *self.state.lock() = State::Closed;
            // Nobody else has it: the last user finishes.
            let closed = Arc::into_inner(opened).map_or(Ok(()), |opened| kopia_kernels::close(opened.file));
            if let Err(error) = finished.and_then(|()| Ok(closed?)) {
                let path = String::from_utf8_lossy(&self.path()).into_owned();
                return self.fail(job, target_error(format!("cannot finish file {path:?}"), error));
            }
            note_attributes(job, directory, &self.entry, set);
        } else if matches!(*self.state.lock(), State::Failed) {
            return;
        }
        job.files.fetch_add(1, Ordering::Relaxed);
        job.file_bytes.fetch_add(length, Ordering::Relaxed);
        Progress::add(&job.progress.files_done, 1);
    }
}

/// Whether a content that goes to `uses` places is worth a look for zeros first.
pub(super) fn all_zero_if_repeated(uses: usize, data: &[u8]) -> bool {
    uses > 1 && is_zero(data)
}

/// Whether the target has the entry already, so that nothing need be read for it.
pub(super) fn skip_restored(job: &Job<'_>, directory: &TargetDirectory, entry: &DirectoryEntry) -> bool {
    let skip = job.options.overwrite == Overwrite::Skip
        && !directory.fresh
        && existing::is_restored(directory, entry);
    if skip {
        job.skipped.fetch_add(1, Ordering::Relaxed);
        Progress::add(&job.progress.files_cached, 1);
        Progress::add(&job.progress.bytes_cached, expected_length(entry));
    }
    skip
}
