//! Reading a directory object from a reader, one entry in memory at a time.

use super::decode::{DIRECTORY_FIELDS, DirectoryEntryRef, read_entry, read_stream_type, read_summary};
use super::{Directory, DirectoryEntry, DirectorySummary};
use crate::error::Result;
use crate::json::window::Window;
use std::io::Read;

const WHAT: &str = "directory object";

impl Directory {
    /// Calls `each` for one entry after the other without holding them all (directories of millions of entries);
    /// gives the summary. Use this in every path that must stay in bounded memory.
    ///
    /// # Errors
    /// As [`Directory::decode`], the first error of `each`, or [`Unreadable`](crate::error::FormatErrorKind::Unreadable) if the
    /// reader fails. A single entry or summary above 64 MiB is refused.
    pub fn decode_each(
        json: impl Read,
        each: &mut dyn FnMut(DirectoryEntry) -> Result<()>,
    ) -> Result<Option<DirectorySummary>> {
        let mut window = Window::new(WHAT, json);
        let mut summary = None;
        let mut more = window.step(|cursor| Ok(!cursor.null()? && cursor.open(b'{', b'}')?))?;
        while more {
            let field = window.step(|cursor| cursor.field_name(&DIRECTORY_FIELDS, 0))?;
            more = match field.map(|position| DIRECTORY_FIELDS[position]) {
                Some("entries") => entries(&mut window, each)?,
                Some("summary") => {
                    let (value, more) =
                        window.step(|cursor| Ok((read_summary(cursor)?, cursor.more(b'}')?)))?;
                    summary = value;
                    more
                }
                other => window.step(|cursor| {
                    if cursor.null()? {
                    } else if other.is_some() {
                        read_stream_type(cursor)?;
                    } else {
                        cursor.skip()?;
                    }
                    cursor.more(b'}')
                })?,
            };
        }
        window.end().map(|()| summary)
    }
}

/// Reads the list of entries and what follows it; whether another field follows.
fn entries<R: Read>(
    window: &mut Window<R>,
    each: &mut dyn FnMut(DirectoryEntry) -> Result<()>,
) -> Result<bool> {
    let mut more = window.step(|cursor| Ok(!cursor.null()? && cursor.open(b'[', b']')?))?;
    while more {
        let (entry, another) = window.step(|cursor| {
            let entry = read_entry(cursor)?.map(DirectoryEntryRef::into_owned);
            Ok((entry, cursor.more(b']')?))
        })?;
        entry.map_or(Ok(()), &mut *each)?;
        more = another;
    }
    window.step(|cursor| cursor.more(b'}'))
}
