//! Writing directory objects and snapshot manifests, byte-identical to Kopia.
//!
//! Field order and what is omitted: format document §7.1, §7.2. Entries are appended to one
//! buffer without intermediate values, since a directory can hold a million of them.

use super::{
    Directory, DirectoryEntry, DirectorySummary, EntryError, SnapshotManifest, SnapshotStats, SourceInfo,
};
use crate::json::{ObjectWriter, write_array, write_map, write_object_id, write_time};
use crate::time::Timestamp;

impl DirectoryEntry {
    /// Appends the entry's JSON, byte-identical to Kopia.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut json = ObjectWriter::new(out);
        json.nonempty_string("name", &self.name);
        match self.entry_type.letter() {
            0 => {}
            letter => json.string("type", &[letter]),
        }
        if self.mode != 0 {
            write_mode(self.mode, json.field("mode"));
        }
        json.nonzero_integer("size", self.size);
        if self.modified.utc_timestamp() != 0 {
            write_time(self.modified.wrapped(), json.field("mtime"));
        }
        json.nonzero_integer("uid", self.uid.into());
        json.nonzero_integer("gid", self.gid.into());
        write_object_id(self.object.as_ref(), json.field("obj"));
        if let Some(summary) = &self.summary {
            summary.encode(json.field("summ"));
        }
        json.end();
    }
}

impl DirectorySummary {
    /// Appends the summary's JSON, byte-identical to Kopia.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut json = ObjectWriter::new(out);
        json.integer("size", self.total_file_size);
        json.integer("files", self.total_file_count);
        json.integer("symlinks", self.total_symlink_count);
        json.integer("dirs", self.total_directory_count);
        write_utc(self.max_mod_time, json.field("maxTime"));
        json.nonempty_string("incomplete", self.incomplete_reason.as_bytes());
        json.integer("numFailed", self.fatal_error_count);
        json.nonzero_integer("numIgnoredErrors", self.ignored_error_count);
        if !self.failed_entries.is_empty() {
            write_array(&self.failed_entries, json.field("errors"), write_entry_error);
        }
        json.end();
    }
}

fn write_entry_error(failed: &EntryError, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.string("path", &failed.path);
    json.string("error", failed.error.as_bytes());
    json.end();
}

/// Appends `"0"` + octal, in quotes.
fn write_mode(mode: u32, out: &mut Vec<u8>) {
    let digits = (34 - mode.leading_zeros()) / 3;
    out.extend_from_slice(b"\"0");
    out.extend((0..digits).rev().map(|digit| b'0' + (mode >> (3 * digit) & 7) as u8));
    out.push(b'"');
}

/// Appends a time after its passage through Kopia's `UTCTimestamp`.
fn write_utc(time: Timestamp, out: &mut Vec<u8>) {
    write_time(time.wrapped(), out);
}

impl Directory {
    /// Encodes one line with the newline, byte-identical to Kopia.
    ///
    /// `entries` must be in Kopia's order, see [`Directory::sort`].
    pub fn encode(entries: &[DirectoryEntry], summary: &DirectorySummary, out: &mut Vec<u8>) {
        let mut writer = DirectoryWriter::new(out);
        for entry in entries {
            writer.entry(entry, out);
        }
        writer.finish(summary, out);
    }
}

/// Writes a directory object entry by entry, for directories that are not held in memory.
///
/// `out` may be drained between the calls.
#[derive(Debug)]
pub struct DirectoryWriter {
    empty: bool,
}

impl DirectoryWriter {
    /// Appends what comes before the entries.
    pub fn new(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(br#"{"stream":"kopia:directory","entries":"#);
        Self { empty: true }
    }
    /// Appends an entry; the caller keeps Kopia's order, see [`Directory::sort`].
    pub fn entry(&mut self, entry: &DirectoryEntry, out: &mut Vec<u8>) {
        out.push(if self.empty { b'[' } else { b',' });
        self.empty = false;
        entry.encode(out);
    }
    /// Appends what comes after the entries, with the newline.
    pub fn finish(self, summary: &DirectorySummary, out: &mut Vec<u8>) {
        self.close_entries(out);
        summary.encode(out);
        out.extend_from_slice(b"}\n");
    }
    /// As [`Self::finish`], with the `null` that Velero's block uploader writes in place of a summary.
    pub fn finish_without_summary(self, out: &mut Vec<u8>) {
        self.close_entries(out);
        out.extend_from_slice(b"null}\n");
    }
    fn close_entries(self, out: &mut Vec<u8>) {
        // Go's nil slice: an empty directory has `null`, not `[]`.
        out.extend_from_slice(if self.empty { b"null" } else { b"]" });
        out.extend_from_slice(br#","summary":"#);
    }
}

impl SnapshotManifest {
    /// Payload JSON as Kopia writes it, without a newline (it becomes part of an `m` content).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        let mut json = ObjectWriter::new(&mut out);
        json.string("id", b"");
        write_source(&self.source, json.field("source"));
        json.string("description", self.description.as_bytes());
        write_utc(self.start_time, json.field("startTime"));
        write_utc(self.end_time, json.field("endTime"));
        write_stats(&self.stats, json.field("stats"));
        json.nonempty_string("incomplete", self.incomplete_reason.as_bytes());
        match &self.root_entry {
            Some(entry) => entry.encode(json.field("rootEntry")),
            None => json.field("rootEntry").extend_from_slice(b"null"),
        }
        if !self.tags.is_empty() {
            write_map(&self.tags, json.field("tags"));
        }
        json.nonempty_strings("pins", &self.pins);
        json.end();
        out
    }
}

fn write_source(source: &SourceInfo, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.string("host", source.host.as_bytes());
    json.string("userName", source.user_name.as_bytes());
    json.string("path", source.path.as_bytes());
    json.end();
}

fn write_stats(stats: &SnapshotStats, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.integer("totalSize", stats.total_file_size);
    json.integer("excludedTotalSize", stats.excluded_total_file_size);
    json.integer("fileCount", stats.total_file_count.into());
    json.integer("cachedFiles", stats.cached_files.into());
    json.integer("nonCachedFiles", stats.non_cached_files.into());
    json.integer("dirCount", stats.total_directory_count.into());
    json.integer("excludedFileCount", stats.excluded_file_count.into());
    json.integer("excludedDirCount", stats.excluded_directory_count.into());
    json.integer("ignoredErrorCount", stats.ignored_error_count.into());
    json.integer("errorCount", stats.error_count.into());
    json.end();
}
