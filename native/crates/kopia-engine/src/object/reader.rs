//! An object as a seekable stream.

use super::extents::{Extent, extents, read_extent};
use crate::content::ContentManager;
use crate::error::Result;
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

/// Reads an object; holds one chunk at a time.
pub struct ObjectReader<'a> {
    contents: Contents<'a>,
    extents: Vec<Extent>,
    length: u64,
    position: u64,
    /// Which extent `chunk` holds.
    current: Option<usize>,
    chunk: Vec<u8>,
}

impl ObjectReader<'static> {
    /// Opens an object for a reader that outlives its caller.
    ///
    /// # Errors
    /// As [`ObjectReader::open`].
    pub fn open_shared(contents: Arc<ContentManager>, object: ObjectId) -> Result<Self> {
        Self::over(Contents::Shared(contents), object)
    }
}

impl<'a> ObjectReader<'a> {
    /// Opens an object: reads its index objects, not its data.
    ///
    /// # Errors
    /// `ContentNotFound`, `Corrupted` and others of reading contents.
    pub fn open(contents: &'a ContentManager, object: ObjectId) -> Result<Self> {
        Self::over(Contents::Borrowed(contents), object)
    }

    fn over(contents: Contents<'a>, object: ObjectId) -> Result<Self> {
        let mut all = Vec::new();
        let length = extents(&contents, object, &mut |extent| {
            all.push(extent);
            Ok(())
        })?;
        Ok(Self { contents, extents: all, length, position: 0, current: None, chunk: Vec::new() })
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
        let index = self.extents.partition_point(|extent| extent.start <= self.position).saturating_sub(1);
        let extent = self.extents[index];
        if self.current != Some(index) {
            self.current = None;
            read_extent(&self.contents, &extent, &mut self.chunk)?;
            self.current = Some(index);
        }
        Ok(&self.chunk[(self.position - extent.start) as usize..])
    }
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let rest = self.rest_of_chunk().map_err(io::Error::other)?;
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        self.position += length as u64;
        Ok(length)
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
