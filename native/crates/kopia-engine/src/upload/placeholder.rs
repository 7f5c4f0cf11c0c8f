//! Shallow placeholders: files that stand for an entry the repository holds already.
//!
//! A shallow restore leaves `NAME.kopia-entry` (for a directory `NAME.kopia-entry/.kopia-entry`)
//! with the JSON of the entry; a backup puts that entry back without reading anything.
//! Source: Kopia `fs/localfs/shallow_fs.go`.

use super::entry::Totals;
use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use crate::object::for_each_content;
use crate::source::metadata::{PLACEHOLDER_SUFFIX, describe, describe_io, open_directory, open_file};
use kopia_format::snapshot::{Directory, DirectoryEntry, EntryType};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

/// Longest placeholder that is believed.
const PLACEHOLDER_BYTES_MAX: u64 = 1 << 20;

/// Reads a placeholder; an error is the source's.
pub(super) fn read(
    parent: BorrowedFd<'_>,
    name: &CStr,
    directory: bool,
) -> std::result::Result<DirectoryEntry, String> {
    let opened = if directory {
        let inner = CString::new(PLACEHOLDER_SUFFIX).map_err(|error| error.to_string())?;
        open_directory(parent, name)
            .and_then(|directory| open_file(std::os::fd::AsFd::as_fd(&directory), &inner))
    } else {
        open_file(parent, name)
    };
    let file = File::from(opened.map_err(describe)?);
    let mut json = Vec::new();
    file.take(PLACEHOLDER_BYTES_MAX).read_to_end(&mut json).map_err(|error| describe_io(&error))?;
    let whole = [b"{\"stream\":\"kopia:directory\",\"entries\":[", json.trim_ascii(), b"]}"].concat();
    let mut entries = Directory::decode(&whole).map_err(|error| error.to_string())?.entries;
    match (entries.pop(), entries.is_empty()) {
        (Some(entry), true) => Ok(entry),
        _ => Err("not one entry".into()),
    }
}

/// Whether the repository has all contents of the entry's object.
///
/// # Errors
/// `ContentNotFound` or what reading the indexes says.
pub(super) fn verify(contents: &ContentManager, entry: &DirectoryEntry) -> Result<()> {
    let missing = |what: String| Error::new(ErrorKind::ContentNotFound, what);
    let object = entry.object.ok_or_else(|| missing("the placeholder names no object".into()))?;
    for_each_content(contents, object, &mut |content| match contents.info(&content)? {
        Some(_) => Ok(()),
        None => Err(missing(format!("content {content} is not in this repository"))),
    })
}

/// JSON of the entry and its share of the summary.
pub(super) fn encode(entry: &DirectoryEntry) -> (Vec<u8>, Totals) {
    let mut json = Vec::new();
    entry.encode(&mut json);
    let totals = match (&entry.summary, entry.entry_type) {
        (Some(summary), EntryType::Directory) => {
            let mut totals = Totals::default();
            totals.add_directory(entry.modified, summary);
            totals
        }
        _ => Totals::of_entry(entry.entry_type, entry.size.cast_unsigned(), entry.modified),
    };
    (json, totals)
}
