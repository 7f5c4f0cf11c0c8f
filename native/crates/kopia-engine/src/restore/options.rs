//! What a restore is asked for and what it says afterwards.

use crate::error::Error;
use kopia_format::snapshot::DirectoryEntry;
use std::io::Write;
use std::path::PathBuf;

/// What is restored.
#[derive(Debug, Clone)]
pub enum RestoreSource {
    /// `ID/SUB/PATH`: a snapshot or an object, as [`crate::tree::resolve`] reads it.
    Named(String),
    /// An entry that is known already.
    Entry(Box<DirectoryEntry>),
}

/// Where it goes.
pub enum RestoreTarget<'a> {
    /// A directory to fill, made if missing; of a file, its new path; an existing block device is
    /// treated as [`Self::Device`].
    Path(PathBuf),
    /// An existing device, or file written over in place, that takes the bytes of one file.
    Device(PathBuf),
    /// The bytes of one file, in order.
    Stream(&'a mut (dyn Write + Send)),
    /// A tar archive of the tree.
    Tar(&'a mut (dyn Write + Send)),
}

/// What happens to what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Directories are filled, files and symlinks replaced (Kopia's default).
    #[default]
    Always,
    /// Like `Always`, but regular files of the same size and a time less than two seconds off are
    /// left, and so are symlinks: what goes on after an interruption (Kopia's `--skip-existing`).
    Skip,
    /// Directories must be empty; an existing file or symlink is a failed entry.
    Never,
}

/// How to restore. The default is Kopia's, but sparse.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// What happens to what is there already.
    pub overwrite: Overwrite,
    /// Delete what the snapshot does not have from directories that it does have.
    pub delete_extra: bool,
    /// Leave holes where blocks of the target are all zero. Not on devices, which hold old bytes.
    pub sparse: bool,
    /// Set user and group.
    pub owners: bool,
    /// Set permission bits.
    pub modes: bool,
    /// Set modification (and, equal to it, access) times.
    pub times: bool,
    /// Go on where user, group, mode or time may not be set, and count it.
    pub ignore_permission_errors: bool,
    /// Count and list failed entries instead of ending at the first.
    pub ignore_errors: bool,
    /// Threads that read and write; `None` is one a core (more where the storage is far away).
    pub parallelism: Option<usize>,
    /// Bytes in buffers at once.
    pub memory_budget_bytes: u64,
    /// Bring everything to stable storage at the end. Devices are always synced.
    pub sync: bool,
    /// Failed entries kept by name; all are counted.
    pub failures_listed_max: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            overwrite: Overwrite::Always,
            delete_extra: false,
            sparse: true,
            owners: true,
            modes: true,
            times: true,
            ignore_permission_errors: true,
            ignore_errors: false,
            parallelism: None,
            memory_budget_bytes: 40 << 20,
            sync: false,
            failures_listed_max: 1000,
        }
    }
}

/// An entry that was not restored.
#[derive(Debug)]
pub struct Failure {
    /// Path below the root, `/` between names.
    pub path: Vec<u8>,
    /// Why.
    pub error: Error,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreResult {
    /// Files restored.
    pub file_count: u64,
    /// Directories restored, the root among them.
    pub directory_count: u64,
    /// Symlinks restored.
    pub symlink_count: u64,
    /// Entries left because they were there and equal.
    pub skipped_count: u64,
    /// Entries deleted because the snapshot does not have them.
    pub deleted_count: u64,
    /// Plain bytes of files restored, holes among them.
    pub file_bytes: u64,
    /// Entries that failed.
    pub failed_count: u64,
    /// The first of them.
    pub failures: Vec<Failure>,
    /// Entries that were restored, but for an owner, permissions or times that the system refused to set.
    pub refused_count: u64,
    /// The first of them.
    pub refused: Vec<Failure>,
    /// Reads that the storage was asked for, those of the tree itself left out.
    pub storage_requests: u64,
    /// Bytes that they asked for.
    pub storage_bytes: u64,
    /// Of these, stored bytes of contents that were needed.
    pub needed_bytes: u64,
}
