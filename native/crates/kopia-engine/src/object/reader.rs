//! An object as a seekable stream, or whole.

use super::extents::{Extent, extents};
use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::ObjectId;
use kopia_format::compression;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Deref;
use std::sync::Arc;

/// Most bytes that one `Z` content may give.
const CHUNK_BYTES_MAX: usize = 1 << 28;

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

/// Replaces `out` by the bytes of a direct object: one content, decompressed if it is a `Z`.
///
/// # Errors
/// Those of reading a content; `InvalidArgument` for an indirect object.
pub fn read_direct(contents: &ContentManager, object: ObjectId, out: &mut Vec<u8>) -> Result<()> {
    if object.indirection > 0 {
        return Err(Error::new(ErrorKind::InvalidArgument, format!("object {object} is not direct")));
    }
    if !object.compressed {
        return contents.read(&object.content, out);
    }
    let mut stored = Vec::new();
    contents.read(&object.content, &mut stored)?;
    let decompressed = compression::decompress(None, &stored, CHUNK_BYTES_MAX, out);
    decompressed.map_err(|error| Error::from(error).while_doing(format!("object {object}")))
}

/// Like [`read_direct`], checking that the chunk is as long as its index object says.
pub(super) fn read_extent(contents: &ContentManager, extent: &Extent, out: &mut Vec<u8>) -> Result<()> {
    read_direct(contents, extent.object, out)?;
    if out.len() as u64 != extent.length {
        let (object, expected) = (extent.object, extent.length);
        let message =
            format!("object {object} has {} bytes where its index object says {expected}", out.len());
        return Err(Error::new(ErrorKind::Corrupted, message).with("object", object));
    }
    Ok(())
}

/// Replaces `out` by all bytes of an object (directories, index objects: what fits in memory).
///
/// # Errors
/// Those of reading contents.
pub fn read_whole(contents: &ContentManager, object: ObjectId, out: &mut Vec<u8>) -> Result<()> {
    if object.indirection == 0 {
        return read_direct(contents, object, out);
    }
    out.clear();
    let mut chunk = Vec::new();
    extents(contents, object, &mut |extent| {
        read_extent(contents, &extent, &mut chunk)?;
        out.extend_from_slice(&chunk);
        Ok(())
    })?;
    Ok(())
}
