//! Metadata of one source entry, as far as Kopia records or compares it.
//!
//! Source: Kopia `fs/localfs/local_fs_os.go`.

use kopia_format::Timestamp;
use kopia_format::snapshot::mode_bits;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Kind of a source entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// `NAME.kopia-entry` as a file: stands for an entry that is in the repository already.
    PlaceholderFile,
    /// `NAME.kopia-entry` as a directory.
    PlaceholderDirectory,
    /// A device, FIFO or socket.
    Other,
    /// The listing did not say.
    Unknown,
}

/// Suffix of shallow placeholders.
pub const PLACEHOLDER_SUFFIX: &[u8] = b".kopia-entry";

impl Kind {
    /// The kind of an entry called `name` of this file type.
    pub fn of(file_type: FileType, name: &[u8]) -> Self {
        let placeholder = name.ends_with(PLACEHOLDER_SUFFIX);
        match file_type {
            FileType::RegularFile if placeholder => Self::PlaceholderFile,
            FileType::Directory if placeholder => Self::PlaceholderDirectory,
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink if !placeholder => Self::Symlink,
            FileType::Unknown => Self::Unknown,
            _ => Self::Other,
        }
    }
    /// Whether Kopia sorts it among the directories.
    pub fn sorts_as_directory(self) -> bool {
        matches!(self, Self::Directory | Self::PlaceholderDirectory)
    }
}

/// Metadata of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Type of the file.
    pub file_type: FileType,
    /// Go's mode bits without the type.
    pub mode: u32,
    /// Length in bytes; of a symbolic link the length of its target.
    pub size: u64,
    /// Time of the last change of the contents.
    pub modified: Timestamp,
    /// Time of the last change of anything, which nobody can set; zero where it was not kept.
    pub changed: Timestamp,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device and inode, to recognise hard links and mount points.
    pub device: u64,
    /// Inode on the device.
    pub inode: u64,
    /// Number of hard links.
    pub links: u32,
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS;

impl From<&Statx> for Metadata {
    fn from(stat: &Statx) -> Self {
        Self {
            file_type: FileType::from_raw_mode(u32::from(stat.stx_mode)),
            mode: mode_bits::from_unix(u32::from(stat.stx_mode)),
            size: stat.stx_size,
            // As Kopia keeps times: beyond the year 2262 they wrap, and are summed up so.
            modified: Timestamp { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec }
                .wrapped(),
            changed: Timestamp { seconds: stat.stx_ctime.tv_sec, nanoseconds: stat.stx_ctime.tv_nsec },
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
            inode: stat.stx_ino,
            links: stat.stx_nlink,
        }
    }
}

impl Metadata {
    /// Metadata of `name` in `directory`, not following a link.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_name(directory: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(directory, name, flags, WANTED).map(|stat| Self::from(&stat))
    }
    /// Metadata of an open file.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_handle(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, WANTED).map(|stat| Self::from(&stat))
    }
}

/// Opens a file for reading, never a link, never waiting for the other end of a FIFO.
///
/// # Errors
/// What the system says; `ELOOP` for a link.
pub fn open_file(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Opens a file for reading, following links that stay beneath `root`, never waiting for the other end of a
/// FIFO.
///
/// # Errors
/// `XDEV` for what leads out of `root`; what else the system says.
pub fn open_file_beneath(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Opens a directory, never through a link.
///
/// # Errors
/// What the system says.
pub fn open_directory(parent: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Whether an open directory was deleted. A file system may keep no count of links, so the kernel's own mark is
/// looked at too: nothing can be listed of such a directory.
pub fn is_deleted(directory: BorrowedFd<'_>) -> bool {
    let is_gone = |error: &Errno| matches!(*error, Errno::NOENT | Errno::STALE);
    if Metadata::of_handle(directory).map_or_else(|error| is_gone(&error), |found| found.links == 0) {
        return true;
    }
    // Too small for an entry: a living directory answers with another error, or its end.
    let mut buffer = [MaybeUninit::<u8>::uninit(); 16];
    RawDir::new(directory, &mut buffer)
        .next()
        .is_some_and(|listed| listed.is_err_and(|error| is_gone(&error)))
}

/// The system's words for an error, lower case, without its number.
pub fn describe(error: Errno) -> String {
    describe_io(&std::io::Error::from(error))
}

/// The system's words for an error, lower case, without its number.
pub fn describe_io(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}
