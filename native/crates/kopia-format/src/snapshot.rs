//! Snapshot manifests, directory objects and their entries (format document §7.1, §7.2).

use crate::error::Result;
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
    /// Go's mode of a Unix `st_mode` (permission, setuid, setgid, sticky bits).
    pub fn from_unix(_mode: u32) -> u32 { todo!() }
    /// Unix permission bits (with setuid, setgid, sticky) of Go's mode.
    pub fn to_unix(_mode: u32) -> u32 { todo!() }
}

/// Kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum EntryType { File, Directory, Symlink, Unknown(u8) }

/// An entry that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct EntryError { pub path: Vec<u8>, pub error: String }

/// Totals of a directory and all below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct DirectorySummary {
    pub total_file_size: i64, pub total_file_count: i64, pub total_symlink_count: i64, pub total_directory_count: i64,
    pub max_mod_time: Timestamp, pub incomplete_reason: String, pub fatal_error_count: i64, pub ignored_error_count: i64,
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
    pub size: i64,
    pub modified: Timestamp,
    pub uid: u32,
    pub gid: u32,
    /// Absent only in malformed or placeholder entries.
    pub object: Option<ObjectId>,
    pub summary: Option<Box<DirectorySummary>>,
}

impl DirectoryEntry {
    /// Appends the entry's JSON, byte-identical to Kopia.
    pub fn encode(&self, _out: &mut Vec<u8>) { todo!() }
}

/// A directory object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Directory { pub entries: Vec<DirectoryEntry>, pub summary: Option<DirectorySummary> }

impl Directory {
    /// Sorts into Kopia's order (directories first, then by raw name bytes).
    pub fn sort(_entries: &mut [DirectoryEntry]) { todo!() }
    /// Encodes one line with the newline, byte-identical to Kopia.
    pub fn encode(_entries: &[DirectoryEntry], _summary: &DirectorySummary, _out: &mut Vec<u8>) { todo!() }
    /// Decodes; unknown fields are ignored.
    pub fn decode(_json: &[u8]) -> Result<Self> { todo!() }
    /// Calls `each` for one entry after the other without holding them all (directories of millions of entries);
    /// gives the summary. Use this in every path that must stay in bounded memory.
    pub fn decode_each(_json: impl std::io::Read, _each: &mut dyn FnMut(DirectoryEntry) -> Result<()>) -> Result<Option<DirectorySummary>> { todo!() }
}

/// `user@host:path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct SourceInfo { pub host: String, pub user_name: String, pub path: String }

/// Statistics of an upload as the manifest holds them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct SnapshotStats {
    pub total_file_size: i64, pub excluded_total_file_size: i64, pub total_file_count: i32, pub cached_files: i32,
    pub non_cached_files: i32, pub total_directory_count: i32, pub excluded_file_count: i32, pub excluded_directory_count: i32,
    pub ignored_error_count: i32, pub error_count: i32,
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
    /// Payload JSON as Kopia writes it.
    pub fn encode(&self) -> Vec<u8> { todo!() }
    /// Parses a payload.
    pub fn decode(_json: &[u8], _id: ManifestId) -> Result<Self> { todo!() }
    /// Labels of the manifest: type, hostname, username, path and the tags.
    pub fn labels(&self) -> Result<BTreeMap<String, String>> { todo!() }
}
