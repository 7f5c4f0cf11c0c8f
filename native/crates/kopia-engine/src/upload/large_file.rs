//! A file that is cut into chunks: its parts, what is known of their chunks, and its completion.
//!
//! Files above the multipart threshold have several parts, each split on its own and joined at
//! the end, as Kopia does. Chunks are finished in any order; a part is complete when its end was
//! read and no chunk is pending.

use super::entry::Destination;
use crate::source::metadata::Metadata;
use kopia_format::ObjectId;
use kopia_format::compression::CompressorId;
use kopia_format::indirect::IndirectEntry;
use kopia_format::splitter::SplitterAlgorithm;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How the data of a file is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storing {
    /// Compressor of its chunks.
    pub(super) compressor: CompressorId,
    /// Compressor of its index objects.
    pub(super) metadata_compressor: CompressorId,
    /// Where it is cut.
    pub(super) splitter: SplitterAlgorithm,
}

/// A file that is being uploaded in chunks.
pub(super) struct LargeFile<'a> {
    /// Who gets the entry.
    pub(super) destination: Destination<'a>,
    /// Recorded name.
    pub(super) name: Vec<u8>,
    /// Metadata as of opening.
    pub(super) metadata: Metadata,
    /// How it is stored.
    pub(super) storing: Storing,
    /// Object and length of each part that is complete.
    pub(super) parts: Mutex<Vec<Option<(ObjectId, u64)>>>,
    /// Parts that are not complete.
    pub(super) parts_left: AtomicUsize,
    /// Whether its entry, or its failure, was delivered.
    pub(super) settled: AtomicBool,
}

impl LargeFile<'_> {
    /// Whether the caller is the first to settle it.
    pub(super) fn settle(&self) -> bool {
        !self.settled.swap(true, Ordering::AcqRel)
    }
    /// Whether it is settled, so that nothing more needs to be read.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }
}

/// One part of a large file.
pub(super) struct Part<'a> {
    /// The file.
    pub(super) file: Arc<LargeFile<'a>>,
    /// Which part.
    pub(super) number: usize,
    pieces: Mutex<Pieces>,
}

#[derive(Debug, Default)]
struct Pieces {
    list: Vec<Piece>,
    pending: usize,
    ended: bool,
}

/// A run of chunks.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Length of one chunk.
    length: u64,
    /// How many equal chunks follow each other.
    count: u64,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// Not hashed yet.
    Pending,
    /// Stored under this name.
    Stored(ObjectId),
    /// The same as an earlier piece.
    Same(usize),
    /// Zeros.
    Zeros,
}

impl<'a> Part<'a> {
    /// A part of which nothing is known.
    pub(super) fn new(file: Arc<LargeFile<'a>>, number: usize) -> Arc<Self> {
        Arc::new(Self { file, number, pieces: Mutex::default() })
    }
    /// Records a chunk whose hash is not known; gives its number.
    pub(super) fn add_pending(&self, length: u64) -> usize {
        let mut pieces = self.pieces.lock();
        pieces.pending += 1;
        pieces.list.push(Piece { length, count: 1, what: What::Pending });
        pieces.list.len() - 1
    }
    /// Records a chunk that equals an earlier one.
    pub(super) fn add_repeat(&self, length: u64, piece: usize) {
        self.add_run(length, 1, What::Same(piece));
    }
    /// Records whole chunks of zeros.
    pub(super) fn add_zeros(&self, length: u64, count: u64) {
        self.add_run(length, count, What::Zeros);
    }
    fn add_run(&self, length: u64, count: u64, what: What) {
        let list = &mut self.pieces.lock().list;
        let same = |a: What, b: What| match (a, b) {
            (What::Zeros, What::Zeros) => true,
            (What::Same(a), What::Same(b)) => a == b,
            _ => false,
        };
        match list.last_mut() {
            Some(last) if last.length == length && same(last.what, what) => last.count += count,
            _ => list.push(Piece { length, count, what }),
        }
    }
    /// Notes where a chunk was stored; whether the part is complete now.
    pub(super) fn resolve(&self, piece: usize, object: ObjectId) -> bool {
        let mut pieces = self.pieces.lock();
        pieces.list[piece].what = What::Stored(object);
        pieces.pending -= 1;
        pieces.ended && pieces.pending == 0
    }
    /// Notes that the end was read; whether the part is complete now.
    pub(super) fn end(&self) -> bool {
        let mut pieces = self.pieces.lock();
        pieces.ended = true;
        pieces.pending == 0
    }
    /// Chunks of the beginning that is stored without gaps, and its length. `zeros` names whole
    /// chunks of zeros of a length.
    ///
    /// # Errors
    /// What `zeros` says.
    pub(super) fn stored_prefix<E>(
        &self,
        mut zeros: impl FnMut(u64) -> Result<ObjectId, E>,
    ) -> Result<(Vec<IndirectEntry>, u64), E> {
        let list = self.pieces.lock().list.clone();
        let mut entries = Vec::with_capacity(list.len());
        let mut start = 0;
        for piece in &list {
            let object = match piece.what {
                What::Stored(object) => object,
                What::Zeros => zeros(piece.length)?,
                What::Same(earlier) => match list[earlier].what {
                    What::Stored(object) => object,
                    _ => break,
                },
                What::Pending => break,
            };
            for _ in 0..piece.count {
                entries.push(IndirectEntry { start, length: piece.length, object });
                start += piece.length;
            }
        }
        Ok((entries, start))
    }
}
