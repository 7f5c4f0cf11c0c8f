//! Restore: a snapshot tree, or one file of it, to a directory, a device, a stream or a tar archive.
//!
//! One thread walks the tree and makes directories (`plan`); files gather in batches, which are
//! sorted by pack and offset and cut into groups (`batch`); workers read a group, open and hash it
//! side by side and write what it holds (`worker`, `file`). Nothing is written through a path: every step is
//! relative to a directory handle opened without following symlinks (`directory`).
//! Streams and archives need order instead: `ordered`, `archive`.

mod archive;
mod attributes;
mod batch;
mod directory;
mod errors;
mod existing;
mod file;
mod job;
mod options;
mod ordered;
mod plan;
mod sparse;
mod worker;

pub use options::{Failure, Overwrite, RestoreOptions, RestoreResult, RestoreSource, RestoreTarget};

use crate::cancel::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::tree;
use directory::TargetDirectory;
use errors::target_error;
use file::{LargeFile, Placement};
use job::Job;
use kopia_format::snapshot::{DirectoryEntry, EntryType};
use plan::Planner;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

/// Restores `what` to `target`.
///
/// Existing files are treated as [`Overwrite`] says; nothing outside of the target is ever written.
/// A file that fails is removed, never left with wrong or missing bytes. With `ignore_errors` failures are in
/// the result; else the first one ends the restore. After a cancel the same call with
/// [`Overwrite::Skip`] goes on with what is missing.
///
/// # Errors
/// `Canceled`; `ManifestNotFound` and `ObjectNotFound` for a source that is not there;
/// `InvalidArgument` for a target that does not fit; the first failed entry unless `ignore_errors`.
///
/// Source: Kopia `snapshot/restore/restore.go`, `snapshot/restore/local_fs_output.go`.
pub fn restore(
    repository: &Repository,
    what: RestoreSource,
    target: RestoreTarget<'_>,
    options: &RestoreOptions,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<RestoreResult> {
    let root = match what {
        RestoreSource::Named(path) => tree::resolve(repository, &path)?,
        RestoreSource::Entry(entry) => *entry,
    };
    let job = Job::new(repository.contents(), options, progress, cancel);
    job.expect(&root);
    match target {
        RestoreTarget::Path(path) if is_block_device(&path) => to_device(&job, root, &path)?,
        RestoreTarget::Path(path) if root.entry_type == EntryType::Directory => {
            to_directory(&job, &root, &path)?;
        }
        RestoreTarget::Path(path) => to_file(&job, root, &path)?,
        RestoreTarget::Device(path) => to_device(&job, root, &path)?,
        RestoreTarget::Stream(out) => ordered::to_stream(&job, &root, out)?,
        RestoreTarget::Tar(out) => archive::to_tar(&job, root, out)?,
    }
    job.finish()
}

/// Closes the file that a stream or an archive went to, brought to stable storage if `sync` says so: only now does a
/// network file system tell that it could not keep what was written.
///
/// # Errors
/// `NoSpace`, `Filesystem`: what was written is not whole.
pub fn close_output(out: File, sync: bool) -> Result<()> {
    let failed = |error: std::io::Error| target_error("cannot write the output".into(), error);
    // Pipes, sockets and terminals have nothing that could be synced.
    if sync && out.metadata().is_ok_and(|found| found.file_type().is_file()) {
        out.sync_all().map_err(failed)?;
    }
    kopia_kernels::close(out).map_err(|error| failed(error.into()))
}

fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

fn to_directory(job: &Job<'_>, root: &DirectoryEntry, path: &Path) -> Result<()> {
    let directory = TargetDirectory::open_root(job, root, path)?;
    let handle = directory.duplicate()?;
    Planner::run(job, |planner| planner.directory(root, directory))?;
    if job.options.sync {
        rustix::fs::syncfs(&handle).map_err(|error| filesystem_error("sync", path, error))?;
    }
    Ok(())
}

fn to_file(job: &Job<'_>, mut entry: DirectoryEntry, path: &Path) -> Result<()> {
    let invalid = || Error::new(ErrorKind::InvalidArgument, format!("{} names no file", path.display()));
    entry.name = path.file_name().ok_or_else(invalid)?.as_bytes().to_vec();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = TargetDirectory::open_parent(job, parent.unwrap_or(Path::new(".")))?;
    let handle = parent.duplicate()?;
    Planner::run(job, |planner| planner.entry(&parent, entry))?;
    if job.options.sync {
        rustix::fs::syncfs(&handle).map_err(|error| filesystem_error("sync", path, error))?;
    }
    Ok(())
}

/// The bytes of one file to a device, or over an existing file; its name and attributes do not matter
/// (Velero's block-mode snapshots have file names with slashes).
fn to_device(job: &Job<'_>, root: DirectoryEntry, path: &Path) -> Result<()> {
    let entry = single_file(job, root)?;
    let device = File::options().write(true).open(path);
    let device =
        device.map_err(|error| target_error(format!("cannot open {} for writing", path.display()), error))?;
    check_room(&device, &entry, path)?;
    let synced = device
        .try_clone()
        .map_err(|error| target_error(format!("cannot duplicate the handle of {}", path.display()), error))?;
    let object = tree::object_of(&entry)?;
    let file = Arc::new(LargeFile::new(job, entry, Placement::Device(device)));
    Planner::run(job, |planner| planner.parts(&file, object))?;
    LargeFile::release(file, job);
    synced.sync_all().map_err(|error| target_error(format!("cannot sync {}", path.display()), error))
}

fn check_room(device: &File, entry: &DirectoryEntry, path: &Path) -> Result<()> {
    if !device.metadata().is_ok_and(|found| found.file_type().is_block_device()) {
        return Ok(());
    }
    let room = rustix::fs::seek(device, rustix::fs::SeekFrom::End(0))
        .map_err(|error| filesystem_error("find the size of", path, error))?;
    if room < entry.size.max(0).cast_unsigned() {
        let message = format!("{} has {room} bytes, the file has {}", path.display(), entry.size);
        return Err(Error::new(ErrorKind::NoSpace, message));
    }
    Ok(())
}

/// The root if it is a file, else the only file that it holds.
fn single_file(job: &Job<'_>, root: DirectoryEntry) -> Result<DirectoryEntry> {
    if root.entry_type == EntryType::File {
        return Ok(root);
    }
    let mut files = Vec::new();
    tree::for_each_entry(job.contents, tree::directory_object(&root)?, &mut |entry| {
        if files.len() < 2 {
            files.push(entry);
        }
        Ok(())
    })?;
    match (files.pop(), files.pop()) {
        (Some(only), None) if only.entry_type == EntryType::File => Ok(only),
        _ => {
            let message = "a device or stream takes one file; name it with ID/PATH";
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
    }
}

/// An error of the target's file system.
fn filesystem_error(doing: &str, path: &Path, error: rustix::io::Errno) -> Error {
    target_error(format!("cannot {doing} {}", path.display()), error.into())
}
