//! What a device is restored to: a block device, or an image file.
//!
//! Zeroes keep a thin volume thin: punching a hole into a block device is only done by the kernel where the device
//! reads zeroes afterwards (a plain discard promises nothing); else the range is zeroed in place (what the ioctl
//! `BLKZEROOUT` does, with which upstream fills thin volumes), and else zeroes are written. A new image file is all
//! hole. Source: Linux `block/fops.c`, `blkdev_fallocate`.

use super::layout::PIECE_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::source::metadata::describe_io;
use kopia_kernels::is_zero;
use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Blocks of an image file that stay holes.
const FILE_BLOCK_BYTES: usize = 64 << 10;
/// Bytes zeroed by one call: between two, a cancel is seen.
const ZEROED_AT_ONCE_BYTES: u64 = 256 << 20;

/// The ways to zero a range without writing it, the better first.
const PUNCH: u8 = 0;
const ZERO_OUT: u8 = 1;

/// An open target that is large enough.
pub(super) struct Target {
    path: PathBuf,
    file: File,
    is_device: bool,
    /// The best way that has not been refused yet.
    way: AtomicU8,
    pub(super) bytes_written: AtomicU64,
    pub(super) bytes_deallocated: AtomicU64,
}

impl Target {
    /// Opens the device at `path`, or makes (with `overwrite`: empties) an image file of `bytes`.
    ///
    /// # Errors
    /// `NoSpace` for a device that is too small, which is not touched; `AlreadyExists`; `InvalidArgument` for a
    /// directory and the like; `Filesystem`.
    pub(super) fn open(path: &Path, bytes: u64, overwrite: bool) -> Result<Self> {
        let failed = |error: Errno| failure("open", path, &error.into());
        let kind = match rustix::fs::stat(path) {
            Ok(found) => Some(FileType::from_raw_mode(found.st_mode)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(failed(error)),
        };
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let flags = match kind {
            Some(FileType::BlockDevice) => flags,
            Some(FileType::RegularFile) if !overwrite => {
                let message = format!("{} exists already", path.display());
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
            None | Some(FileType::RegularFile) => flags | OFlags::CREATE,
            Some(_) => {
                let message =
                    format!("{} is neither a block device nor a file for its image", path.display());
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        };
        let file = File::from(rustix::fs::open(path, flags, Mode::from(0o600)).map_err(failed)?);
        let is_device = kind == Some(FileType::BlockDevice);
        if is_device {
            check_room(&file, path, bytes)?;
        } else {
            let shaped = file.set_len(0).and_then(|()| file.set_len(bytes));
            shaped.map_err(|error| failure("make an image of the device's size of", path, &error))?;
        }
        let (bytes_written, bytes_deallocated) = Default::default();
        Ok(Self {
            path: path.to_owned(),
            file,
            is_device,
            way: AtomicU8::new(PUNCH),
            bytes_written,
            bytes_deallocated,
        })
    }

    /// Writes `data` at `offset`; what is zero is zeroed as [`Self::zero`] does.
    ///
    /// # Errors
    /// `NoSpace`, `Filesystem`.
    pub(super) fn write(&self, data: &[u8], offset: u64) -> Result<()> {
        if is_zero(data) {
            return self.zero(offset, data.len() as u64);
        }
        if self.is_device {
            return self.put(data, offset);
        }
        let mut at = 0;
        for block in data.chunks(FILE_BLOCK_BYTES) {
            let place = offset + at as u64;
            at += block.len();
            if is_zero(block) {
                self.bytes_deallocated.fetch_add(block.len() as u64, Ordering::Relaxed);
            } else {
                self.put(block, place)?;
            }
        }
        Ok(())
    }

    fn put(&self, data: &[u8], offset: u64) -> Result<()> {
        let written = self.file.write_all_at(data, offset);
        written.map_err(|error| failure(&format!("write at byte {offset} of"), &self.path, &error))?;
        self.bytes_written.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a range of any length read as zeroes. `check` is asked between steps.
    ///
    /// # Errors
    /// `NoSpace`, `Filesystem`; those of `check`.
    pub(super) fn zero_all(&self, mut offset: u64, end: u64, check: &dyn Fn() -> Result<()>) -> Result<()> {
        while offset < end {
            check()?;
            let length = (end - offset).min(ZEROED_AT_ONCE_BYTES);
            self.zero(offset, length)?;
            offset += length;
        }
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> Result<()> {
        if !self.is_device {
            self.bytes_deallocated.fetch_add(length, Ordering::Relaxed);
            return Ok(());
        }
        loop {
            let way = self.way.load(Ordering::Relaxed);
            let done = match way {
                PUNCH => punch(&self.file, offset, length),
                ZERO_OUT => zero_out(&self.file, offset, length),
                _ => return self.write_zeroes(offset, length),
            };
            match done {
                Ok(()) => {
                    let counter = if way == PUNCH { &self.bytes_deallocated } else { &self.bytes_written };
                    counter.fetch_add(length, Ordering::Relaxed);
                    return Ok(());
                }
                // A range that is no multiple of the device's blocks says nothing of the others.
                Err(Errno::INVAL) if !length.is_multiple_of(PIECE_BYTES) => {
                    return self.write_zeroes(offset, length);
                }
                Err(_) => {
                    self.way.fetch_max(way + 1, Ordering::Relaxed);
                }
            }
        }
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<()> {
        let zeroes = vec![0; PIECE_BYTES.min(length) as usize];
        let mut at = 0;
        while at < length {
            let part = (length - at).min(PIECE_BYTES);
            self.put(&zeroes[..part as usize], offset + at)?;
            at += part;
        }
        Ok(())
    }

    /// Brings everything to stable storage.
    ///
    /// # Errors
    /// `NoSpace`, `Filesystem`.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| failure("sync", &self.path, &error))
    }
}

fn check_room(device: &File, path: &Path, bytes: u64) -> Result<()> {
    let room = rustix::fs::seek(device, SeekFrom::End(0));
    let room = room.map_err(|error| failure("find the size of", path, &error.into()))?;
    if room < bytes {
        let message = format!("{} has {room} bytes, the device that was backed up {bytes}", path.display());
        return Err(Error::new(ErrorKind::NoSpace, message));
    }
    Ok(())
}

fn punch(device: &File, offset: u64, length: u64) -> std::result::Result<(), Errno> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(device, flags, offset, length)
}

/// What the ioctl `BLKZEROOUT` does: the device zeroes, or the kernel writes zeroes.
fn zero_out(device: &File, offset: u64, length: u64) -> std::result::Result<(), Errno> {
    let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(device, flags, offset, length)
}

fn failure(doing: &str, path: &Path, error: &io::Error) -> Error {
    let kind = match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => ErrorKind::NoSpace,
        _ => ErrorKind::Filesystem,
    };
    Error::new(kind, format!("cannot {doing} {}: {}", path.display(), describe_io(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_sparse_and_has_the_size() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("image");
        let target = Target::open(&path, 5 << 20, false).expect("made");
        let mut data = vec![0; 1 << 20];
        data[700_000] = 1;
        target.write(&data, 2 << 20).expect("written");
        target.zero_all(3 << 20, 5 << 20, &|| Ok(())).expect("zeroed");
        target.sync().expect("synced");
        let found = std::fs::read(&path).expect("read");
        assert_eq!((found.len(), found[(2 << 20) + 700_000]), (5 << 20, 1));
        assert_eq!(target.bytes_written.load(Ordering::Relaxed), FILE_BLOCK_BYTES as u64);
        assert!(Target::open(&path, 1, false).is_err_and(|error| error.kind == ErrorKind::AlreadyExists));
        assert_eq!(std::fs::metadata(&path).expect("left as it is").len(), 5 << 20);
    }

    #[test]
    fn what_is_no_device_is_left_alone() {
        let directory = tempfile::tempdir().expect("directory");
        for path in [directory.path(), Path::new("/dev/null")] {
            let refused = Target::open(path, 1, true).err().expect("refused");
            assert_eq!(refused.kind, ErrorKind::InvalidArgument);
        }
    }
}
