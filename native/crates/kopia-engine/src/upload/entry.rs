//! Entries as they go into directory objects, and where they go.
//!
//! The head of an entry (all bytes up to its object ID) is made straight from metadata: it is
//! compared with the parent's bytes to find what is unchanged, so it must be byte-identical to Kopia's.

use super::directory::Node;
use crate::source::metadata::Metadata;
use kopia_format::snapshot::{DirectorySummary, EntryError, EntryType};
use kopia_format::{ObjectId, Timestamp, json};
use std::io::Write as _;
use std::sync::Arc;

/// Failed entries that the summary of a directory names: what Kopia means by
/// `fs.MaxFailedEntriesPerDirectorySummary`, which its 0.22 forgets to apply.
pub(super) const FAILED_ENTRIES_MAX: usize = 10;

/// Who gets the outcome of an entry.
#[derive(Clone)]
pub(super) enum Destination<'a> {
    /// A place in a directory.
    Directory(Place<'a>),
    /// The entry is the root, or the only file of a virtual root directory of this name.
    Root {
        /// Name of the virtual directory; `None` if the file itself is the root.
        directory_name: Option<Vec<u8>>,
    },
}

/// A place in a directory that waits for its outcome.
#[derive(Clone)]
pub(super) struct Place<'a> {
    /// The directory.
    pub(super) node: Arc<Node<'a>>,
    /// Number of the segment.
    pub(super) segment: u64,
    /// Number of the gap in the segment.
    pub(super) gap: usize,
}

/// What became of an entry.
pub(super) enum Outcome {
    /// It is stored: encoded bytes and what it adds to the summary.
    Entry {
        /// JSON of the entry.
        json: Vec<u8>,
        /// Its share of the summary.
        totals: Totals,
    },
    /// It could not be read; the summary tells, if it is not to be passed over silently.
    Failed(Totals),
    /// It is left out.
    Skipped,
}

/// What entries add to the summary of their directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    /// As Kopia sums them; `total_directory_count` without the directory itself.
    pub(super) summary: DirectorySummary,
    /// Number of entries.
    pub(super) entries: u64,
}

impl Totals {
    /// One file, link or directory without what is below it.
    pub(super) fn of_entry(entry_type: EntryType, size: u64, modified: Timestamp) -> Self {
        let mut totals = Self::default();
        totals.add_entry(entry_type, size, modified);
        totals
    }
    /// Adds one entry.
    pub(super) fn add_entry(&mut self, entry_type: EntryType, size: u64, modified: Timestamp) {
        self.entries += 1;
        self.summary.max_mod_time = self.summary.max_mod_time.max(modified);
        match entry_type {
            EntryType::File => {
                self.summary.total_file_count += 1;
                self.summary.total_file_size += size.cast_signed();
            }
            EntryType::Symlink => self.summary.total_symlink_count += 1,
            _ => {}
        }
    }
    /// Adds a directory entry with all below it.
    pub(super) fn add_directory(&mut self, modified: Timestamp, below: &DirectorySummary) {
        self.add_entry(EntryType::Directory, 0, modified);
        self.add_summary(below);
    }
    /// Adds an error.
    pub(super) fn add_failure(&mut self, path: Vec<u8>, error: String, ignored: bool) {
        if ignored {
            self.summary.ignored_error_count += 1;
        } else {
            self.summary.fatal_error_count += 1;
        }
        self.summary.failed_entries.push(EntryError { path, error });
        self.cut_failed_entries();
    }
    /// Adds other totals.
    pub(super) fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.add_summary(&other.summary);
    }
    fn add_summary(&mut self, other: &DirectorySummary) {
        let summary = &mut self.summary;
        summary.total_file_size += other.total_file_size;
        summary.total_file_count += other.total_file_count;
        summary.total_symlink_count += other.total_symlink_count;
        summary.total_directory_count += other.total_directory_count;
        summary.max_mod_time = summary.max_mod_time.max(other.max_mod_time);
        summary.fatal_error_count += other.fatal_error_count;
        summary.ignored_error_count += other.ignored_error_count;
        summary.failed_entries.extend_from_slice(&other.failed_entries);
        self.cut_failed_entries();
    }
    /// Keeps the failed entries that a summary may name: all are counted, the first by path are told.
    fn cut_failed_entries(&mut self) {
        let failed = &mut self.summary.failed_entries;
        if failed.len() >= 2 * FAILED_ENTRIES_MAX {
            failed.sort_by(|a, b| a.path.cmp(&b.path));
            failed.truncate(FAILED_ENTRIES_MAX);
        }
    }
}

/// Appends the JSON of an entry up to its object ID: `{"name":…,"obj":"`.
pub(super) fn write_head(name: &[u8], letter: u8, metadata: &Metadata, size: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{");
    if !name.is_empty() {
        out.extend_from_slice(b"\"name\":");
        json::write_string(name, out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"type\":\"");
    out.push(letter);
    out.push(b'"');
    if metadata.mode != 0 {
        out.extend_from_slice(b",\"mode\":\"0");
        write_digits(u64::from(metadata.mode), 8, out);
        out.push(b'"');
    }
    write_number(b",\"size\":", size, out);
    if metadata.modified != Timestamp::default() {
        out.extend_from_slice(b",\"mtime\":\"");
        metadata.modified.write_rfc3339(out);
        out.push(b'"');
    }
    write_number(b",\"uid\":", u64::from(metadata.uid), out);
    write_number(b",\"gid\":", u64::from(metadata.gid), out);
    out.extend_from_slice(b",\"obj\":\"");
}

/// Appends the object ID and the end of an entry without a summary.
pub(super) fn write_object(object: &ObjectId, out: &mut Vec<u8>) {
    // Writing to a `Vec` cannot fail.
    let _ = write!(out, "{object}\"}}");
}

/// Whether `raw` is `head` followed by an object ID and the end of the entry: the same entry.
pub(super) fn is_unchanged(raw: &[u8], head: &[u8]) -> bool {
    raw.strip_prefix(head)
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .is_some_and(|id| id.len() > 1 && id.iter().all(u8::is_ascii_alphanumeric))
}

fn write_number(field: &[u8], number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        out.extend_from_slice(field);
        write_digits(number, 10, out);
    }
}

fn write_digits(mut number: u64, base: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 24];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % base) as u8;
        number /= base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kopia_format::snapshot::DirectoryEntry;
    use proptest::prelude::*;
    use rustix::fs::FileType;

    fn metadata(mode: u32, size: u64, modified: Timestamp, uid: u32, gid: u32) -> Metadata {
        Metadata {
            file_type: FileType::RegularFile,
            mode,
            size,
            modified,
            changed: Timestamp::default(),
            uid,
            gid,
            device: 0,
            inode: 0,
            links: 1,
        }
    }

    proptest! {
        #[test]
        fn heads_are_the_bytes_of_the_format_encoder(
            name in proptest::collection::vec(1u8.., 1..20), mode in 0u32..0o7777, size in 0u64..1 << 50,
            seconds in -9_000_000_000i64..9_000_000_000, nanoseconds in 0u32..1_000_000_000, uid in 0u32..3, gid: u32,
        ) {
            let modified = Timestamp { seconds, nanoseconds };
            let object = ObjectId::parse("Ix57c8d685").expect("valid");
            let entry = DirectoryEntry {
                name: name.clone(), entry_type: EntryType::File, mode, size: size.cast_signed(), modified, uid, gid,
                object: Some(object), summary: None,
            };
            let (mut theirs, mut ours) = (Vec::new(), Vec::new());
            entry.encode(&mut theirs);
            let metadata = metadata(mode, size, modified, uid, gid);
            write_head(&name, b'f', &metadata, size, &mut ours);
            prop_assert!(is_unchanged(&theirs, &ours));
            write_object(&object, &mut ours);
            prop_assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
        }
    }
}
