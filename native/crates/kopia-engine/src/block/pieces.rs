//! The pieces of a stored device, read from its list one by one.

use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use crate::object::extents;
use crate::repository::Repository;
use crate::tree;
use kopia_format::ObjectId;
use kopia_format::indirect::IndirectEntry;
use kopia_format::snapshot::{DirectoryEntry, EntryType, SnapshotManifest};

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
    extents(contents, object, &mut |extent| {
        each(IndirectEntry { start: extent.start, length: extent.length, object: extent.object })
    })
}
