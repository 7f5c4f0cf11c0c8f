//! An object as a seekable stream.

use super::extents::{Extent, extents_at, read_extent};
use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::ObjectId;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Deref;
use std::sync::Arc;

/// Who keeps the contents alive while they are read.
enum Contents<'a> {
    Borrowed(&'a ContentManager),
    Shared(Arc<ContentManager>),
}

impl Deref for Contents<'_> {
    type Target = ContentManager;

    fn deref(&self) -> &ContentManager {
        match self {
            Self::Borrowed(contents) => contents,
            Self::Shared(contents) => contents,
        }
    }
}

/// Stretches that a reader remembers (16 MiB): a longer object's index is read again in between.
const WINDOW_EXTENTS: usize = 1 << 18;

/// Reads an object; holds one chunk at a time.
pub struct ObjectReader<'a> {
    contents: Contents<'a>,
    object: ObjectId,
    /// Index objects that lead to it.
    level: usize,
    window: Window,
    length: u64,
    position: u64,
    /// Which extent `chunk` holds.
    current: Option<Extent>,
    chunk: Vec<u8>,
}

impl ObjectReader<'static> {
    /// Opens an object for a reader that outlives its caller.
    ///
    /// # Errors
    /// As [`ObjectReader::open`].
    pub fn open_shared(contents: Arc<ContentManager>, object: ObjectId) -> Result<Self> {
        Self::over(Contents::Shared(contents), object, 0)
    }
}

impl<'a> ObjectReader<'a> {
    /// Opens an object: reads its index objects, not its data.
    ///
    /// # Errors
    /// `ContentNotFound`, `Corrupted` and others of reading contents.
    pub fn open(contents: &'a ContentManager, object: ObjectId) -> Result<Self> {
        Self::over(Contents::Borrowed(contents), object, 0)
    }

    /// Opens the index object of another one, which `level` index objects lead to.
    pub(super) fn open_list(contents: &'a ContentManager, object: ObjectId, level: usize) -> Result<Self> {
        Self::over(Contents::Borrowed(contents), object, level)
    }

    fn over(contents: Contents<'a>, object: ObjectId, level: usize) -> Result<Self> {
        let mut window = Window::default();
        let length = extents_at(&contents, object, level, &mut |extent| {
            window.push(extent);
            Ok(())
        })?;
        Ok(Self { contents, object, level, window, length, position: 0, current: None, chunk: Vec::new() })
    }

    /// Length of the object in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The rest of the chunk at the position; empty at the end.
    fn rest_of_chunk(&mut self) -> Result<&[u8]> {
        if self.position >= self.length {
            return Ok(&[]);
        }
        let extent = self.extent_at_position()?;
        if self.current != Some(extent) {
            self.current = None;
            read_extent(&self.contents, &extent, &mut self.chunk)?;
            self.current = Some(extent);
        }
        Ok(&self.chunk[(self.position - extent.start) as usize..])
    }

    /// The stretch that the position is in. What the window does not hold is looked for in the index again.
    fn extent_at_position(&mut self) -> Result<Extent> {
        if let Some(extent) = self.window.at(self.position) {
            return Ok(extent);
        }
        let mut window = Window { from: self.position, ..Window::default() };
        extents_at(&self.contents, self.object, self.level, &mut |extent| {
            window.push(extent);
            if window.is_full() { Err(Error::new(ErrorKind::Canceled, "enough")) } else { Ok(()) }
        })
        .or_else(|error| if window.is_full() { Ok(0) } else { Err(error) })?;
        self.window = window;
        self.window.at(self.position).ok_or_else(|| {
            let message = format!("object {} is shorter than it was", self.object);
            Error::new(ErrorKind::Corrupted, message).with("object", self.object)
        })
    }

    /// Reads into `out`; 0 at the end.
    pub(super) fn read_some(&mut self, out: &mut [u8]) -> Result<usize> {
        let rest = self.rest_of_chunk()?;
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        self.position += length as u64;
        Ok(length)
    }
}

/// Stretches one after the other, as many as are held at once.
#[derive(Default)]
struct Window {
    /// Stretches that end here or before are left out.
    from: u64,
    extents: Vec<Extent>,
}

impl Window {
    fn push(&mut self, extent: Extent) {
        if extent.start + extent.length > self.from && !self.is_full() {
            self.extents.push(extent);
        }
    }

    fn is_full(&self) -> bool {
        self.extents.len() >= WINDOW_EXTENTS
    }

    fn at(&self, position: u64) -> Option<Extent> {
        let index = self.extents.partition_point(|extent| extent.start <= position).checked_sub(1)?;
        Some(self.extents[index]).filter(|extent| position - extent.start < extent.length)
    }
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.read_some(out).map_err(io::Error::other)
    }
}

impl Seek for ObjectReader<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let target = match position {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position =
            target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.position)
    }
}
