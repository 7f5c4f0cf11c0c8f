//! What is uploaded: a directory tree, a single file, a stream or a block device.
//!
//! Everything that touches the source file system lives here (listing, metadata, opening); what
//! is done with it lives in `upload`. Nothing is ever followed: names are opened relative to the
//! handle of their directory with `O_NOFOLLOW`, so a tree that changes meanwhile cannot lead outside.

pub mod ahead;
pub mod listing;
pub mod measure;
pub mod metadata;
mod seen;

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

/// What an upload reads.
pub enum Source {
    /// A directory tree or a single file. The path itself was resolved by the caller (a symbolic
    /// link in its last component is refused).
    Path(PathBuf),
    /// A stream of unknown length that becomes the only file of a virtual directory, as
    /// `kopia snapshot create PATH --stdin-file NAME` writes it.
    Stream {
        /// Name of the virtual directory.
        directory_name: Vec<u8>,
        /// Name of the file.
        file_name: Vec<u8>,
        /// The bytes.
        reader: Box<dyn Read + Send>,
    },
    /// A block device (or a regular file that stands for one), read to its end; recorded as
    /// Velero does: directory and file are both named by the full path.
    BlockDevice(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Stream { file_name, .. } => f
                .debug_struct("Stream")
                .field("file_name", &String::from_utf8_lossy(file_name))
                .finish_non_exhaustive(),
            Self::BlockDevice(path) => f.debug_tuple("BlockDevice").field(path).finish(),
        }
    }
}
