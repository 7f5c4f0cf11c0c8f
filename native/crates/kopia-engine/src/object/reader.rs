//! An object as a seekable stream.

use crate::content::ContentManager;
use crate::error::Result;
use kopia_format::ObjectId;
use std::io::{Read, Seek, SeekFrom};

/// Reads an object; holds one chunk at a time.
pub struct ObjectReader<'a> {
    _contents: &'a ContentManager,
}

impl<'a> ObjectReader<'a> {
    /// Opens an object.
    pub fn open(_contents: &'a ContentManager, _object: ObjectId) -> Result<Self> {
        todo!()
    }
    /// Length of the object in bytes.
    pub fn length(&self) -> u64 {
        todo!()
    }
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, _out: &mut [u8]) -> std::io::Result<usize> {
        todo!()
    }
}

impl Seek for ObjectReader<'_> {
    fn seek(&mut self, _position: SeekFrom) -> std::io::Result<u64> {
        todo!()
    }
}
