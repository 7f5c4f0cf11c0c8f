//! Cuts a stream into contents and writes the index object that joins them.

use crate::content::ContentManager;
use crate::error::Result;
use kopia_format::ObjectId;
use kopia_format::compression::CompressorId;
use kopia_format::indirect::IndirectEntry;
use kopia_format::splitter::SplitterAlgorithm;

/// How an object is written.
#[derive(Debug, Clone, Copy)]
pub struct ObjectWriterOptions {
    /// Prefix of its contents: `None` for files, `b'k'` for directories.
    pub prefix: Option<u8>,
    /// Splitter; `None` is the repository's.
    pub splitter: Option<SplitterAlgorithm>,
    /// Compressor of the chunks.
    pub compressor: CompressorId,
    /// Compressor of index objects.
    pub metadata_compressor: CompressorId,
}

/// Writes one object.
pub struct ObjectWriter<'a> {
    _contents: &'a ContentManager,
}

impl<'a> ObjectWriter<'a> {
    /// Starts an object.
    pub fn new(_contents: &'a ContentManager, _options: ObjectWriterOptions) -> Self {
        todo!()
    }
    /// Appends bytes.
    pub fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        todo!()
    }
    /// The object of the chunks stored so far, without the buffered tail; `None` if there are none.
    pub fn checkpoint(&mut self) -> Result<Option<ObjectId>> {
        todo!()
    }
    /// Stores the tail and gives the ID of the whole.
    pub fn finish(self) -> Result<ObjectId> {
        todo!()
    }
}

/// Joins chunks: one entry is its own object, two or more get an index object. No entries is an error
/// (an empty object is one empty content, which the caller writes).
pub fn finish_entries(_contents: &ContentManager, _entries: Vec<IndirectEntry>, _options: &ObjectWriterOptions) -> Result<ObjectId> {
    todo!()
}

/// Joins objects end to end without reading their data (parallel upload of parts).
pub fn concatenate(_contents: &ContentManager, _parts: &[ObjectId], _metadata_compressor: CompressorId) -> Result<ObjectId> {
    todo!()
}
