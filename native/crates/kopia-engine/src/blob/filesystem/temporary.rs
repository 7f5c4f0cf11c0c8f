//! A blob's file under its temporary name, until it is renamed or given up.
//!
//! Temporary names never end in `.f`, so no listing shows them, not even those that a killed
//! process left behind.

use super::Place;
use super::errors::storage_error;
use crate::blob::storage::{BlobWriter, PutOptions};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::ids::encode_hex;
use kopia_format::{BlobId, Timestamp};
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, futimens, linkat, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Smaller pieces are collected up to this length before they are written.
const WRITE_LENGTH_BYTES: usize = 256 << 10;
/// Writeback is started each time this much has been written.
const WRITEBACK_LENGTH_BYTES: u64 = 8 << 20;
const FILE_MODE: u32 = 0o600;

/// Writes `<final path>.tmp.<16 hex>`; removes it when dropped before [`TemporaryFile::publish`].
#[derive(Debug)]
pub(super) struct TemporaryFile {
    place: Arc<Place>,
    id: BlobId,
    path: PathBuf,
    final_path: PathBuf,
    do_not_replace: bool,
    modified: Option<Timestamp>,
    /// `None` once renamed.
    file: Option<File>,
    collected: Vec<u8>,
    written_bytes: u64,
    writeback_bytes: u64,
}

impl TemporaryFile {
    /// Creates the file, and its directory on demand.
    pub(super) fn create(
        place: &Arc<Place>,
        id: &BlobId,
        final_path: PathBuf,
        options: &PutOptions,
    ) -> Result<Self> {
        let path = temporary_path(&final_path)?;
        let file = match create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                place.create_directories_for(&final_path)?;
                create_new(&path)
            }
            result => result,
        };
        let file = file.map_err(|error| storage_error("create blob file", &path, error))?;
        Ok(Self {
            place: Arc::clone(place),
            id: id.clone(),
            path,
            final_path,
            do_not_replace: options.do_not_replace,
            modified: options.modified,
            file: Some(file),
            collected: Vec::new(),
            written_bytes: 0,
            writeback_bytes: 0,
        })
    }

    /// Appends a piece; what is small is collected to one large write.
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<()> {
        if self.collected.len() + piece.len() > WRITE_LENGTH_BYTES {
            self.write_collected()?;
        }
        if piece.len() >= WRITE_LENGTH_BYTES {
            return self.write_through(piece);
        }
        self.collected.extend_from_slice(piece);
        Ok(())
    }

    fn write_collected(&mut self) -> Result<()> {
        let mut collected = std::mem::take(&mut self.collected);
        self.write_through(&collected)?;
        collected.clear();
        self.collected = collected;
        Ok(())
    }

    fn write_through(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|error| storage_error("write blob file", &self.path, error))?;
        self.written_bytes += bytes.len() as u64;
        let waiting_bytes = self.written_bytes - self.writeback_bytes;
        if waiting_bytes >= WRITEBACK_LENGTH_BYTES {
            self.place.durability.start_writeback(file, self.writeback_bytes, waiting_bytes);
            self.writeback_bytes = self.written_bytes;
        }
        Ok(())
    }

    /// Gives the file its final name, whole. See `durability` for what is synced here.
    pub(super) fn publish(mut self) -> Result<()> {
        self.write_collected()?;
        let Some(file) = self.file.take() else { return Ok(()) };
        let published = self.publish_file(file);
        if published.is_err() {
            self.remove();
        }
        published
    }

    fn publish_file(&self, file: File) -> Result<()> {
        if let Some(modified) = self.modified {
            set_modified(&file, modified)
                .map_err(|error| storage_error("set the time of", &self.path, error))?;
        }
        let durability = &self.place.durability;
        let waits = durability.before_rename(self.id.as_str(), &self.path, &file)?;
        if waits {
            let length = self.written_bytes - self.writeback_bytes;
            durability.start_writeback(&file, self.writeback_bytes, length);
        }
        self.rename()?;
        let directory = self.final_path.parent().unwrap_or(&self.place.root);
        durability.renamed(directory, &self.final_path, waits.then_some(file));
        Ok(())
    }

    fn rename(&self) -> Result<()> {
        let renamed = if self.do_not_replace {
            rename_new(&self.path, &self.final_path)
        } else {
            fs::rename(&self.path, &self.final_path)
        };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::new(ErrorKind::AlreadyExists, format!("blob {} exists already", self.id))
            }
            _ => storage_error("rename to blob file", &self.final_path, error),
        })
    }

    fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            // Harmless for the repository: listings ignore the name.
            tracing::warn!(path = %self.path.display(), %error, "temporary file not removed");
        }
    }
}

impl BlobWriter for TemporaryFile {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.append(piece)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.publish()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.remove();
        }
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}

fn set_modified(file: &File, modified: Timestamp) -> io::Result<()> {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Ok(futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

fn temporary_path(final_path: &Path) -> Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("no random bytes: {error}")))?;
    let mut path = final_path.as_os_str().to_owned();
    path.push(format!(".tmp.{}", encode_hex(&random)));
    Ok(path.into())
}

/// Renames unless the target exists. File systems without `RENAME_NOREPLACE` (NFS) get a hard link.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_new(from, to),
        result => Ok(result?),
    }
}

fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    match linkat(CWD, from, CWD, to, AtFlags::empty()) {
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => claim(from, to),
        result => {
            result?;
            fs::remove_file(from)
        }
    }
}

/// Where there are no links either (FUSE over object stores) whoever makes the empty file may replace it.
fn claim(from: &Path, to: &Path) -> io::Result<()> {
    create_new(to)?;
    fs::rename(from, to).inspect_err(|_| drop(fs::remove_file(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each way of the three, as file systems have them or not.
    #[test]
    fn a_file_that_is_there_is_not_replaced() {
        for rename in [rename_new, link_new, claim] {
            let directory = tempfile::tempdir().expect("directory");
            let [first, second, target] =
                ["first", "second", "target"].map(|name| directory.path().join(name));
            fs::write(&first, b"first").expect("write");
            fs::write(&second, b"second").expect("write");
            rename(&first, &target).expect("nothing is there");
            let error = rename(&second, &target).expect_err("something is there");
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&target).expect("read"), b"first");
            assert!(!first.exists() && second.exists());
        }
    }
}
