//! A bucket that was copied to a disk (`rclone copy`, `aws s3 sync`): files under the objects' own names.
//!
//! Kopia's own layout has shards and the ending `.f`; a copy has neither, and Kopia does not open it. Here it is
//! read, and never written: what writes to a repository needs the durability of the other layout.

use super::errors::storage_error;
use super::{BlobMetadata, blob_metadata, check_directory, outside, read_exactly};
use crate::blob::storage::{BlobWriter, PutOptions, Storage};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::{BlobId, Timestamp};
use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};

const FORMAT_BLOB: &str = "kopia.repository";

/// What a listing shows, and how a read ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Blobs of one repository: the files of one directory.
    Repository,
    /// Objects of a bucket: one level of folders at a time; reads end early at an object's end.
    Folders,
}

/// A directory of files named as the objects they are copies of.
#[derive(Debug)]
pub struct FlatFilesStorage {
    root: PathBuf,
    view: View,
}

impl FlatFilesStorage {
    /// Whether `root` holds a repository as a bucket holds it. A `.shards` says nothing: `kopia` leaves one
    /// behind where it found no repository.
    pub fn is_repository(root: &Path) -> bool {
        root.join(FORMAT_BLOB).is_file() && !root.join(format!("{FORMAT_BLOB}.f")).exists()
    }

    /// The repository in the directory `root`.
    ///
    /// # Errors
    /// `RepositoryNotFound` if there is no such directory.
    pub fn open_repository(root: &Path) -> Result<Self> {
        check_directory(root)?;
        Ok(Self { root: root.to_owned(), view: View::Repository })
    }

    /// The objects below `root`: [`super::super::connection::Connection::open_objects`] says what is different.
    ///
    /// # Errors
    /// As [`Self::open_repository`].
    pub fn open_folders(root: &Path) -> Result<Self> {
        check_directory(root)?;
        Ok(Self { root: root.to_owned(), view: View::Folders })
    }

    fn path_of(&self, id: &BlobId) -> Result<PathBuf> {
        let name = id.as_str();
        let is_path = self.view == View::Folders || !name.contains('/');
        if is_path && !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | "..")) {
            return Ok(self.root.join(name));
        }
        Err(Error::new(ErrorKind::InvalidArgument, format!("{name:?} cannot be a file name")))
    }

    fn read_error(&self, id: &BlobId, path: &Path, error: io::Error) -> Error {
        let is_missing = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        if is_missing && self.root.is_dir() {
            let message = format!("blob {id} not found in {}", self.describe());
            return Error::new(ErrorKind::BlobNotFound, message).with("blob", id);
        }
        storage_error("read", path, error)
    }

    /// The length of a file; what is no file (a pipe would never answer) is no object.
    fn file_metadata(&self, id: &BlobId, path: &Path) -> Result<fs::Metadata> {
        let found = fs::metadata(path).map_err(|error| self.read_error(id, path, error))?;
        if found.is_file() {
            return Ok(found);
        }
        Err(self.read_error(id, path, io::ErrorKind::NotFound.into()))
    }

    fn read(&self, id: &BlobId, range: Option<(u64, u64)>, out: &mut Vec<u8>) -> Result<()> {
        let path = self.path_of(id)?;
        let size = self.file_metadata(id, &path)?.len();
        let (offset, mut length) = range.unwrap_or((0, size));
        if self.view == View::Folders {
            length = length.min(size.saturating_sub(offset));
        } else if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(outside(id, offset, length, size));
        }
        out.clear();
        let file = File::open(&path).map_err(|error| self.read_error(id, &path, error))?;
        read_exactly(&file, offset, length, out).map_err(|error| self.read_error(id, &path, error))
    }

    fn refuse<T>(&self, what: &str, id: &BlobId) -> Result<T> {
        let message = format!(
            "cannot {what} blob {id}: {} is a copy of a bucket, which is only read; \
             copy it to a repository of its own with: mover repo sync-to",
            self.describe()
        );
        Err(Error::new(ErrorKind::AccessDenied, message))
    }

    /// What is told of an entry of a directory whose names are to begin with `beginning`.
    fn listed(&self, folder: &str, beginning: &str, entry: &DirEntry) -> io::Result<Option<BlobMetadata>> {
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().filter(|name| name.starts_with(beginning)) else {
            return Ok(None);
        };
        // A link counts as what it leads to; one that leads nowhere is nothing.
        let Some(found) = unless_vanished(fs::metadata(entry.path()))? else { return Ok(None) };
        let (is_folder, is_file) = (found.is_dir(), found.is_file());
        Ok(match self.view {
            View::Repository if is_file && is_blob_name(name) => {
                Some(blob_metadata(BlobId::new(name), &found))
            }
            View::Folders if is_folder => Some(BlobMetadata {
                id: BlobId::new(format!("{folder}{name}/")),
                length: 0,
                timestamp: Timestamp::default(),
            }),
            View::Folders if is_file => Some(blob_metadata(BlobId::new(format!("{folder}{name}")), &found)),
            _ => None,
        })
    }
}

/// Copying programs leave parts under other names (`p….1a2b.partial`), people and systems hidden files.
fn is_blob_name(name: &str) -> bool {
    !name.strip_prefix("kopia.").unwrap_or(name).contains('.')
}

fn unless_vanished<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

impl Storage for FlatFilesStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.read(id, None, out)
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.read(id, Some((offset, length)), out)
    }

    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        let path = self.path_of(id)?;
        Ok(blob_metadata(id.clone(), &self.file_metadata(id, &path)?))
    }

    fn put(&self, id: &BlobId, _pieces: &[&[u8]], _options: &PutOptions) -> Result<()> {
        self.refuse("put", id)
    }

    fn create(&self, id: &BlobId, _options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        self.refuse("put", id)
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        self.refuse("delete", id)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        let (folder, beginning) = prefix.rfind('/').map_or(("", prefix), |at| prefix.split_at(at + 1));
        let directory = match folder.strip_suffix('/') {
            Some(folder) => self.path_of(&BlobId::new(folder))?,
            None => self.root.clone(),
        };
        let failed = |error| storage_error("list directory", &directory, error);
        let entries = match fs::read_dir(&directory) {
            // A folder of a bucket that has nothing in it is none.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.root.is_dir() => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            if let Some(found) = self.listed(folder, beginning, &entry.map_err(failed)?).map_err(failed)? {
                each(found)?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        format!("file://{}", self.root.display())
    }

    fn is_local(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(storage: &FlatFilesStorage, prefix: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut each = |blob: BlobMetadata| {
            found.push(blob.id.as_str().to_owned());
            Ok(())
        };
        storage.list(prefix, &mut each).expect("listed");
        found.sort();
        found
    }

    fn copy_of_a_bucket() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("directory");
        for name in
            ["kopia.repository", ".shards", "p1", "p1.4af0.partial", "xe1", "folder/p2", "folder/in/p3"]
        {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("below the root")).expect("folder");
            fs::write(path, name).expect("file");
        }
        root
    }

    #[test]
    fn a_repository_is_the_blobs_of_one_directory() {
        let root = copy_of_a_bucket();
        assert!(FlatFilesStorage::is_repository(root.path()));
        let storage = FlatFilesStorage::open_repository(root.path()).expect("open");
        assert_eq!(names(&storage, ""), ["kopia.repository", "p1", "xe1"]);
        assert_eq!(names(&storage, "p"), ["p1"]);
        let mut out = Vec::new();
        storage.get_range(&"xe1".into(), 1, 2, &mut out).expect("range");
        assert_eq!(out, b"e1");
        let outside = storage.get_range(&"xe1".into(), 1, 3, &mut out).expect_err("too long");
        assert_eq!(outside.kind, ErrorKind::InvalidRange);
        for name in ["folder/p2", "..", "", "folder"] {
            assert!(storage.get(&name.into(), &mut out).is_err(), "{name:?}");
        }
    }

    #[test]
    fn folders_are_listed_level_by_level_and_reads_end_at_the_end() {
        let root = copy_of_a_bucket();
        let storage = FlatFilesStorage::open_folders(root.path()).expect("open");
        assert_eq!(names(&storage, "folder/"), ["folder/in/", "folder/p2"]);
        assert_eq!(names(&storage, "folder/i"), ["folder/in/"]);
        assert_eq!(names(&storage, "nothing/"), [""; 0]);
        let mut out = Vec::new();
        storage.get_range(&"folder/p2".into(), 7, 1 << 40, &mut out).expect("up to the end");
        assert_eq!(out, b"p2");
        storage.get_range(&"folder/p2".into(), 1 << 40, 5, &mut out).expect("behind the end");
        assert_eq!(out, b"");
        for name in ["../x", "folder/../p1", "/etc/passwd", "folder//p2", "folder/p2/x"] {
            assert!(storage.get(&name.into(), &mut out).is_err(), "{name:?}");
        }
    }

    #[test]
    fn nothing_is_ever_written() {
        let root = copy_of_a_bucket();
        let storage = FlatFilesStorage::open_repository(root.path()).expect("open");
        let (id, options) = ("p9".into(), PutOptions::default());
        let refused = [storage.put(&id, &[b"1"], &options), storage.delete(&"p1".into())];
        for result in refused.into_iter().chain([storage.create(&id, &options).map(drop)]) {
            let error = result.expect_err("refused");
            assert_eq!(error.kind, ErrorKind::AccessDenied);
            assert!(error.to_string().contains("sync-to"), "{error}");
        }
        assert_eq!(names(&storage, "p"), ["p1"]);
    }
}
