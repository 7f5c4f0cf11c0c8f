//! Which stretches and contents an object consists of, and small objects read whole: index objects are such themselves.

use super::list;
use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use kopia_format::compression;
use kopia_format::indirect::IndirectEntry;
use kopia_format::{ContentId, ObjectId};

/// Most bytes that one `Z` content may give.
const CHUNK_BYTES_MAX: usize = 1 << 28;
/// Most stretches of one object: a petabyte in the smallest chunks of fixed length that Kopia cuts.
const EXTENTS_MAX: u64 = 1 << 33;
/// Most stretches of an index object: those of an object of a petabyte have fewer.
const LIST_EXTENTS_MAX: u64 = 1 << 23;
/// So many stretches may be of any length (joined parts have short ends) …
const SMALL_EXTENTS_MAX: u64 = 1 << 20;
/// … of what is more, the mean is at least this: the smallest chunk that Kopia cuts is sixteen times longer.
const EXTENT_BYTES_MIN: u64 = 4096;

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

/// Calls `each` for every stretch in order; gives the length of the object. Index objects are read as streams,
/// and data only of a lone `Z` object (nothing else says its length). Only `each` can look at a cancel token.
///
/// # Errors
/// `ContentNotFound`; `Corrupted`, naming the object, if an index object contradicts itself, leads to itself or
/// has more stretches than its length can have; those of `each`.
pub fn extents(
    contents: &ContentManager,
    object: ObjectId,
    each: &mut dyn FnMut(Extent) -> Result<()>,
) -> Result<u64> {
    extents_at(contents, object, 0, each)
}

/// Like [`extents`], also for an index object, which `level` of them lead to: nobody is asked between its
/// stretches, so they are few.
pub(super) fn extents_at(
    contents: &ContentManager,
    object: ObjectId,
    level: usize,
    each: &mut dyn FnMut(Extent) -> Result<()>,
) -> Result<u64> {
    if object.indirection == 0 {
        let length = direct_length(contents, object)?;
        each(Extent { start: 0, length, object })?;
        return Ok(length);
    }
    let mut walk = Walk::new(object, if level == 0 { EXTENTS_MAX } else { LIST_EXTENTS_MAX });
    walk.extents_of(contents, object, Place { base: 0, level }, each)
}

/// Where in a larger object an indirect one stands.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Offset in the whole object, in bytes.
    base: u64,
    /// Index objects that were followed to come here.
    level: usize,
}

/// One object that is followed, and how much of it there was: whoever knows the password can store an index
/// object under any ID, so one may name itself or name the same part a million times over.
struct Walk {
    object: ObjectId,
    extents: u64,
    extents_max: u64,
}

impl Walk {
    fn new(object: ObjectId, extents_max: u64) -> Self {
        Self { object, extents: 0, extents_max }
    }

    /// Stretches of an indirect object that begins at `place` of the whole; gives its length.
    fn extents_of(
        &mut self,
        contents: &ContentManager,
        object: ObjectId,
        place: Place,
        each: &mut dyn FnMut(Extent) -> Result<()>,
    ) -> Result<u64> {
        list::for_each_entry(contents, object, place.level, &mut |entry| {
            let IndirectEntry { start, length, object: part } = entry;
            let start = self.reached(place.base, start, length)?;
            if part.indirection == 0 {
                return each(Extent { start, length, object: part });
            }
            let inner = Place { base: start, level: place.level + 1 };
            let found = self.extents_of(contents, part, inner, each)?;
            if found == length {
                return Ok(());
            }
            let message = format!("object {part} has {found} bytes where {object} says {length}");
            Err(Error::new(ErrorKind::Corrupted, message).with("object", object))
        })
    }

    /// Counts a stretch; gives its offset in the whole object.
    fn reached(&mut self, base: u64, start: u64, length: u64) -> Result<u64> {
        let object = self.object;
        let corrupted = |message| Error::new(ErrorKind::Corrupted, message).with("object", object);
        self.extents += 1;
        let start = base.checked_add(start);
        let end = start.and_then(|start| start.checked_add(length)).filter(|end| i64::try_from(*end).is_ok());
        let (Some(start), Some(end)) = (start, end) else {
            return Err(corrupted(format!("object {object} is longer than 2^63 bytes")));
        };
        if self.extents > self.extents_max.min(SMALL_EXTENTS_MAX + end / EXTENT_BYTES_MIN) {
            let extents = self.extents;
            return Err(corrupted(format!("object {object} has {extents} stretches for {end} bytes")));
        }
        Ok(start)
    }
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
/// Those of [`extents`]; those of `each`. Data contents are not looked up.
pub fn for_each_content(
    contents: &ContentManager,
    object: ObjectId,
    each: &mut dyn FnMut(ContentId) -> Result<()>,
) -> Result<()> {
    let mut walk = Walk::new(object, EXTENTS_MAX);
    walk.contents_of(contents, object, Place::default(), each)
}

impl Walk {
    fn contents_of(
        &mut self,
        contents: &ContentManager,
        object: ObjectId,
        place: Place,
        each: &mut dyn FnMut(ContentId) -> Result<()>,
    ) -> Result<()> {
        if object.indirection == 0 {
            return each(object.content);
        }
        let index = ObjectId { indirection: object.indirection - 1, ..object };
        let inner = Place { base: 0, level: place.level + 1 };
        list::check_level(object, place.level)?;
        Walk::new(index, LIST_EXTENTS_MAX).contents_of(contents, index, inner, each)?;
        list::for_each_entry(contents, object, place.level, &mut |entry| {
            let start = self.reached(place.base, entry.start, entry.length)?;
            let below = Place { base: start, level: place.level + 1 };
            self.contents_of(contents, entry.object, below, each)
        })
        .map(drop)
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
