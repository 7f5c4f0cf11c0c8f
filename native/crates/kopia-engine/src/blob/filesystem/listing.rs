//! Finding blobs by walking the directories.
//!
//! A blob's name is the directory names and the file name joined, whatever the sharding was when
//! it was written. Files that do not end in `.f` are foreign. What vanishes during the walk was
//! deleted by somebody and is left out.

use super::errors::storage_error;
use super::{BlobMetadata, blob_metadata};
use crate::blob::sharding::BLOB_SUFFIX;
use crate::error::Result;
use kopia_format::BlobId;
use std::fs::{self, DirEntry, FileType, ReadDir};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Made by `mkfs.ext4` in the root of a volume, and not readable by every owner of a repository.
const FOREIGN_DIRECTORY: &[u8] = b"lost+found";

type Each<'a> = &'a mut dyn FnMut(BlobMetadata) -> Result<()>;

/// A directory to be walked and the joined names down to it.
struct Shard {
    path: PathBuf,
    name: Vec<u8>,
}

/// Calls `each` for the blobs under `root` whose names begin with `prefix`.
pub(super) fn list(root: &Path, prefix: &[u8], each: Each<'_>) -> Result<()> {
    let entries = fs::read_dir(root).map_err(|error| storage_error("list directory", root, error))?;
    let mut shards = Vec::new();
    list_shard(&Shard { path: root.to_owned(), name: Vec::new() }, entries, prefix, &mut shards, each)?;
    while let Some(shard) = shards.pop() {
        let entries = unless_vanished(fs::read_dir(&shard.path))
            .map_err(|error| storage_error("list directory", &shard.path, error))?;
        if let Some(entries) = entries {
            list_shard(&shard, entries, prefix, &mut shards, each)?;
        }
    }
    Ok(())
}

fn list_shard(
    shard: &Shard,
    entries: ReadDir,
    prefix: &[u8],
    shards: &mut Vec<Shard>,
    each: Each<'_>,
) -> Result<()> {
    let failed = |error| storage_error("list directory", &shard.path, error);
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = [&shard.name, entry.file_name().as_bytes()].concat();
        let Some(file_type) = unless_vanished(entry.file_type()).map_err(failed)? else { continue };
        if file_type.is_dir() {
            if may_hold(&name, prefix) && name != FOREIGN_DIRECTORY {
                shards.push(Shard { path: entry.path(), name });
            }
        } else if let Some(id) = blob_of(&name, prefix) {
            list_blob(id, &entry, file_type, each)?;
        }
    }
    Ok(())
}

fn list_blob(id: BlobId, entry: &DirEntry, file_type: FileType, each: Each<'_>) -> Result<()> {
    // A repository may have been moved piecewise, with links left behind: their target counts.
    let found = if file_type.is_symlink() { fs::metadata(entry.path()) } else { entry.metadata() };
    let found = unless_vanished(found).map_err(|error| storage_error("stat", &entry.path(), error))?;
    match found {
        Some(found) if found.is_file() => each(blob_metadata(id, &found)),
        _ => Ok(()),
    }
}

/// Whether names that begin with `directory` can begin with `prefix`.
fn may_hold(directory: &[u8], prefix: &[u8]) -> bool {
    directory.starts_with(prefix) || prefix.starts_with(directory)
}

fn blob_of(name: &[u8], prefix: &[u8]) -> Option<BlobId> {
    let id =
        name.strip_suffix(BLOB_SUFFIX.as_bytes()).filter(|id| !id.is_empty() && id.starts_with(prefix))?;
    std::str::from_utf8(id).ok().map(BlobId::new)
}

fn unless_vanished<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
