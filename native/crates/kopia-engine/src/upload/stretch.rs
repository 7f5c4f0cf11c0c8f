//! Reading and splitting one stretch of a source into chunks, one call at a time.
//!
//! A stretch may be carried on by any worker. Two kinds of chunk are known without being hashed:
//! whole chunks of zeros in holes, and chunks that equal the one before them byte for byte.
//! Boundaries stay Kopia's, because a chunk's end depends on the bytes of that chunk alone.

use super::input::Input;
use super::large_file::Part;
use kopia_format::splitter::{Splitter, SplitterAlgorithm};
use std::io;
use std::sync::Arc;

/// Bytes read at a time: they stay in the second-level cache until they are split, and little
/// is read beyond a chunk's end.
const STEP_BYTES: usize = 256 << 10;
/// Bytes of a chunk's beginning that must repeat before a whole chunk is kept for comparing.
const HEAD_BYTES: usize = 4 << 10;
/// Repeated bytes after which a worker looks for other work.
const SLICE_BYTES: u64 = 128 << 20;

/// One stretch: a part of a file or a whole stream.
pub(super) struct Stretch<'a> {
    /// Where its chunks are recorded.
    pub(super) part: Arc<Part<'a>>,
    input: Input,
    splitter: Splitter,
    chunk_bytes_min: usize,
    chunk_bytes_max: usize,
    /// The first bytes of the last chunk.
    head: Vec<u8>,
    /// A chunk that may come again.
    reference: Option<Reference>,
}

/// A chunk kept whole, to compare what follows with it.
struct Reference {
    data: Vec<u8>,
    piece: usize,
}

/// What `advance` came to.
pub(super) enum Advance {
    /// A chunk to hash, number `piece` of the part.
    Chunk {
        /// Its bytes.
        data: Vec<u8>,
        /// Its place in the part.
        piece: usize,
    },
    /// Much was found repeated; there is more.
    Paused(Vec<u8>),
    /// Nothing more; the part has ended.
    End(Vec<u8>),
}

/// A stretch that cannot be read on.
pub(super) struct Failure {
    /// What the system says.
    pub(super) error: io::Error,
    /// The buffer that was lent for reading.
    pub(super) buffer: Vec<u8>,
}

/// What a stretch needs from its surroundings.
pub(super) trait Surroundings {
    /// A buffer to keep a chunk in, if one can be missed.
    fn lend_buffer(&self) -> Option<Vec<u8>>;
    /// Takes a lent buffer back.
    fn return_buffer(&self, buffer: Vec<u8>);
    /// Counts bytes of the source that are done with.
    fn count_read(&self, bytes: u64);
    /// Whether to stop.
    fn is_canceled(&self) -> bool;
}

impl<'a> Stretch<'a> {
    /// A stretch at its beginning.
    pub(super) fn new(part: Arc<Part<'a>>, input: Input, algorithm: SplitterAlgorithm) -> Self {
        Self {
            part,
            input,
            splitter: algorithm.start(),
            chunk_bytes_min: algorithm.chunk_bytes_min(),
            chunk_bytes_max: algorithm.chunk_bytes_max(),
            head: Vec::new(),
            reference: None,
        }
    }

    /// Reads up to the end of the next chunk that must be hashed.
    ///
    /// # Errors
    /// What reading gives; `Interrupted` when canceled.
    pub(super) fn advance(
        &mut self,
        mut buffer: Vec<u8>,
        around: &dyn Surroundings,
    ) -> Result<Advance, Failure> {
        let mut passed = 0;
        while passed < SLICE_BYTES {
            self.pass_holes(around);
            buffer.clear();
            let chunk = match self.read_chunk(&mut buffer, around) {
                Ok(chunk) => chunk,
                Err(error) => return Err(Failure { error, buffer }),
            };
            match chunk {
                Chunk::Repeated(length) => passed += length,
                Chunk::Ended if buffer.is_empty() => {
                    self.drop_reference(around);
                    return Ok(Advance::End(buffer));
                }
                Chunk::New | Chunk::Ended => {
                    let piece = self.part.add_pending(buffer.len() as u64);
                    self.remember(&buffer, piece, around);
                    around.count_read(buffer.len() as u64);
                    return Ok(Advance::Chunk { data: buffer, piece });
                }
            }
        }
        Ok(Advance::Paused(buffer))
    }

    /// Gives back what the stretch holds, when it will not be carried on.
    pub(super) fn drop_reference(&mut self, around: &dyn Surroundings) {
        if let Some(reference) = self.reference.take() {
            around.return_buffer(reference.data);
        }
    }

    /// Records whole chunks of zeros that lie in a hole.
    fn pass_holes(&mut self, around: &dyn Surroundings) {
        let length = self.splitter.zero_chunk_length() as u64;
        let count = self.input.zeros_ahead() / length;
        if count > 0 {
            self.part.add_zeros(length, count);
            self.input.skip(count * length);
            around.count_read(count * length);
        }
    }

    /// Fills `buffer` with the next chunk, cutting it where it ends.
    fn read_chunk(&mut self, buffer: &mut Vec<u8>, around: &dyn Surroundings) -> io::Result<Chunk> {
        let mut scanned = 0;
        loop {
            if around.is_canceled() {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            let before = buffer.len();
            if self.input.fill(buffer, STEP_BYTES.min(self.chunk_bytes_max - before))? == 0 {
                return Ok(Chunk::Ended);
            }
            match self.compare_with_reference(buffer, before) {
                Comparison::Repeated(length, piece) => {
                    self.input.unread(&buffer[length..]);
                    self.part.add_repeat(length as u64, piece);
                    around.count_read(length as u64);
                    return Ok(Chunk::Repeated(length as u64));
                }
                Comparison::EqualSoFar => continue,
                Comparison::Different => {
                    self.drop_reference(around);
                    // All before was the beginning of a longer chunk: no end lies in there.
                    scanned = before;
                }
                Comparison::None => {}
            }
            if buffer.len() >= self.chunk_bytes_min
                && let Some(end) = self.splitter.find_end(buffer, scanned)
            {
                self.input.unread(&buffer[end..]);
                buffer.truncate(end);
                return Ok(Chunk::New);
            }
            scanned = buffer.len();
        }
    }

    /// Compares the bytes from `before` on with the kept chunk.
    fn compare_with_reference(&self, buffer: &[u8], before: usize) -> Comparison {
        let Some(reference) = &self.reference else { return Comparison::None };
        let known = buffer.len().min(reference.data.len());
        if buffer[before..known] != reference.data[before..known] {
            Comparison::Different
        } else if known == reference.data.len() {
            Comparison::Repeated(known, reference.piece)
        } else {
            Comparison::EqualSoFar
        }
    }

    /// Keeps a chunk whose beginning equals that of the one before it.
    fn remember(&mut self, chunk: &[u8], piece: usize, around: &dyn Surroundings) {
        let head = &chunk[..HEAD_BYTES.min(chunk.len())];
        if head != self.head {
            self.drop_reference(around);
            self.head.clear();
            self.head.extend_from_slice(head);
            return;
        }
        let kept = self.reference.take().map(|reference| reference.data).or_else(|| around.lend_buffer());
        self.reference = kept.map(|mut data| {
            data.clear();
            data.extend_from_slice(chunk);
            Reference { data, piece }
        });
    }
}

/// How a chunk was found.
enum Chunk {
    /// In the buffer, cut.
    New,
    /// In the buffer, cut by the end of the stretch; maybe empty.
    Ended,
    /// Equal to the kept chunk of this length.
    Repeated(u64),
}

/// Result of comparing with the kept chunk.
enum Comparison {
    None,
    EqualSoFar,
    Different,
    Repeated(usize, usize),
}

#[cfg(test)]
mod tests;
