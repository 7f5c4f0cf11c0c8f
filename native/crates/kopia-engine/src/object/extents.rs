//! Which stretches and contents an object consists of, and small objects read whole: index objects are such themselves.

use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::compression;
use kopia_format::indirect::{self, IndirectEntry};
use kopia_format::{ContentId, ObjectId};

/// Most bytes that one `Z` content may give.
const CHUNK_BYTES_MAX: usize = 1 << 28;

/// A stretch of an object that one content holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the whole object, in bytes.
    pub start: u64,
    /// Plain length, in bytes.
    pub length: u64,
    /// The direct object that holds it.
    pub object: ObjectId,
}

/// Calls `each` for every stretch in order; gives the length of the object. Reads index objects, and
/// data only of a lone `Z` object (nothing else says its length).
///
/// # Errors
/// `ContentNotFound`; `Corrupted` if an index object contradicts itself; those of `each`.
pub fn extents(
    contents: &ContentManager,
    object: ObjectId,
    each: &mut dyn FnMut(Extent) -> Result<()>,
) -> Result<u64> {
    if object.indirection == 0 {
        let length = direct_length(contents, object)?;
        each(Extent { start: 0, length, object })?;
        return Ok(length);
    }
    stretches(contents, object, 0, each)
}

/// Stretches of an indirect object that begins at `base` of a larger one.
fn stretches(
    contents: &ContentManager,
    object: ObjectId,
    base: u64,
    each: &mut dyn FnMut(Extent) -> Result<()>,
) -> Result<u64> {
    let mut end = 0;
    for IndirectEntry { start, length, object: part } in read_entries(contents, object)? {
        if part.indirection == 0 {
            each(Extent { start: base + start, length, object: part })?;
        } else {
            let found = stretches(contents, part, base + start, each)?;
            if found != length {
                let message = format!("object {part} has {found} bytes where {object} says {length}");
                return Err(Error::new(ErrorKind::Corrupted, message).with("object", object));
            }
        }
        end = start + length;
    }
    Ok(end)
}

/// Entries of the index object that an indirect object names.
pub(super) fn read_entries(contents: &ContentManager, object: ObjectId) -> Result<Vec<IndirectEntry>> {
    let index = ObjectId { indirection: object.indirection.saturating_sub(1), ..object };
    let mut json = Vec::new();
    read_whole(contents, index, &mut json)?;
    indirect::decode(&json)
        .map_err(|error| Error::from(error).while_doing(format!("object {object}")).with("object", object))
}

fn direct_length(contents: &ContentManager, object: ObjectId) -> Result<u64> {
    if object.compressed {
        let mut plain = Vec::new();
        read_direct(contents, object, &mut plain)?;
        return Ok(plain.len() as u64);
    }
    match contents.info(&object.content)? {
        Some(info) => Ok(u64::from(info.original_length)),
        None => Err(crate::content::manager::not_found(&object.content)),
    }
}

/// Calls `each` for every content of an object: index objects of all levels and data.
///
/// # Errors
/// Those of reading index objects; those of `each`. Data contents are not looked up.
pub fn for_each_content(
    contents: &ContentManager,
    object: ObjectId,
    each: &mut dyn FnMut(ContentId) -> Result<()>,
) -> Result<()> {
    if object.indirection == 0 {
        return each(object.content);
    }
    let index = ObjectId { indirection: object.indirection - 1, ..object };
    for_each_content(contents, index, each)?;
    for entry in read_entries(contents, object)? {
        for_each_content(contents, entry.object, each)?;
    }
    Ok(())
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
