//! Hashing chunks side by side.
//!
//! A hash of one message cannot use the width of the vector unit; four messages at a time take
//! the time of one. So chunks wait until there are enough of them, are advanced together in equal
//! pieces, and are put back half hashed when too few are left and a worker can rather read more.

use super::large_file::Part;
use kopia_format::ContentHash;
use kopia_format::hashing::{ContentHasher, HashState};
use std::sync::Arc;

/// Bytes of each chunk between two looks at the queues.
const PIECE_BYTES: usize = 512 << 10;

/// A chunk that was cut and is not hashed, or not wholly.
pub(super) struct Chunk<'a> {
    /// The part it belongs to.
    pub(super) part: Arc<Part<'a>>,
    /// Its place in the part.
    pub(super) piece: usize,
    /// Its bytes.
    pub(super) data: Vec<u8>,
    /// Whether `data` is header and compressed bytes (object-level compression of old formats).
    pub(super) compressed: bool,
    state: Option<HashState>,
    hashed_bytes: usize,
}

/// A chunk whose name is known.
pub(super) struct HashedChunk<'a> {
    /// The part it belongs to.
    pub(super) part: Arc<Part<'a>>,
    /// Its place in the part.
    pub(super) piece: usize,
    /// Its bytes.
    pub(super) data: Vec<u8>,
    /// As in [`Chunk`].
    pub(super) compressed: bool,
    /// Hash of its bytes.
    pub(super) hash: ContentHash,
}

impl<'a> Chunk<'a> {
    /// A chunk of which nothing is hashed.
    pub(super) fn new(part: Arc<Part<'a>>, piece: usize, data: Vec<u8>, compressed: bool) -> Self {
        Self { part, piece, data, compressed, state: None, hashed_bytes: 0 }
    }
    fn left_bytes(&self) -> usize {
        self.data.len() - self.hashed_bytes
    }
}

/// Advances all `lanes` together by one piece; takes out those that are finished.
pub(super) fn advance<'a>(hasher: &ContentHasher, lanes: &mut Vec<Chunk<'a>>) -> Vec<HashedChunk<'a>> {
    let step = lanes.iter().map(Chunk::left_bytes).min().unwrap_or(0).min(PIECE_BYTES);
    if step > 0 {
        let mut pieces: Vec<(&mut HashState, &[u8])> = lanes
            .iter_mut()
            .map(|lane| {
                let piece = &lane.data[lane.hashed_bytes..lane.hashed_bytes + step];
                (lane.state.get_or_insert_with(|| hasher.start()), piece)
            })
            .collect();
        hasher.update_many(&mut pieces);
    }
    let mut finished = Vec::new();
    for lane in &mut *lanes {
        lane.hashed_bytes += step;
    }
    for at in (0..lanes.len()).rev() {
        if lanes[at].left_bytes() == 0 {
            let Chunk { part, piece, data, compressed, state, .. } = lanes.swap_remove(at);
            let hash = state.unwrap_or_else(|| hasher.start()).finish();
            finished.push(HashedChunk { part, piece, data, compressed, hash });
        }
    }
    finished
}
