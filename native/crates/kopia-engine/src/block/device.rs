//! Reading a device, or an image file that stands for one, piece by piece from several threads.
//!
//! Past the page cache where that is allowed: the mover's pod is charged for cached pages, and a device is read
//! once. Holes of image files are known from `SEEK_DATA`; a device does not tell its own.

use super::layout::{PIECE_BYTES, piece_length};
use crate::error::{Error, ErrorKind, Result};
use crate::source::metadata::describe_io;
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What direct reads want their memory and lengths to be multiples of: no device has larger blocks.
const ALIGNMENT_BYTES: usize = 4096;

/// An open device.
pub(super) struct Device {
    path: PathBuf,
    direct: Option<File>,
    buffered: File,
    is_file: bool,
    /// Size in bytes.
    pub(super) size: u64,
}

impl Device {
    /// Opens a block device or regular file for reading; `direct`: past the page cache if it allows that.
    ///
    /// # Errors
    /// `Filesystem` if it cannot be opened; `InvalidArgument` for anything else, and for one without bytes.
    pub(super) fn open(path: &Path, direct: bool) -> Result<Self> {
        let failed = |error: Errno| unreadable(path, None, &error.into());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let buffered = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?);
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&buffered).map_err(failed)?.st_mode);
        if !matches!(kind, FileType::BlockDevice | FileType::RegularFile) {
            let message = format!("{} is neither a block device nor an image file of one", path.display());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let size = rustix::fs::seek(&buffered, SeekFrom::End(0)).map_err(failed)?;
        if size == 0 {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("{} has no bytes", path.display())));
        }
        let direct =
            direct.then(|| rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()).ok()).flatten();
        let is_file = kind == FileType::RegularFile;
        Ok(Self { path: path.to_owned(), direct: direct.map(File::from), buffered, is_file, size })
    }

    /// Reads a piece into `buffer`, zeroes behind the device's end.
    ///
    /// # Errors
    /// `Filesystem`, also if the device became shorter.
    pub(super) fn read_piece(&self, index: u64, buffer: &mut PieceBuffer) -> Result<()> {
        let (offset, length) = (index * PIECE_BYTES, piece_length(index, self.size) as usize);
        let piece = buffer.bytes_mut();
        // A direct read may be refused for reasons of its own (alignment): the other way decides.
        let done = match &self.direct {
            Some(file) => read_fully(file, piece, length, offset)
                .or_else(|_| read_fully(&self.buffered, piece, length, offset)),
            None => read_fully(&self.buffered, piece, length, offset),
        };
        done.map_err(|error| unreadable(&self.path, Some(offset), &error))?;
        piece[length..].fill(0);
        Ok(())
    }

    /// First byte at or after `offset` that may not be zero: a device tells no holes.
    pub(super) fn data_from(&self, offset: u64) -> u64 {
        if !self.is_file {
            return offset;
        }
        match rustix::fs::seek(&self.buffered, SeekFrom::Data(offset)) {
            Ok(data) => data,
            Err(Errno::NXIO) => self.size,
            Err(_) => offset,
        }
    }
}

/// Reads `length` bytes; asks for whole blocks, as direct reads must, so the last of them may come short.
fn read_fully(file: &File, piece: &mut [u8], length: usize, offset: u64) -> io::Result<()> {
    let asked = length.next_multiple_of(ALIGNMENT_BYTES).min(piece.len());
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut piece[filled..asked], offset + filled as u64) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter")),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unreadable(path: &Path, offset: Option<u64>, error: &io::Error) -> Error {
    let at = offset.map_or_else(String::new, |offset| format!(" at byte {offset}"));
    let message = format!("cannot read the device {}{at}: {}", path.display(), describe_io(error));
    Error::new(ErrorKind::Filesystem, message)
}

/// Memory for one piece, aligned as direct reads want it.
pub(super) struct PieceBuffer {
    memory: Vec<u8>,
    start: usize,
}

impl PieceBuffer {
    pub(super) fn new() -> Self {
        let memory = vec![0; PIECE_BYTES as usize + ALIGNMENT_BYTES];
        let start = memory.as_ptr().align_offset(ALIGNMENT_BYTES);
        Self { memory, start: start.min(ALIGNMENT_BYTES) }
    }
    /// The piece.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + PIECE_BYTES as usize]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + PIECE_BYTES as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn pieces_are_padded_and_holes_are_told() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.as_file_mut().set_len(4 << 20).expect("sparse");
        file.as_file().write_at(b"island", 2 << 20).expect("written");
        file.as_file_mut().set_len((3 << 20) + 100).expect("odd size");
        for direct in [true, false] {
            let device = Device::open(file.path(), direct).expect("opened");
            assert_eq!(device.size, (3 << 20) + 100);
            let mut buffer = PieceBuffer::new();
            device.read_piece(2, &mut buffer).expect("read");
            assert_eq!(&buffer.bytes()[..6], b"island");
            device.read_piece(3, &mut buffer).expect("read");
            assert!(kopia_kernels::is_zero(buffer.bytes()));
            assert!(device.data_from(0) > 0 && device.data_from(0) <= 2 << 20);
        }
    }

    #[test]
    fn a_device_that_becomes_shorter_is_an_error_that_names_the_place() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(&vec![7; 3 << 20]).expect("written");
        let device = Device::open(file.path(), true).expect("opened");
        file.as_file_mut().set_len(5000).expect("cut");
        let error = device.read_piece(1, &mut PieceBuffer::new()).expect_err("gone");
        assert!(error.to_string().contains("at byte 1048576"), "{error}");
        assert!(Device::open(Path::new("/"), true).is_err());
        assert!(Device::open(Path::new("/dev/null"), true).is_err());
    }
}
