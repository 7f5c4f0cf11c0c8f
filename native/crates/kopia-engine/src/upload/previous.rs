//! Entries of a parent's directory, raw and in order, one after the other.
//!
//! The parent is read once, in windows, beside the sorted listing; nothing is looked up in a map
//! and unchanged entries are copied as the bytes they are. Kopia's encoding is recognised by its
//! exact bytes; a directory that another program wrote differently is decoded and encoded anew first.

use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectReader, read_direct};
use bytes::Bytes;
use kopia_format::ObjectId;
use kopia_format::snapshot::Directory;
use memchr::memmem;
use std::borrow::Cow;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::LazyLock;

const HEADER: &[u8] = b"{\"stream\":\"kopia:directory\",\"entries\":[";
/// Cannot occur within a string, where quotes are escaped.
const BETWEEN: &[u8] = b"},{\"name\":\"";
const AFTER_LAST: &[u8] = b"}],\"summary\":{";
const NAME: &[u8] = b"{\"name\":\"";
const OBJECT: &[u8] = b",\"obj\":\"";
/// Searching for this is most of the work.
static BETWEEN_ENTRIES: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(BETWEEN));
/// Bytes added to the window at a time.
const WINDOW_BYTES: usize = 64 << 10;
/// What Go writes for each byte that is not UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// A cursor over one parent directory.
pub(super) struct PreviousCursor<'a> {
    reader: Box<dyn Read + Send + 'a>,
    window: Vec<u8>,
    /// End of the current entry in the window.
    position: usize,
    reader_ended: bool,
    current: Option<Current>,
    /// Entries whose names were not UTF-8 once: their order says nothing.
    odd: Vec<Odd>,
    whole: Option<WholeDirectory>,
}

/// A directory object that is one content, and its bytes: who writes the same ones has the same object.
#[derive(Debug, Clone)]
pub(super) struct WholeDirectory {
    /// Its ID.
    pub(super) object: ObjectId,
    /// Its JSON.
    pub(super) json: Bytes,
}

/// The entry under the cursor, by its place in the window.
struct Current {
    start: usize,
    end: usize,
    name: Name,
    is_directory: bool,
}

/// A name: nearly all stand in the window as they are.
enum Name {
    There(Range<usize>),
    Decoded(Vec<u8>),
}

/// An entry that is kept aside.
struct Odd {
    is_directory: bool,
    name: Vec<u8>,
    raw: Vec<u8>,
}

impl<'a> PreviousCursor<'a> {
    /// Opens a parent directory.
    ///
    /// # Errors
    /// What reading the object says.
    pub(super) fn open(contents: &'a ContentManager, object: ObjectId) -> Result<Self> {
        if object.indirection > 0 || object.compressed {
            return Self::over(Box::new(ObjectReader::open(contents, object)?));
        }
        let mut json = Vec::new();
        read_direct(contents, object, &mut json)?;
        let json = Bytes::from(json);
        let mut cursor = Self::over(Box::new(io::Cursor::new(json.clone())))?;
        cursor.whole = Some(WholeDirectory { object, json });
        Ok(cursor)
    }
    /// The directory, if it is one content.
    pub(super) fn whole(&self) -> Option<&WholeDirectory> {
        self.whole.as_ref()
    }
    fn over(reader: Box<dyn Read + Send + 'a>) -> Result<Self> {
        let mut cursor = Self {
            reader,
            window: Vec::new(),
            position: 0,
            reader_ended: false,
            current: None,
            odd: Vec::new(),
            whole: None,
        };
        cursor.more()?;
        if cursor.window.starts_with(HEADER) {
            cursor.position = HEADER.len();
        } else {
            cursor.encode_anew()?;
        }
        cursor.step()?;
        Ok(cursor)
    }
    /// The raw bytes of the entry of this name and sort of entry. Names must be asked for in
    /// Kopia's order: directories first, then others, each by bytes.
    ///
    /// # Errors
    /// What reading the object says.
    pub(super) fn find(&mut self, name: &[u8], is_directory: bool) -> Result<Option<&[u8]>> {
        let wanted = (!is_directory, name);
        while self.current.as_ref().is_some_and(|at| at.key(&self.window) < wanted) {
            self.step()?;
        }
        if is_odd(name) {
            let odd = self.odd.iter().find(|at| (!at.is_directory, at.name.as_slice()) == wanted);
            return Ok(odd.map(|at| at.raw.as_slice()));
        }
        match &self.current {
            Some(at) if at.key(&self.window) == wanted => Ok(Some(&self.window[at.start..at.end])),
            _ => Ok(None),
        }
    }

    /// Goes to the next entry.
    fn step(&mut self) -> Result<()> {
        loop {
            self.current = self.read_entry()?;
            let Some(at) = &self.current else { return Ok(()) };
            let name = at.name.bytes(&self.window);
            if !is_odd(name) {
                return Ok(());
            }
            let (name, raw) = (name.to_vec(), self.window[at.start..at.end].to_vec());
            self.odd.push(Odd { is_directory: at.is_directory, name, raw });
        }
    }

    /// Finds the bounds and the name of the next entry.
    fn read_entry(&mut self) -> Result<Option<Current>> {
        let mut searched = self.position;
        loop {
            if let Some(found) = BETWEEN_ENTRIES.find(&self.window[searched..]) {
                return Ok(self.entry(searched + found + 1, 1));
            }
            if self.reader_ended {
                let rest = &self.window[self.position..];
                let end = memmem::find(rest, AFTER_LAST).map_or(0, |found| self.position + found + 1);
                return Ok(self.entry(end, end.min(1)));
            }
            searched = self.window.len().saturating_sub(BETWEEN.len()).max(self.position) - self.position;
            self.more()?;
            searched += self.position;
        }
    }

    /// The entry from the position to `end`; the next one begins `gap` bytes behind it.
    fn entry(&mut self, end: usize, gap: usize) -> Option<Current> {
        let start = self.position;
        if end <= start {
            return None;
        }
        self.position = end + gap;
        let raw = &self.window[start..end];
        let (name, rest) = name_of(raw)?;
        let name = match name {
            Cow::Borrowed(name) => Name::There(start + NAME.len()..start + NAME.len() + name.len()),
            Cow::Owned(name) => Name::Decoded(name),
        };
        Some(Current { start, end, name, is_directory: rest.starts_with(b",\"type\":\"d\"") })
    }

    /// Adds to the window and drops what is behind the position.
    fn more(&mut self) -> Result<()> {
        self.window.drain(..self.position);
        self.position = 0;
        let before = self.window.len();
        let limit = WINDOW_BYTES as u64;
        self.reader.by_ref().take(limit).read_to_end(&mut self.window).map_err(read_error)?;
        self.reader_ended = self.window.len() - before < WINDOW_BYTES;
        Ok(())
    }

    /// Reads the whole directory and encodes it as Kopia does.
    fn encode_anew(&mut self) -> Result<()> {
        let mut json = std::mem::take(&mut self.window);
        self.reader.read_to_end(&mut json).map_err(read_error)?;
        let mut directory = Directory::decode(&json)?;
        Directory::sort(&mut directory.entries);
        self.reader_ended = true;
        if !directory.entries.is_empty() {
            Directory::encode(&directory.entries, &directory.summary.unwrap_or_default(), &mut self.window);
            self.position = HEADER.len();
        }
        Ok(())
    }
}

impl Current {
    fn key<'w>(&'w self, window: &'w [u8]) -> (bool, &'w [u8]) {
        (!self.is_directory, self.name.bytes(window))
    }
}

impl Name {
    fn bytes<'w>(&'w self, window: &'w [u8]) -> &'w [u8] {
        match self {
            Self::There(place) => &window[place.clone()],
            Self::Decoded(name) => name,
        }
    }
}

/// Whether the name was not UTF-8 once. Few names have even the first of the bytes that are looked for.
fn is_odd(name: &[u8]) -> bool {
    memchr::memchr(REPLACEMENT[0], name).is_some() && memmem::find(name, REPLACEMENT).is_some()
}

/// The name of a raw entry, and the bytes behind it.
fn name_of(raw: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let text = raw.strip_prefix(NAME)?;
    let mut end = memchr::memchr(b'"', text)?;
    if !text[..end].contains(&b'\\') {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    end = string_end(text)?;
    let quoted = &raw[NAME.len() - 1..=NAME.len() + end];
    let name: String = serde_json::from_slice(quoted).ok()?;
    Some((Cow::Owned(name.into_bytes()), &text[end + 1..]))
}

/// Where the string that began before `text` ends.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// The object of a raw directory entry.
pub(super) fn object_of(raw: &[u8]) -> Option<ObjectId> {
    let start = memmem::find(raw, OBJECT)? + OBJECT.len();
    let end = start + memchr::memchr(b'"', &raw[start..])?;
    ObjectId::parse(std::str::from_utf8(&raw[start..end]).ok()?).ok()
}

fn read_error(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::new(ErrorKind::Corrupted, "cannot read the parent's directory").caused_by(error),
    }
}
