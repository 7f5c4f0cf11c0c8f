//! Reading JSON from a reader, one step (an entry, a field) in memory at a time.
//!
//! Works by trying: a step is read from the window; if the window ends first, more is read and the step starts
//! again. So a step is read twice at most per refill.

use super::cursor::{Cursor, Fault, Scan};
use crate::error::{FormatError, FormatErrorKind, Result};
use std::io::Read;

/// First size of the window.
const WINDOW_LENGTH_BYTES: usize = 256 << 10;
/// Largest single step: an entry, or a summary with its list of failed entries.
const STEP_LENGTH_BYTES_MAX: usize = 64 << 20;

/// The part of the text that is in memory.
pub(crate) struct Window<R> {
    what: &'static str,
    reader: R,
    buffer: Vec<u8>,
    /// First byte of `buffer` that no step has consumed.
    start: usize,
    /// Bytes before `buffer`.
    passed: u64,
    finished: bool,
}

impl<R: Read> Window<R> {
    /// A window at the beginning of a text; `what` it is goes into errors.
    pub(crate) fn new(what: &'static str, reader: R) -> Self {
        Self { what, reader, buffer: Vec::new(), start: 0, passed: 0, finished: false }
    }
    /// Accepts only white space until the end.
    pub(crate) fn end(&mut self) -> Result<()> {
        while !self.finished {
            self.step_once(|cursor| cursor.end())?;
            self.start = self.buffer.len();
            self.fill()?;
        }
        self.step_once(|cursor| cursor.end())
    }
    /// Reads one step, with as much of the text as it takes.
    pub(crate) fn step<T>(&mut self, read: impl Fn(&mut Cursor<'_>) -> Scan<T>) -> Result<T> {
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
        let error = cursor.refuse(self.what, fault);
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
            return Err(FormatError::new(FormatErrorKind::OutOfRange, self.what, why).at(self.passed));
        }
        let wanted = self.buffer.len().max(WINDOW_LENGTH_BYTES);
        let read =
            self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.buffer).map_err(|error| {
                FormatError::new(FormatErrorKind::Unreadable, self.what, error.to_string()).at(self.passed)
            })?;
        self.finished = read < wanted;
        Ok(())
    }
}
