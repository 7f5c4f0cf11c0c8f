//! Cuts a stream into contents and writes the index object that joins them.

use super::extents::extents;
use super::list;
use crate::content::{ContentManager, WriteScratch, Written};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::compression::CompressorId;
use kopia_format::indirect::{self, IndirectEntry};
use kopia_format::splitter::{Splitter, SplitterAlgorithm};
use kopia_format::{ContentId, ObjectId};

/// Prefix of the index objects of objects that have none themselves.
const INDEX_PREFIX: u8 = b'x';

/// Bytes scanned at once: what is copied beyond the end of a chunk is copied again.
const STEP_BYTES: usize = 128 << 10;

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

/// Writes one object. One chunk is in memory at a time.
pub struct ObjectWriter<'a> {
    contents: &'a ContentManager,
    options: ObjectWriterOptions,
    splitter: Splitter,
    chunk_bytes_max: usize,
    /// The chunk that is being cut.
    chunk: Vec<u8>,
    spare: Vec<u8>,
    /// Bytes in chunks before it.
    start: u64,
    entries: Vec<IndirectEntry>,
    scratch: WriteScratch,
}

impl<'a> ObjectWriter<'a> {
    /// Starts an object.
    pub fn new(contents: &'a ContentManager, options: ObjectWriterOptions) -> Self {
        let algorithm = options.splitter.unwrap_or_else(|| contents.splitter());
        Self {
            contents,
            options,
            splitter: algorithm.start(),
            chunk_bytes_max: algorithm.chunk_bytes_max(),
            chunk: Vec::new(),
            spare: Vec::new(),
            start: 0,
            entries: Vec::new(),
            scratch: WriteScratch::default(),
        }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Those of storing contents.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let scanned = self.chunk.len();
            let taken = bytes.len().min(STEP_BYTES).min(self.chunk_bytes_max - scanned);
            self.chunk.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            let mut scanned = scanned;
            while let Some(end) = self.splitter.find_end(&self.chunk, scanned) {
                self.store_chunk(end)?;
                scanned = 0;
            }
        }
        Ok(())
    }

    /// Stores the first `end` bytes of the buffer as a chunk.
    fn store_chunk(&mut self, end: usize) -> Result<()> {
        self.spare.clear();
        self.spare.extend_from_slice(&self.chunk[end..]);
        self.chunk.truncate(end);
        let options = &self.options;
        let object =
            put_chunk(self.contents, options.prefix, &mut self.chunk, options.compressor, &mut self.scratch)?
                .0;
        self.entries.push(IndirectEntry { start: self.start, length: end as u64, object });
        self.start += end as u64;
        std::mem::swap(&mut self.chunk, &mut self.spare);
        Ok(())
    }

    /// The object of the chunks stored so far, without the buffered tail; `None` if there are none.
    ///
    /// # Errors
    /// Those of storing contents.
    pub fn checkpoint(&mut self) -> Result<Option<ObjectId>> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        finish_entries(self.contents, self.entries.clone(), &self.options).map(Some)
    }

    /// Stores the tail and gives the ID of the whole. An empty object is one empty content.
    ///
    /// # Errors
    /// Those of storing contents.
    pub fn finish(mut self) -> Result<ObjectId> {
        if !self.chunk.is_empty() {
            self.store_chunk(self.chunk.len())?;
        }
        finish_entries(self.contents, self.entries, &self.options)
    }
}

/// Stores one chunk of an object: hash and put, compressed at object level (`Z`) where contents
/// cannot be. The bytes of `data` are lost.
///
/// # Errors
/// Those of storing contents.
pub fn put_chunk(
    contents: &ContentManager,
    prefix: Option<u8>,
    data: &mut Vec<u8>,
    compressor: CompressorId,
    scratch: &mut WriteScratch,
) -> Result<(ObjectId, Written)> {
    if prefix.is_none() && compressor != CompressorId::NONE && !contents.compresses_contents() {
        let mut compressed = std::mem::take(&mut scratch.compressed);
        compressed.clear();
        if scratch.compressor.compress(compressor, data, &mut compressed)? {
            let content = ContentId::new(None, contents.hasher().hash(&compressed))?;
            let written = contents.put_hashed(content, &mut compressed, CompressorId::NONE, scratch);
            scratch.compressed = compressed;
            return Ok((ObjectId { indirection: 0, compressed: true, content }, written?));
        }
        scratch.compressed = compressed;
    }
    let content = ContentId::new(prefix, contents.hasher().hash(data))?;
    let written = contents.put_hashed(content, data, compressor, scratch)?;
    Ok((ObjectId::direct(content), written))
}

/// Joins chunks: no entries make the empty object, one entry is its own object, two or more get
/// an index object (which is cut and joined in turn if it is long).
///
/// # Errors
/// Those of storing contents.
pub fn finish_entries(
    contents: &ContentManager,
    entries: Vec<IndirectEntry>,
    options: &ObjectWriterOptions,
) -> Result<ObjectId> {
    match entries.as_slice() {
        [] => {
            let scratch = &mut WriteScratch::default();
            Ok(put_chunk(contents, options.prefix, &mut Vec::new(), CompressorId::NONE, scratch)?.0)
        }
        [only] => Ok(only.object),
        entries => {
            let mut writer = ObjectWriter::new(contents, index_options(options));
            let mut json = Vec::new();
            indirect::encode(entries, &mut json);
            writer.write(&json)?;
            let index = writer.finish()?;
            let indirection = index.indirection.checked_add(1).ok_or_else(too_deep)?;
            Ok(ObjectId { indirection, ..index })
        }
    }
}

fn index_options(options: &ObjectWriterOptions) -> ObjectWriterOptions {
    ObjectWriterOptions {
        prefix: Some(options.prefix.unwrap_or(INDEX_PREFIX)),
        splitter: None,
        compressor: options.metadata_compressor,
        metadata_compressor: options.metadata_compressor,
    }
}

fn too_deep() -> Error {
    Error::new(ErrorKind::Internal, "more than 255 levels of index objects")
}

/// Joins objects end to end without reading their data (parallel upload of parts).
///
/// # Errors
/// `InvalidArgument` without any part; those of reading index objects and storing contents.
pub fn concatenate(
    contents: &ContentManager,
    parts: &[ObjectId],
    metadata_compressor: CompressorId,
) -> Result<ObjectId> {
    let mut joined = Vec::new();
    match parts {
        [] => return Err(Error::new(ErrorKind::InvalidArgument, "no objects to concatenate")),
        [only] => return Ok(*only),
        parts => {
            for part in parts {
                append_part(contents, *part, &mut joined)?;
            }
        }
    }
    let compressor = metadata_compressor;
    let options = ObjectWriterOptions { prefix: None, splitter: None, compressor, metadata_compressor };
    finish_entries(contents, joined, &options)
}

/// Appends one part: an indirect one gives its own entries (one level), a direct one a single entry.
fn append_part(contents: &ContentManager, part: ObjectId, joined: &mut Vec<IndirectEntry>) -> Result<()> {
    let base = joined.last().map_or(0, |last| last.start + last.length);
    if part.indirection > 0 {
        list::for_each_entry(contents, part, 0, &mut |entry| {
            joined.push(IndirectEntry { start: base + entry.start, ..entry });
            Ok(())
        })?;
    } else {
        let length = extents(contents, part, &mut |_| Ok(()))?;
        joined.push(IndirectEntry { start: base, length, object: part });
    }
    Ok(())
}
