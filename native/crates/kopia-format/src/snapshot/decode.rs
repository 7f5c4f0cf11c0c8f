//! Reading directory objects and snapshot manifests from memory.
//!
//! Unknown fields are skipped, field order is free, names of fields match in any case. Names of
//! entries stay borrowed from the text where they hold no escapes.

use super::{
    Directory, DirectoryEntry, DirectorySummary, EntryError, EntryType, SnapshotManifest, SnapshotStats,
    SourceInfo,
};
use crate::error::Result;
use crate::ids::{ManifestId, ObjectId};
use crate::json::cursor::{Cursor, Fault, Scan, read_all};
use crate::time::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeMap;

const WHAT: &str = "directory object";

/// A [`DirectoryEntry`] whose name is borrowed from the JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DirectoryEntryRef<'a> {
    /// The UTF-8 that the JSON holds.
    pub name: Cow<'a, [u8]>,
    pub entry_type: EntryType,
    /// Go's mode bits without the type.
    pub mode: u32,
    /// Bytes.
    pub size: i64,
    pub modified: Timestamp,
    pub uid: u32,
    pub gid: u32,
    pub object: Option<ObjectId>,
    pub summary: Option<Box<DirectorySummary>>,
}

impl DirectoryEntryRef<'_> {
    /// The entry with a name of its own.
    pub fn into_owned(self) -> DirectoryEntry {
        DirectoryEntry {
            name: self.name.into_owned(),
            entry_type: self.entry_type,
            mode: self.mode,
            size: self.size,
            modified: self.modified,
            uid: self.uid,
            gid: self.gid,
            object: self.object,
            summary: self.summary,
        }
    }
}

impl Directory {
    /// Decodes; unknown fields are ignored.
    ///
    /// # Errors
    /// Anything but the JSON of a directory is malformed.
    pub fn decode(json: &[u8]) -> Result<Self> {
        let mut entries = Vec::new();
        let summary = Self::decode_each_slice(json, &mut |entry| {
            entries.push(entry.into_owned());
            Ok(())
        })?;
        Ok(Self { entries, summary })
    }
    /// Calls `each` for one entry after the other, names borrowed from `json`; gives the summary.
    ///
    /// # Errors
    /// As [`Directory::decode`], or the first error of `each`, unchanged.
    pub fn decode_each_slice(
        json: &[u8],
        each: &mut dyn FnMut(DirectoryEntryRef<'_>) -> Result<()>,
    ) -> Result<Option<DirectorySummary>> {
        let mut summary = None;
        let mut refused = None;
        let read = read_all(WHAT, json, |cursor| {
            cursor.object(&DIRECTORY_FIELDS, |cursor, name| match name {
                "stream" => read_stream_type(cursor),
                "entries" => cursor.array(|cursor| {
                    let Some(entry) = read_entry(cursor)? else { return Ok(()) };
                    each(entry).map_err(|error| {
                        refused = Some(error);
                        Fault::Bad(String::new())
                    })
                }),
                _ => read_summary(cursor).map(|read| summary = read),
            })
        });
        match (refused, read) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(_)) => Ok(summary),
        }
    }
}

/// Fields of a directory object; what is none of the first two is the summary.
pub(super) const DIRECTORY_FIELDS: [&str; 3] = ["stream", "entries", "summary"];

/// Checks that the object says it is a directory.
pub(super) fn read_stream_type(cursor: &mut Cursor<'_>) -> Scan<()> {
    match &*cursor.string()? {
        "kopia:directory" => Ok(()),
        other => Err(Fault::Bad(format!("the stream is {other:.40?}, not a directory"))),
    }
}

/// Reads an entry; `None` for `null`.
pub(super) fn read_entry<'a>(cursor: &mut Cursor<'a>) -> Scan<Option<DirectoryEntryRef<'a>>> {
    let mut entry = DirectoryEntryRef {
        name: Cow::Borrowed(&[]),
        entry_type: EntryType::Unknown(0),
        mode: 0,
        size: 0,
        modified: Timestamp::default(),
        uid: 0,
        gid: 0,
        object: None,
        summary: None,
    };
    let fields = &["name", "type", "mode", "size", "mtime", "uid", "gid", "obj", "summ"];
    let present = cursor.object(fields, |cursor, name| {
        match name {
            "name" => entry.name = cursor.string_bytes()?,
            "type" => entry.entry_type = read_entry_type(cursor)?,
            "mode" => entry.mode = read_mode(cursor)?,
            "size" => entry.size = cursor.integer()?,
            "mtime" => entry.modified = cursor.time()?.wrapped(),
            "uid" => entry.uid = cursor.integer()?,
            "gid" => entry.gid = cursor.integer()?,
            "obj" => entry.object = cursor.object_id()?,
            _ => entry.summary = read_summary(cursor)?.map(Box::new),
        }
        Ok(())
    })?;
    Ok(present.then_some(entry))
}

fn read_entry_type(cursor: &mut Cursor<'_>) -> Scan<EntryType> {
    Ok(EntryType::from_letter(cursor.string_bytes()?.first().copied().unwrap_or(0)))
}

/// Reads Go's mode, a string whose base its prefix tells (`0`, `0o`, `0x`, `0b`, or decimal).
fn read_mode(cursor: &mut Cursor<'_>) -> Scan<u32> {
    let text = cursor.string()?;
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (&*text, 10),
    };
    // Go parses into 32 signed bits.
    let mode = i32::from_str_radix(digits, radix).ok().and_then(|mode| u32::try_from(mode).ok());
    mode.ok_or_else(|| Fault::Bad(format!("mode {text:.40?} is not a permission number")))
}

/// Reads a summary; `None` for `null`.
pub(super) fn read_summary(cursor: &mut Cursor<'_>) -> Scan<Option<DirectorySummary>> {
    let fields = &[
        "size",
        "files",
        "symlinks",
        "dirs",
        "maxTime",
        "incomplete",
        "numFailed",
        "numIgnoredErrors",
        "errors",
    ];
    let mut summary = DirectorySummary::default();
    let present = cursor.object(fields, |cursor, name| {
        match name {
            "size" => summary.total_file_size = cursor.integer()?,
            "files" => summary.total_file_count = cursor.integer()?,
            "symlinks" => summary.total_symlink_count = cursor.integer()?,
            "dirs" => summary.total_directory_count = cursor.integer()?,
            "maxTime" => summary.max_mod_time = cursor.time()?.wrapped(),
            "incomplete" => summary.incomplete_reason = cursor.string()?.into_owned(),
            "numFailed" => summary.fatal_error_count = cursor.integer()?,
            "numIgnoredErrors" => summary.ignored_error_count = cursor.integer()?,
            _ => summary.failed_entries = read_failed_entries(cursor)?,
        }
        Ok(())
    })?;
    Ok(present.then_some(summary))
}

fn read_failed_entries(cursor: &mut Cursor<'_>) -> Scan<Vec<EntryError>> {
    let mut all = Vec::new();
    cursor.array(|cursor| {
        let mut failed = EntryError { path: Vec::new(), error: String::new() };
        cursor.object(&["path", "error"], |cursor, name| {
            match name {
                "path" => failed.path = cursor.string_bytes()?.into_owned(),
                _ => failed.error = cursor.string()?.into_owned(),
            }
            Ok(())
        })?;
        all.push(failed);
        Ok(())
    })?;
    Ok(all)
}

impl SnapshotManifest {
    /// Parses a payload; `id` is that of its manifest entry.
    ///
    /// # Errors
    /// Anything but the JSON of a snapshot manifest is malformed.
    pub fn decode(json: &[u8], id: ManifestId) -> Result<Self> {
        read_all("snapshot manifest", json, |cursor| read_manifest(cursor, id))
    }
}

fn read_manifest(cursor: &mut Cursor<'_>, id: ManifestId) -> Scan<SnapshotManifest> {
    let mut manifest = SnapshotManifest {
        id: Some(id),
        source: SourceInfo::default(),
        description: String::new(),
        start_time: Timestamp::default(),
        end_time: Timestamp::default(),
        stats: SnapshotStats::default(),
        incomplete_reason: String::new(),
        root_entry: None,
        tags: BTreeMap::new(),
        pins: Vec::new(),
    };
    let fields = &[
        "source",
        "description",
        "startTime",
        "endTime",
        "stats",
        "incomplete",
        "rootEntry",
        "tags",
        "pins",
    ];
    let present = cursor.object(fields, |cursor, name| {
        match name {
            "source" => manifest.source = read_source(cursor)?,
            "description" => manifest.description = cursor.string()?.into_owned(),
            "startTime" => manifest.start_time = cursor.time()?.wrapped(),
            "endTime" => manifest.end_time = cursor.time()?.wrapped(),
            "stats" => manifest.stats = read_stats(cursor)?,
            "incomplete" => manifest.incomplete_reason = cursor.string()?.into_owned(),
            "rootEntry" => manifest.root_entry = read_entry(cursor)?.map(DirectoryEntryRef::into_owned),
            "tags" => manifest.tags = cursor.string_map()?,
            _ => manifest.pins = cursor.strings()?,
        }
        Ok(())
    })?;
    if present { Ok(manifest) } else { Err(Fault::Bad("null".into())) }
}

fn read_source(cursor: &mut Cursor<'_>) -> Scan<SourceInfo> {
    let mut source = SourceInfo::default();
    cursor.object(&["host", "userName", "path"], |cursor, name| {
        let value = cursor.string()?.into_owned();
        match name {
            "host" => source.host = value,
            "userName" => source.user_name = value,
            _ => source.path = value,
        }
        Ok(())
    })?;
    Ok(source)
}

fn read_stats(cursor: &mut Cursor<'_>) -> Scan<SnapshotStats> {
    let fields = &[
        "totalSize",
        "excludedTotalSize",
        "fileCount",
        "cachedFiles",
        "nonCachedFiles",
        "dirCount",
        "excludedFileCount",
        "excludedDirCount",
        "ignoredErrorCount",
        "errorCount",
    ];
    let mut stats = SnapshotStats::default();
    cursor.object(fields, |cursor, name| {
        match name {
            "totalSize" => stats.total_file_size = cursor.integer()?,
            "excludedTotalSize" => stats.excluded_total_file_size = cursor.integer()?,
            "fileCount" => stats.total_file_count = cursor.integer()?,
            "cachedFiles" => stats.cached_files = cursor.integer()?,
            "nonCachedFiles" => stats.non_cached_files = cursor.integer()?,
            "dirCount" => stats.total_directory_count = cursor.integer()?,
            "excludedFileCount" => stats.excluded_file_count = cursor.integer()?,
            "excludedDirCount" => stats.excluded_directory_count = cursor.integer()?,
            "ignoredErrorCount" => stats.ignored_error_count = cursor.integer()?,
            _ => stats.error_count = cursor.integer()?,
        }
        Ok(())
    })?;
    Ok(stats)
}
