//! Snapshot trees read from a repository: roots, entries, directories as streams, files.
//!
//! Directories are never held whole: a million entries pass one by one. Entries carry their own
//! stored `mtime`; Kopia shows a directory's newest child instead (format document §7.6), we do not.
//! Comparing two trees is in `diff`.

mod diff;

pub use diff::{Change, Difference, diff};

use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectReader, read_direct};
use crate::repository::Repository;
use kopia_format::snapshot::{Directory, DirectoryEntry, DirectorySummary, EntryType, SnapshotManifest};
use kopia_format::{FormatError, ManifestId, ObjectId, Timestamp};
use std::cell::Cell;

/// Prefix of contents that hold directories.
const DIRECTORY_PREFIX: u8 = b'k';
/// Directories within each other; twice what a path can name. What is deeper is refused, by uploads too:
/// each level that is being read takes stack and memory, and a hostile tree may go on for ever.
pub const LEVELS_MAX: usize = 4096;
/// Stack of a thread that walks a tree: it recurses once for each level of directories.
pub const WALK_STACK_BYTES: usize = 64 << 20;

thread_local! {
    /// Directories that this thread is reading, each within the one before.
    static LEVELS: Cell<usize> = const { Cell::new(0) };
}
/// Permission bits where only an object is known, not the entry that named it.
const DIRECTORY_MODE_UNKNOWN: u32 = 0o755;
const FILE_MODE_UNKNOWN: u32 = 0o644;

/// Loads a snapshot manifest.
///
/// # Errors
/// `ManifestNotFound`, also for a manifest of another type; `Corrupted` for one that cannot be read.
pub fn open_snapshot(repository: &Repository, id: &ManifestId) -> Result<SnapshotManifest> {
    let (metadata, payload) = repository.manifests().get(id)?;
    if metadata.labels.get("type").map(String::as_str) != Some("snapshot") {
        let message = format!("manifest {id} is not a snapshot");
        return Err(Error::new(ErrorKind::ManifestNotFound, message).with("manifest", id));
    }
    SnapshotManifest::decode(payload.get().as_bytes(), id.clone())
        .map_err(|error| Error::from(error).while_doing(format!("snapshot {id}")))
}

/// The entry that `ID/SUB/PATH` names. `ID` is a snapshot's manifest ID, or an object ID (`k…` is a
/// directory, any other a file, both with attributes made up); empty names between slashes are passed over.
///
/// # Errors
/// `ManifestNotFound`; `ObjectNotFound` for a path that is not in the tree; those of reading contents.
pub fn resolve(repository: &Repository, path: &str) -> Result<DirectoryEntry> {
    let (id, below) = path.split_once('/').unwrap_or((path, ""));
    resolve_below(repository.contents(), root_entry(repository, id)?, below.as_bytes())
}

/// The entry at a path (`/` between names) below `root`.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_below(contents: &ContentManager, root: DirectoryEntry, path: &[u8]) -> Result<DirectoryEntry> {
    let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    names.try_fold(root, |entry, name| {
        let found = find_entry(contents, &entry, name)?;
        found.ok_or_else(|| {
            let (name, parent) = (String::from_utf8_lossy(name), String::from_utf8_lossy(&entry.name));
            Error::new(ErrorKind::ObjectNotFound, format!("there is no entry {name:?} in {parent:?}"))
        })
    })
}

/// The root entry of a snapshot, or an entry for a bare object ID.
///
/// # Errors
/// As [`resolve`].
pub fn root_entry(repository: &Repository, id: &str) -> Result<DirectoryEntry> {
    match open_snapshot(repository, &ManifestId::new(id)) {
        Ok(snapshot) => snapshot.root_entry.ok_or_else(|| {
            Error::new(ErrorKind::Corrupted, format!("snapshot {id} has no root entry")).with("snapshot", id)
        }),
        Err(error) if error.kind == ErrorKind::ManifestNotFound => match ObjectId::parse(id) {
            // An ID that is neither: most likely a snapshot's was meant.
            Ok(object) => match entry_of_object(repository, object) {
                Err(missing) if missing.kind == ErrorKind::ContentNotFound => Err(error),
                found => found,
            },
            Err(_) => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn entry_of_object(repository: &Repository, object: ObjectId) -> Result<DirectoryEntry> {
    let directory = object.content.prefix() == Some(DIRECTORY_PREFIX);
    let (entry_type, mode, size) = if directory {
        (EntryType::Directory, DIRECTORY_MODE_UNKNOWN, 0)
    } else {
        let length = ObjectReader::open(repository.contents(), object)?.length();
        (EntryType::File, FILE_MODE_UNKNOWN, i64::try_from(length).unwrap_or(i64::MAX))
    };
    Ok(DirectoryEntry {
        name: object.to_string().into_bytes(),
        entry_type,
        mode,
        size,
        modified: Timestamp::default(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        object: Some(object),
        summary: None,
    })
}

/// Calls `each` for the entries of a directory in stored order, without holding them all; gives
/// the summary.
///
/// # Errors
/// Those of reading contents; `Corrupted`, naming the object, for what is not a directory, or nested too
/// deeply; the first error of `each`, unchanged.
pub fn for_each_entry(
    contents: &ContentManager,
    directory: ObjectId,
    each: &mut dyn FnMut(DirectoryEntry) -> Result<()>,
) -> Result<Option<DirectorySummary>> {
    let _level = Level::enter(directory)?;
    let mut stopped: Option<Error> = None;
    let mut give = |entry| {
        each(entry).map_err(|error| {
            stopped = Some(error);
            FormatError::malformed("directory object", "left early")
        })
    };
    let summary = if directory.indirection == 0 {
        let mut json = Vec::new();
        read_direct(contents, directory, &mut json)?;
        Directory::decode_each_slice(&json, &mut |entry| give(entry.into_owned()))
    } else {
        Directory::decode_each(ObjectReader::open(contents, directory)?, &mut give)
    };
    match (stopped, summary) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => {
            Err(Error::from(error).while_doing(format!("directory {directory}")).with("object", directory))
        }
        (None, Ok(summary)) => Ok(summary),
    }
}

/// Does `work` in a thread whose stack a deep tree does not exhaust, and waits for it.
///
/// # Errors
/// What `work` says; `Internal` if there is no such thread, or if it panicked.
pub(crate) fn on_walk_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let internal = |message: &str| Error::new(ErrorKind::Internal, message);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(WALK_STACK_BYTES);
        let started = thread
            .spawn_scoped(scope, work)
            .map_err(|error| internal("cannot start a thread to walk a tree").caused_by(error))?;
        started.join().map_err(|_| internal("the thread that walked a tree panicked"))?
    })
}

/// A directory that is being read.
struct Level;

impl Level {
    fn enter(directory: ObjectId) -> Result<Self> {
        if LEVELS.get() >= LEVELS_MAX {
            let message = format!("directory {directory} is nested more than {LEVELS_MAX} levels deep");
            return Err(Error::new(ErrorKind::Corrupted, message).with("object", directory));
        }
        LEVELS.set(LEVELS.get() + 1);
        Ok(Self)
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        LEVELS.set(LEVELS.get() - 1);
    }
}

/// The object of a directory entry.
///
/// # Errors
/// `InvalidArgument` for what is no directory; `Corrupted` for an entry without an object.
pub fn directory_object(entry: &DirectoryEntry) -> Result<ObjectId> {
    if entry.entry_type == EntryType::Directory {
        return object_of(entry);
    }
    let name = String::from_utf8_lossy(&entry.name);
    Err(Error::new(ErrorKind::InvalidArgument, format!("{name:?} is not a directory")))
}

/// The object of any entry.
///
/// # Errors
/// `Corrupted` for an entry without one.
pub fn object_of(entry: &DirectoryEntry) -> Result<ObjectId> {
    entry.object.ok_or_else(|| {
        let name = String::from_utf8_lossy(&entry.name);
        Error::new(ErrorKind::Corrupted, format!("entry {name:?} names no object"))
    })
}

/// The entry called `name` in a directory.
///
/// # Errors
/// As [`for_each_entry`] and [`directory_object`].
pub fn find_entry(
    contents: &ContentManager,
    directory: &DirectoryEntry,
    name: &[u8],
) -> Result<Option<DirectoryEntry>> {
    let mut found = None;
    for_each_entry(contents, directory_object(directory)?, &mut |entry| {
        if found.is_none() && entry.name == name {
            found = Some(entry);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Opens the bytes of a file, or the target of a symlink.
///
/// # Errors
/// `InvalidArgument` for a directory; those of reading contents.
pub fn open_file<'a>(contents: &'a ContentManager, entry: &DirectoryEntry) -> Result<ObjectReader<'a>> {
    if entry.entry_type == EntryType::Directory {
        let name = String::from_utf8_lossy(&entry.name);
        return Err(Error::new(ErrorKind::InvalidArgument, format!("{name:?} is a directory")));
    }
    ObjectReader::open(contents, object_of(entry)?)
}

/// Calls `each` with the path (relative, `/` between names, empty for the root) of every entry of
/// a tree, parents before their children.
///
/// # Errors
/// As [`for_each_entry`].
pub fn walk(
    contents: &ContentManager,
    root: DirectoryEntry,
    each: &mut dyn FnMut(&[u8], &DirectoryEntry) -> Result<()>,
) -> Result<()> {
    walk_below(contents, &mut Vec::new(), root, each)
}

fn walk_below(
    contents: &ContentManager,
    path: &mut Vec<u8>,
    entry: DirectoryEntry,
    each: &mut dyn FnMut(&[u8], &DirectoryEntry) -> Result<()>,
) -> Result<()> {
    each(path, &entry)?;
    if entry.entry_type != EntryType::Directory {
        return Ok(());
    }
    for_each_entry(contents, directory_object(&entry)?, &mut |child| {
        let length = path.len();
        push_name(path, &child.name);
        let walked = walk_below(contents, path, child, each);
        path.truncate(length);
        walked
    })?;
    Ok(())
}

/// Appends a name to a path.
pub(crate) fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
