//! Blobs as files of a directory, in Kopia's layout (format document §1.3).
//!
//! `sharding` says where a blob lies, `temporary` how it is written, `durability` when it is on
//! stable storage, `errors` what the operating system's errors mean. Kopia may work in the same
//! directory at the same time: foreign files are ignored, and files may vanish at any moment.
//!
//! Source: Kopia `repo/blob/filesystem/filesystem_storage.go`, `repo/blob/sharded/sharded.go`.

mod durability;
mod errors;
mod flat;
mod listing;
mod temporary;

pub use flat::FlatFilesStorage;

use super::sharding::{SHARDS_FILE_NAME, SHARDS_WHEN_CREATING, SHARDS_WHEN_MISSING, Sharding};
use super::storage::{BlobMetadata, BlobWriter, PutOptions, Storage};
use crate::error::{Error, ErrorKind, Result};
use durability::Durability;
use errors::storage_error;
use kopia_format::{BlobId, Timestamp};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use temporary::TemporaryFile;

const DIRECTORY_MODE: u32 = 0o700;

/// Where the directory is, and how it is treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemOptions {
    /// Root directory of the storage.
    pub root: PathBuf,
    /// Whether `sync` brings data to stable storage; `false` is what Kopia 0.22 does.
    pub sync: bool,
    /// Sharding of a new storage; `None` is Kopia's `[1,3]`. Not used where `.shards` exists.
    pub shards: Option<Vec<usize>>,
}

impl FilesystemOptions {
    /// Durable, with Kopia's sharding.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), sync: true, shards: None }
    }
}

/// A directory of blobs.
#[derive(Debug)]
pub struct FilesystemStorage {
    place: Arc<Place>,
    sharding: Sharding,
    /// Whether `.shards` is there. A missing one is written before the first put, not when
    /// opening: a read-only directory must be readable.
    sharding_stored: AtomicBool,
}

/// What blob writers share with their storage.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    durability: Durability,
}

impl FilesystemStorage {
    /// Opens an existing directory and obeys its `.shards`; `[3,3]` if that is missing.
    ///
    /// # Errors
    /// `RepositoryNotFound` if the directory does not exist; `Corrupted` if `.shards` cannot be
    /// read; `AccessDenied`.
    pub fn open(options: &FilesystemOptions) -> Result<Self> {
        Self::open_place(options, Durability::new(options.sync))
    }

    fn open_place(options: &FilesystemOptions, durability: Durability) -> Result<Self> {
        check_directory(&options.root)?;
        let stored = read_sharding(&options.root)?;
        Ok(Self {
            place: Arc::new(Place { root: options.root.clone(), durability }),
            sharding_stored: AtomicBool::new(stored.is_some()),
            sharding: stored.unwrap_or_else(|| Sharding::new(&SHARDS_WHEN_MISSING)),
        })
    }

    /// Makes the directory (and those above it) if it is missing, and stores `.shards`, unless it
    /// exists: then that is obeyed.
    ///
    /// # Errors
    /// `AccessDenied`, `NoSpace`, `Corrupted` as for [`Self::open`].
    pub fn initialize(options: &FilesystemOptions) -> Result<Self> {
        let durability = Durability::new(options.sync);
        create_root(&options.root, &durability)?;
        let mut storage = Self::open_place(options, durability)?;
        if !storage.sharding_stored.load(Ordering::Relaxed) {
            storage.sharding = Sharding::new(options.shards.as_deref().unwrap_or(&SHARDS_WHEN_CREATING));
            match storage.store_sharding() {
                // Who came first decides.
                Err(error) if error.temporary => storage.sharding = storage.stored_sharding()?,
                result => result?,
            }
        }
        Ok(storage)
    }

    /// The sharding in use.
    pub fn sharding(&self) -> &Sharding {
        &self.sharding
    }

    fn path_of(&self, id: &BlobId) -> Result<PathBuf> {
        Ok(self.place.root.join(self.sharding.path_of(id)?))
    }

    /// Of two clients that store it at once one wins: with the other's layout what it puts would not be found.
    fn store_sharding(&self) -> Result<()> {
        let id = BlobId::new(SHARDS_FILE_NAME);
        let mut file = TemporaryFile::create(
            &self.place,
            &id,
            self.place.root.join(SHARDS_FILE_NAME),
            &PutOptions { do_not_replace: true, ..PutOptions::default() },
        )?;
        file.append(&self.sharding.to_json())?;
        match file.publish() {
            Err(error) if error.kind == ErrorKind::AlreadyExists => self.check_sharding()?,
            result => result?,
        }
        self.sharding_stored.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn stored_sharding(&self) -> Result<Sharding> {
        let stored = read_sharding(&self.place.root)?;
        Ok(stored.unwrap_or_else(|| Sharding::new(&SHARDS_WHEN_MISSING)))
    }

    /// # Errors
    /// `Storage`, which may pass when the place is opened again, if another client gave it another layout meanwhile.
    fn check_sharding(&self) -> Result<()> {
        if read_sharding(&self.place.root)?.is_some_and(|stored| stored.to_json() == self.sharding.to_json())
        {
            return Ok(());
        }
        let message = format!(
            "another client has just given {} a {SHARDS_FILE_NAME} of its own: try again",
            self.describe()
        );
        Err(Error::new(ErrorKind::Storage, message).temporary())
    }

    fn start_file(&self, id: &BlobId, options: &PutOptions) -> Result<TemporaryFile> {
        if options.retention.is_some() {
            let message =
                format!("cannot put blob {id}: a file system has no object lock; remove the retention");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        if !self.sharding_stored.load(Ordering::Relaxed) {
            self.store_sharding()?;
        }
        TemporaryFile::create(&self.place, id, self.path_of(id)?, options)
    }

    /// A missing file is a missing blob only while the root is there.
    fn read_error(&self, id: &BlobId, path: &Path, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound if self.place.root.is_dir() => {
                Error::new(ErrorKind::BlobNotFound, format!("blob {id} not found in {}", self.describe()))
                    .with("blob", id)
            }
            io::ErrorKind::NotFound => storage_error("reach", &self.place.root, error),
            _ => storage_error("read blob file", path, error),
        }
    }

    /// Reads the whole blob, or exactly `range` (offset and length).
    fn read(&self, id: &BlobId, range: Option<(u64, u64)>, out: &mut Vec<u8>) -> Result<()> {
        let path = self.path_of(id)?;
        let failed = |error| self.read_error(id, &path, error);
        let file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let (offset, length) = range.unwrap_or((0, size));
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(outside(id, offset, length, size));
        }
        read_exactly(&file, offset, length, out).map_err(failed)
    }
}

impl Place {
    /// Makes the directories between the root and `path`, never the root: where that is gone,
    /// the file system is not mounted.
    fn create_directories_for(&self, path: &Path) -> Result<()> {
        let relative = path.strip_prefix(&self.root).ok().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut directory = self.root.clone();
        for name in relative.components() {
            let parent = directory.clone();
            directory.push(name);
            match DirBuilder::new().mode(DIRECTORY_MODE).create(&directory) {
                Ok(()) => self.durability.directory_created_in(&parent),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(storage_error("create directory", &directory, error)),
            }
        }
        Ok(())
    }
}

impl Storage for FilesystemStorage {
    fn get(&self, id: &BlobId, out: &mut Vec<u8>) -> Result<()> {
        self.read(id, None, out)
    }

    fn get_range(&self, id: &BlobId, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        self.read(id, Some((offset, length)), out)
    }

    fn metadata(&self, id: &BlobId) -> Result<BlobMetadata> {
        let path = self.path_of(id)?;
        let found = fs::metadata(&path).map_err(|error| self.read_error(id, &path, error))?;
        Ok(blob_metadata(id.clone(), &found))
    }

    fn put(&self, id: &BlobId, pieces: &[&[u8]], options: &PutOptions) -> Result<()> {
        let mut file = self.start_file(id, options)?;
        for piece in pieces {
            file.append(piece)?;
        }
        file.publish()
    }

    fn create(&self, id: &BlobId, options: &PutOptions) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(self.start_file(id, options)?))
    }

    fn delete(&self, id: &BlobId) -> Result<()> {
        let path = self.path_of(id)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(storage_error("delete blob file", &path, error))
            }
            _ => Ok(()),
        }
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(BlobMetadata) -> Result<()>) -> Result<()> {
        listing::list(&self.place.root, prefix.as_bytes(), each)
    }

    fn sync(&self) -> Result<()> {
        self.place.durability.sync()
    }

    fn describe(&self) -> String {
        format!("file://{}", self.place.root.display())
    }

    fn is_local(&self) -> bool {
        true
    }
}

fn blob_metadata(id: BlobId, found: &fs::Metadata) -> BlobMetadata {
    let nanoseconds = u32::try_from(found.mtime_nsec()).unwrap_or_default();
    BlobMetadata { id, length: found.len(), timestamp: Timestamp { seconds: found.mtime(), nanoseconds } }
}

fn outside(id: &BlobId, offset: u64, length: u64, size: u64) -> Error {
    let message = format!("blob {id} has {size} bytes, {length} from offset {offset} were asked for");
    Error::new(ErrorKind::InvalidRange, message).with("blob", id)
}

/// Replaces `out` by `length` bytes from `offset`; fails with `UnexpectedEof` if the file ends before.
fn read_exactly(file: &File, offset: u64, length: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let wanted = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    out.clear();
    while out.len() < wanted {
        match kopia_kernels::append_at(file, offset + out.len() as u64, wanted - out.len(), out) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn check_directory(root: &Path) -> Result<()> {
    match fs::metadata(root) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => {
            Err(Error::new(ErrorKind::InvalidArgument, format!("{} is not a directory", root.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = format!("directory {} does not exist: is it mounted?", root.display());
            Err(Error::new(ErrorKind::RepositoryNotFound, message))
        }
        Err(error) => Err(storage_error("open directory", root, error)),
    }
}

fn read_sharding(root: &Path) -> Result<Option<Sharding>> {
    let path = root.join(SHARDS_FILE_NAME);
    match fs::read(&path) {
        Ok(json) => Sharding::parse(&json).map(Some).map_err(|error| error.while_doing(path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(storage_error("read", &path, error)),
    }
}

/// `mkdir -p`, remembering each parent that got an entry.
fn create_root(root: &Path, durability: &Durability) -> Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_root(parent, durability)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(storage_error("create directory", root, error))
        }
        _ => {
            durability.directory_created_in(parent.unwrap_or(Path::new(".")));
            Ok(())
        }
    }
}
