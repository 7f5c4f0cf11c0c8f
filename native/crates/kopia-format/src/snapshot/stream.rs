//! Reading a directory object from a reader, one entry in memory at a time.
//!
//! Works by trying: a step (one entry, one field) is read from the window; if the window ends
//! first, more is read and the step starts again. So a step is read twice at most per refill.

use super::decode::{DIRECTORY_FIELDS, DirectoryEntryRef, read_entry, read_stream_type, read_summary};
use super::{Directory, DirectoryEntry, DirectorySummary};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::cursor::{Cursor, Fault, Scan};
use std::io::Read;

const WHAT: &str = "directory object";
/// First size of the window.
const WINDOW_LENGTH_BYTES: usize = 256 << 10;
/// Largest single step: an entry, or a summary with its list of failed entries.
const STEP_LENGTH_BYTES_MAX: usize = 64 << 20;

impl Directory {
    /// Calls `each` for one entry after the other without holding them all (directories of millions of entries);
    /// gives the summary. Use this in every path that must stay in bounded memory.
    ///
    /// # Errors
    /// As [`Directory::decode`], the first error of `each`, or [`FormatErrorKind::Unreadable`] if the
    /// reader fails. A single entry or summary above 64 MiB is refused.
    pub fn decode_each(
        json: impl Read,
        each: &mut dyn FnMut(DirectoryEntry) -> Result<()>,
    ) -> Result<Option<DirectorySummary>> {
        let mut window = Window { reader: json, buffer: Vec::new(), start: 0, passed: 0, finished: false };
        let mut summary = None;
        let mut more = window.step(|cursor| Ok(!cursor.null()? && cursor.open(b'{', b'}')?))?;
        while more {
            let field = window.step(|cursor| cursor.field_name(&DIRECTORY_FIELDS, 0))?;
            more = match field.map(|position| DIRECTORY_FIELDS[position]) {
                Some("entries") => window.entries(each)?,
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

/// The part of the text that is in memory.
struct Window<R> {
    reader: R,
    buffer: Vec<u8>,
    /// First byte of `buffer` that no step has consumed.
    start: usize,
    /// Bytes before `buffer`.
    passed: u64,
    finished: bool,
}

impl<R: Read> Window<R> {
    /// Reads the list of entries and what follows it; whether another field follows.
    fn entries(&mut self, each: &mut dyn FnMut(DirectoryEntry) -> Result<()>) -> Result<bool> {
        let mut more = self.step(|cursor| Ok(!cursor.null()? && cursor.open(b'[', b']')?))?;
        while more {
            let (entry, another) = self.step(|cursor| {
                let entry = read_entry(cursor)?.map(DirectoryEntryRef::into_owned);
                Ok((entry, cursor.more(b']')?))
            })?;
            entry.map_or(Ok(()), &mut *each)?;
            more = another;
        }
        self.step(|cursor| cursor.more(b'}'))
    }
    /// Accepts only white space until the end.
    fn end(&mut self) -> Result<()> {
        while !self.finished {
            self.step_once(|cursor| cursor.end())?;
            self.start = self.buffer.len();
            self.fill()?;
        }
        self.step_once(|cursor| cursor.end())
    }
    /// Reads one step, with as much of the text as it takes.
    fn step<T>(&mut self, read: impl Fn(&mut Cursor<'_>) -> Scan<T>) -> Result<T> {
        loop {
            let mut cursor = Cursor::new(&self.buffer[self.start..]);
            match read(&mut cursor) {
                Ok(value) => {
                    self.start += cursor.position();
                    return Ok(value);
                }
                Err(Fault::End) if !self.finished => self.fill()?,
                Err(fault) => return Err(self.refuse(&cursor, fault)),
            }
        }
    }
    /// Reads one step from what is in memory.
    fn step_once<T>(&self, read: impl Fn(&mut Cursor<'_>) -> Scan<T>) -> Result<T> {
        let mut cursor = Cursor::new(&self.buffer[self.start..]);
        read(&mut cursor).map_err(|fault| self.refuse(&cursor, fault))
    }
    fn refuse(&self, cursor: &Cursor<'_>, fault: Fault) -> FormatError {
        let error = cursor.refuse(WHAT, fault);
        let offset = self.passed + self.start as u64 + error.offset.unwrap_or(0);
        error.at(offset)
    }
    /// Drops what is consumed and at least doubles what is not (fills the window, if that is more).
    fn fill(&mut self) -> Result<()> {
        self.passed += self.start as u64;
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.len() >= STEP_LENGTH_BYTES_MAX {
            let why = format!("a single entry or field of more than {STEP_LENGTH_BYTES_MAX} bytes");
            return Err(FormatError::new(FormatErrorKind::OutOfRange, WHAT, why).at(self.passed));
        }
        let wanted = self.buffer.len().max(WINDOW_LENGTH_BYTES);
        let read =
            self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.buffer).map_err(|error| {
                FormatError::new(FormatErrorKind::Unreadable, WHAT, error.to_string()).at(self.passed)
            })?;
        self.finished = read < wanted;
        Ok(())
    }
}
