//! Snapshot manifests, directory objects and their entries (format document §7.1, §7.2).
//!
//! Here: the types, Kopia's order of entries, Go's mode bits. `encode` writes JSON byte-identical
//! to Kopia's (directories are named by their hash), `decode` reads from memory, `stream` from a
//! reader in bounded memory. The surprise: times pass through Kopia's 64-bit nanoseconds and wrap.

mod decode;
mod encode;
mod stream;

pub use decode::DirectoryEntryRef;
pub use encode::DirectoryWriter;

use crate::error::{FormatError, Result};
use crate::ids::{ManifestId, ObjectId};
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// Go's permission bits as `mode` holds them.
pub mod mode_bits {
    /// setuid.
    pub const SETUID: u32 = 0x80_0000;
    /// setgid.
    pub const SETGID: u32 = 0x40_0000;
    /// sticky.
    pub const STICKY: u32 = 0x10_0000;
    /// The bits of Go's mode with their Unix counterparts.
    const SPECIAL: [(u32, u32); 3] = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];

    /// Go's mode of a Unix `st_mode` (permission, setuid, setgid, sticky bits; the type is dropped).
    pub fn from_unix(mode: u32) -> u32 {
        SPECIAL.iter().fold(mode & 0o777, |all, (go, unix)| if mode & unix != 0 { all | go } else { all })
    }
    /// Unix permission bits (with setuid, setgid, sticky) of Go's mode.
    pub fn to_unix(mode: u32) -> u32 {
        SPECIAL.iter().fold(mode & 0o777, |all, (go, unix)| if mode & go != 0 { all | unix } else { all })
    }
}

/// Kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryType {
    /// `f`.
    File,
    /// `d`.
    Directory,
    /// `s`.
    Symlink,
    /// Another letter, or 0 for none.
    Unknown(u8),
}

impl EntryType {
    /// The letter in the JSON; 0 for none.
    pub fn letter(self) -> u8 {
        match self {
            Self::File => b'f',
            Self::Directory => b'd',
            Self::Symlink => b's',
            Self::Unknown(letter) => letter,
        }
    }
    /// The kind that a letter names.
    pub fn from_letter(letter: u8) -> Self {
        match letter {
            b'f' => Self::File,
            b'd' => Self::Directory,
            b's' => Self::Symlink,
            other => Self::Unknown(other),
        }
    }
}

/// An entry that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryError {
    /// Path relative to the snapshot root.
    pub path: Vec<u8>,
    /// Why.
    pub error: String,
}

/// Totals of a directory and all below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct DirectorySummary {
    /// Bytes of files.
    pub total_file_size: i64,
    pub total_file_count: i64,
    pub total_symlink_count: i64,
    /// Subdirectories and the directory itself.
    pub total_directory_count: i64,
    /// Newest modification below; the epoch if all are older.
    pub max_mod_time: Timestamp,
    /// Empty when complete.
    pub incomplete_reason: String,
    pub fatal_error_count: i64,
    pub ignored_error_count: i64,
    /// Sorted by path.
    pub failed_entries: Vec<EntryError>,
}

/// One entry of a directory object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DirectoryEntry {
    /// Base name: raw bytes as on disk when uploading; when decoded, the UTF-8 that the JSON holds.
    pub name: Vec<u8>,
    pub entry_type: EntryType,
    /// Go's mode bits without the type.
    pub mode: u32,
    /// Bytes.
    pub size: i64,
    pub modified: Timestamp,
    pub uid: u32,
    pub gid: u32,
    /// Absent only in malformed or placeholder entries.
    pub object: Option<ObjectId>,
    pub summary: Option<Box<DirectorySummary>>,
}

/// A directory object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// In stored order.
    pub entries: Vec<DirectoryEntry>,
    /// Always present in what Kopia writes.
    pub summary: Option<DirectorySummary>,
}

impl Directory {
    /// Sorts into Kopia's order (directories first, then by raw name bytes).
    pub fn sort(entries: &mut [DirectoryEntry]) {
        entries.sort_by(|a, b| {
            let rank = |entry: &DirectoryEntry| entry.entry_type != EntryType::Directory;
            rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name))
        });
    }
}

/// `user@host:path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[allow(missing_docs)]
pub struct SourceInfo {
    pub host: String,
    pub user_name: String,
    pub path: String,
}

/// Statistics of an upload as the manifest holds them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct SnapshotStats {
    /// Bytes.
    pub total_file_size: i64,
    /// Bytes.
    pub excluded_total_file_size: i64,
    pub total_file_count: i32,
    pub cached_files: i32,
    pub non_cached_files: i32,
    pub total_directory_count: i32,
    pub excluded_file_count: i32,
    pub excluded_directory_count: i32,
    pub ignored_error_count: i32,
    pub error_count: i32,
}

/// Payload of a snapshot manifest.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct SnapshotManifest {
    /// Taken from the manifest entry; never written in the payload.
    pub id: Option<ManifestId>,
    pub source: SourceInfo,
    pub description: String,
    pub start_time: Timestamp,
    pub end_time: Timestamp,
    pub stats: SnapshotStats,
    /// Empty when complete, else `checkpoint`, `canceled`, `limit reached`.
    pub incomplete_reason: String,
    pub root_entry: Option<DirectoryEntry>,
    pub tags: BTreeMap<String, String>,
    pub pins: Vec<String>,
}

impl SnapshotManifest {
    /// Labels of the manifest: type, hostname, username, path and the tags.
    ///
    /// # Errors
    /// An empty part of the source, or a tag with the key of one of these labels, is refused.
    /// Source: Kopia `snapshot/manager.go`.
    pub fn labels(&self) -> Result<BTreeMap<String, String>> {
        let source = [
            ("hostname", &self.source.host),
            ("username", &self.source.user_name),
            ("path", &self.source.path),
        ];
        let mut labels = BTreeMap::from([("type".to_owned(), "snapshot".to_owned())]);
        for (key, value) in source {
            if value.is_empty() {
                return Err(FormatError::malformed("snapshot manifest", format!("the source has no {key}")));
            }
            labels.insert(key.to_owned(), value.clone());
        }
        for (key, value) in &self.tags {
            if labels.insert(key.clone(), value.clone()).is_some() {
                let why = format!("tag {key:?} is the name of a label; choose another key");
                return Err(FormatError::malformed("snapshot manifest", why));
            }
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests;
