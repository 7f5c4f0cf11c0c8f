//! The index object of an indirect object, read as a stream: a device of terabytes has millions of entries.

use super::reader::ObjectReader;
use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::error::FormatError;
use kopia_format::indirect::{self, IndirectEntry};
use kopia_format::{ObjectId, error};
use std::io::{self, Read};

/// Index objects that are followed, of index objects and within each other. Four levels of the smallest chunks
/// that Kopia cuts hold more than an offset can say.
const LEVELS_MAX: usize = 8;
/// An index object may have so many bytes …
const BYTES_MAX: u64 = 64 << 20;
/// … and so many more for each entry, so that one of white space ends.
const ENTRY_BYTES_MAX: u64 = 1024;

/// Calls `each` for the entries of the index object that `object`, an indirect one, names; gives the end of
/// the last. `level` counts the index objects that lead here.
///
/// # Errors
/// Those of reading contents and of `each`, unchanged; `Corrupted`, naming the object, for what is no index.
pub(super) fn for_each_entry(
    contents: &ContentManager,
    object: ObjectId,
    level: usize,
    each: &mut dyn FnMut(IndirectEntry) -> Result<()>,
) -> Result<u64> {
    check_level(object, level)?;
    let index = ObjectId { indirection: object.indirection.saturating_sub(1), ..object };
    let reader = ObjectReader::open_list(contents, index, level + 1)?;
    let entries = std::cell::Cell::new(0);
    let mut source = Source { reader, object, entries: &entries, read: 0, failed: None };
    let mut stopped = None;
    let end = indirect::decode_each(&mut source, &mut |entry| {
        entries.set(entries.get() + 1);
        each(entry).map_err(|error| {
            stopped = Some(error);
            FormatError::malformed("index object", "left early")
        })
    });
    let failed = stopped.or(source.failed);
    end.map_err(|error| failed.unwrap_or_else(|| refused(object, error)))
}

/// # Errors
/// `Corrupted` for an object that cannot be followed from this level.
pub(super) fn check_level(object: ObjectId, level: usize) -> Result<()> {
    if level + usize::from(object.indirection) <= LEVELS_MAX {
        return Ok(());
    }
    let message = format!(
        "object {object} leads to itself or to more than {LEVELS_MAX} levels of index objects; it cannot be read"
    );
    Err(Error::new(ErrorKind::Corrupted, message).with("object", object))
}

fn refused(object: ObjectId, error: error::FormatError) -> Error {
    let error = Error::from(error);
    // An index of a length that is refused was no argument of the caller's.
    Error { kind: ErrorKind::Corrupted, ..error }
        .while_doing(format!("object {object}"))
        .with("object", object)
}

/// The bytes of an index object. What fails is kept, since an error of a reader passes as text only.
struct Source<'a> {
    reader: ObjectReader<'a>,
    object: ObjectId,
    /// Entries that were decoded so far.
    entries: &'a std::cell::Cell<u64>,
    read: u64,
    failed: Option<Error>,
}

impl Source<'_> {
    fn next(&mut self, out: &mut [u8]) -> Result<usize> {
        let object = self.object;
        if self.read > BYTES_MAX + self.entries.get() * ENTRY_BYTES_MAX {
            let (read, entries) = (self.read, self.entries.get());
            let message = format!("the index of object {object} has only {entries} entries in {read} bytes");
            return Err(Error::new(ErrorKind::Corrupted, message).with("object", object));
        }
        let length = self.reader.read_some(out)?;
        self.read += length as u64;
        Ok(length)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.next(out).map_err(|error| {
            let text = io::Error::other(error.to_string());
            self.failed = Some(error);
            text
        })
    }
}
