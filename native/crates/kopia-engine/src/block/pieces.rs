//! The pieces of a stored device, read from its list one by one.

use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectReader, extents};
use crate::repository::Repository;
use crate::tree;
use kopia_format::ObjectId;
use kopia_format::error::FormatError;
use kopia_format::indirect::{self, IndirectEntry};
use kopia_format::snapshot::{DirectoryEntry, EntryType, SnapshotManifest};

/// Levels of indirect pieces that are followed: Kopia joins objects, and nobody nests them deeper.
const NESTING_MAX: usize = 8;

/// The only entry of a device's directory.
///
/// # Errors
/// `InvalidArgument` if the snapshot is of no device: not exactly one file.
pub(super) fn only_file(repository: &Repository, snapshot: &SnapshotManifest) -> Result<DirectoryEntry> {
    let id = snapshot.id.as_ref().map_or("", |id| id.as_str());
    let root = snapshot.root_entry.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Corrupted, format!("snapshot {id} has no root entry")).with("snapshot", id)
    })?;
    let (mut first, mut count) = (None, 0u64);
    tree::for_each_entry(repository.contents(), tree::directory_object(root)?, &mut |entry| {
        first.get_or_insert(entry);
        count += 1;
        Ok(())
    })?;
    match first {
        Some(file) if count == 1 && file.entry_type == EntryType::File => Ok(file),
        _ => {
            let message =
                format!("snapshot {id} is of no block device: it holds {count} entries, not one file");
            Err(Error::new(ErrorKind::InvalidArgument, message).with("snapshot", id))
        }
    }
}

/// Calls `each` for every piece of an object in order, of whatever length; gives the object's length. The list
/// is never held in memory.
///
/// # Errors
/// Those of reading the list; `Corrupted` if it contradicts itself; the first of `each`, unchanged.
pub(super) fn for_each_piece(
    contents: &ContentManager,
    object: ObjectId,
    each: &mut dyn FnMut(IndirectEntry) -> Result<()>,
) -> Result<u64> {
    if object.indirection == 0 {
        return extents(contents, object, &mut |extent| {
            each(IndirectEntry { start: extent.start, length: extent.length, object: extent.object })
        });
    }
    pieces_of(contents, object, 0, 0, each)
}

fn pieces_of(
    contents: &ContentManager,
    object: ObjectId,
    base: u64,
    level: usize,
    each: &mut dyn FnMut(IndirectEntry) -> Result<()>,
) -> Result<u64> {
    if level > NESTING_MAX {
        let message = format!("object {object} is joined of objects more than {NESTING_MAX} levels deep");
        return Err(Error::new(ErrorKind::Corrupted, message).with("object", object));
    }
    let list = ObjectId { indirection: object.indirection - 1, ..object };
    let mut stopped = None;
    let end = indirect::decode_each(ObjectReader::open(contents, list)?, &mut |entry| {
        give(contents, entry, base, level, each).map_err(|error| {
            stopped = Some(error);
            FormatError::malformed("index object", "left early")
        })
    });
    match (stopped, end) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => {
            Err(Error::from(error).while_doing(format!("object {object}")).with("object", object))
        }
        (None, Ok(end)) => Ok(end),
    }
}

fn give(
    contents: &ContentManager,
    entry: IndirectEntry,
    base: u64,
    level: usize,
    each: &mut dyn FnMut(IndirectEntry) -> Result<()>,
) -> Result<()> {
    let start = base + entry.start;
    if entry.object.indirection == 0 {
        return each(IndirectEntry { start, ..entry });
    }
    let found = pieces_of(contents, entry.object, start, level + 1, each)?;
    if found != entry.length {
        let message =
            format!("object {} has {found} bytes where its list says {}", entry.object, entry.length);
        return Err(Error::new(ErrorKind::Corrupted, message).with("object", entry.object));
    }
    Ok(())
}
