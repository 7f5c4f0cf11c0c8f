//! Which stretches and contents an object consists of.

use crate::content::ContentManager;
use crate::error::Result;
use kopia_format::{ContentId, ObjectId};

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

/// Calls `each` for every stretch in order; gives the length of the object.
pub fn extents(_contents: &ContentManager, _object: ObjectId, _each: &mut dyn FnMut(Extent) -> Result<()>) -> Result<u64> {
    todo!()
}

/// Calls `each` for every content of an object: index objects of all levels and data.
pub fn for_each_content(_contents: &ContentManager, _object: ObjectId, _each: &mut dyn FnMut(ContentId) -> Result<()>) -> Result<()> {
    todo!()
}
