//! Files of the cache, and the room that they take.
//!
//! One file a blob, under `<root>/<16 hex digits of the location>/<blob name>`:
//!
//! | offset | bytes | meaning                                   |
//! |--------|-------|-------------------------------------------|
//! | 0      | 8     | `KDMCACH1`                                |
//! | 8      | 8     | length of the blob, little-endian         |
//! | 16     | 32    | BLAKE3 of the blob                        |
//! | 48     |       | the blob as stored, sealed                |
//!
//! Beside them stand files of others (`content/index_cache`), which take part in the budget and check themselves.
//!
//! Room is made and files are added under one lock file, so that the budget holds over all
//! processes, and a temporary file that is seen under the lock is one of a process that was
//! killed. The least recently used file goes first; a reader that has it open keeps it.

use kopia_format::BlobId;
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

const MAGIC: &[u8; 8] = b"KDMCACH1";
const HEADER_BYTES: usize = 48;
const TEMPORARY_SUFFIX: &str = ".tmp";
const CHECK_BUFFER_BYTES: usize = 256 << 10;

/// The files of one location.
#[derive(Debug)]
pub(crate) struct CacheDirectory {
    root: PathBuf,
    directory: PathBuf,
    bytes_max: u64,
    is_usable: AtomicBool,
}

/// A blob whose file was checked; stays readable when the file is removed.
#[derive(Debug)]
pub(super) struct CachedBlob {
    file: File,
    length: u64,
}

impl CachedBlob {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Replaces `out` by a range; `None` if it is not inside, or cannot be read.
    pub(super) fn read(&self, offset: u64, length: u64, out: &mut Vec<u8>) -> Option<()> {
        offset.checked_add(length).filter(|end| *end <= self.length)?;
        out.clear();
        out.resize(usize::try_from(length).ok()?, 0);
        self.file.read_exact_at(out, offset + HEADER_BYTES as u64).ok()
    }

    /// Reads and checks the header and the whole file.
    fn check(file: File) -> io::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (length, digest) = rest.split_at(size_of::<u64>());
        let length = length.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte));
        if magic != MAGIC || Some(file.metadata()?.len()) != length.checked_add(HEADER_BYTES as u64) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHECK_BUFFER_BYTES];
        let mut offset = 0;
        while offset < length {
            let part = usize::try_from(length - offset).unwrap_or(usize::MAX).min(buffer.len());
            file.read_exact_at(&mut buffer[..part], offset + HEADER_BYTES as u64)?;
            hasher.update(&buffer[..part]);
            offset += part as u64;
        }
        if hasher.finalize().as_bytes() != digest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { file, length })
    }
}

struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl CacheDirectory {
    pub(crate) fn new(root: &Path, location: &str, bytes_max: u64) -> Self {
        let hash = blake3::hash(location.as_bytes()).to_hex();
        let directory = root.join(&hash[..16]);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        if let Err(error) = &made {
            tracing::warn!(%error, path = %directory.display(), "no cache: its directory cannot be made");
        }
        Self { root: root.to_owned(), directory, bytes_max, is_usable: AtomicBool::new(made.is_ok()) }
    }

    /// `false` after a failure to keep a blob: then nothing more is tried.
    pub(super) fn is_usable(&self) -> bool {
        self.is_usable.load(Ordering::Relaxed)
    }

    /// Bound of all files together.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// A name that came from a storage is a file name only if it has no slash.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let is_plain = !name.contains('/') && !name.starts_with('.') && !name.ends_with(TEMPORARY_SUFFIX);
        is_plain.then(|| self.directory.join(name))
    }

    /// Names of files that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let names = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix) && !name.ends_with(TEMPORARY_SUFFIX)).collect()
    }

    /// A file, unchecked; it counts as used now.
    pub(crate) fn open_file(&self, name: &str) -> Option<(File, PathBuf)> {
        let path = self.path(name)?;
        let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
        // The time of change is the time of use. It only steers what goes first.
        let _ = rustix::fs::futimens(&file, &now());
        Some((file, path))
    }

    /// The blob, if it is there and whole; a damaged file is removed.
    pub(super) fn open(&self, id: &BlobId) -> Option<CachedBlob> {
        let (file, path) = self.open_file(id.as_str())?;
        match CachedBlob::check(file) {
            Ok(blob) => Some(blob),
            Err(error) => {
                tracing::warn!(%error, blob = id.as_str(), "damaged file in the cache: it is removed");
                let _ = fs::remove_file(path);
                None
            }
        }
    }

    pub(crate) fn remove(&self, name: &str) {
        if let Some(path) = self.path(name) {
            let _ = fs::remove_file(path);
        }
    }

    /// Keeps a blob if there is room. A failure ends the caching of this process, and nothing else.
    pub(super) fn store<'a>(&self, id: &BlobId, pieces: impl Iterator<Item = &'a [u8]> + Clone) {
        let needed = (pieces.clone().map(<[u8]>::len).sum::<usize>() + HEADER_BYTES) as u64;
        let write = &mut |file: &mut File| write_blob(file, pieces.clone());
        self.store_file(id.as_str(), needed, FlockOperation::LockExclusive, write);
    }

    /// Keeps a file of at most `needed` bytes unless another process is just writing one; whether it is there now.
    /// `write` may be long. A failure ends the caching of this process, and nothing else.
    pub(crate) fn try_write(
        &self,
        name: &str,
        needed: u64,
        write: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> bool {
        self.store_file(name, needed, FlockOperation::NonBlockingLockExclusive, write)
    }

    fn store_file(
        &self,
        name: &str,
        needed: u64,
        lock: FlockOperation,
        write: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> bool {
        let Some(path) = self.path(name).filter(|_| self.is_usable() && needed <= self.bytes_max) else {
            return false;
        };
        match self.write_locked(&path, needed, lock, write) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                tracing::warn!(%error, "the cache cannot be written: going on without");
                self.is_usable.store(false, Ordering::Relaxed);
                false
            }
        }
    }

    fn write_locked(
        &self,
        path: &Path,
        needed: u64,
        operation: FlockOperation,
        write: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.root.join("lock"))?;
        rustix::fs::flock(&lock, operation)?;
        self.make_room(needed)?;
        let mut name = path.as_os_str().to_owned();
        name.push(TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(name);
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).mode(0o600).open(&temporary);
        let written = file.and_then(|mut file| write(&mut file)).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the least recently used files until `needed` bytes more are within the budget.
    fn make_room(&self, needed: u64) -> io::Result<()> {
        let mut kept = self.kept()?;
        let mut total: u64 = kept.iter().map(|file| file.bytes).sum();
        kept.sort_by_key(|file| file.used);
        for file in kept {
            if total + needed <= self.bytes_max {
                break;
            }
            fs::remove_file(&file.path)?;
            total -= file.bytes;
        }
        Ok(())
    }

    /// All files of all locations; what a killed process left is removed.
    fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for location in fs::read_dir(&self.root)? {
            let location = location?.path();
            if !location.is_dir() {
                continue;
            }
            for entry in fs::read_dir(location)? {
                let entry = entry?;
                if entry.file_name().as_encoded_bytes().ends_with(TEMPORARY_SUFFIX.as_bytes()) {
                    fs::remove_file(entry.path())?;
                    continue;
                }
                // Another process may have removed it as damaged.
                let Ok(meta) = entry.metadata() else { continue };
                let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                kept.push(Kept { path: entry.path(), bytes: meta.len(), used });
            }
        }
        Ok(kept)
    }
}

fn now() -> rustix::fs::Timestamps {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::Timestamps { last_access: now, last_modification: now }
}

fn write_blob<'a>(file: &mut File, pieces: impl Iterator<Item = &'a [u8]> + Clone) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let mut length = 0;
    for piece in pieces.clone() {
        hasher.update(piece);
        length += piece.len() as u64;
    }
    file.write_all(MAGIC)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(hasher.finalize().as_bytes())?;
    pieces.into_iter().try_for_each(|piece| file.write_all(piece))
}
