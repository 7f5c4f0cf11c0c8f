//! What waits to be done in an upload, and what is most urgent.
//!
//! Store what is hashed (it frees buffers), hash what fills the lanes, read what fits in free
//! buffers, walk on; hash fewer than fill the lanes only when nothing else can be done.

use super::directory::Node;
use super::hashing::{Chunk, HashedChunk};
use super::pool::Pool;
use super::stretch::Stretch;
use std::collections::VecDeque;
use std::sync::Arc;

/// Stretches that may wait before no further files are looked for.
const STRETCHES_WAITING_MAX: usize = 8;

/// What waits to be done.
pub(super) struct Work<'a> {
    /// Open directories, the deepest last.
    pub(super) nodes: Vec<Arc<Node<'a>>>,
    /// Stretches that can be read on.
    pub(super) stretches: VecDeque<Stretch<'a>>,
    /// Chunks that are cut and not wholly hashed.
    pub(super) ready: Vec<Chunk<'a>>,
    /// Chunks to store.
    pub(super) hashed: Vec<HashedChunk<'a>>,
    /// Free buffers.
    pub(super) pool: Pool,
    /// Buffers that stretches keep for comparing.
    pub(super) lent: usize,
    /// Workers that are at work.
    pub(super) active: usize,
    /// Whether the work is over.
    pub(super) finished: bool,
}

/// A piece of work for one worker.
pub(super) enum Task<'a> {
    /// Store a chunk.
    Store(HashedChunk<'a>),
    /// Hash chunks side by side.
    Hash(Vec<Chunk<'a>>),
    /// Read the next chunk of a stretch into a buffer.
    Read(Stretch<'a>, Vec<u8>),
    /// Take the next entries of a directory.
    Walk(Arc<Node<'a>>),
}

impl<'a> Work<'a> {
    /// Nothing to do yet.
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            nodes: Vec::new(),
            stretches: VecDeque::new(),
            ready: Vec::new(),
            hashed: Vec::new(),
            pool,
            lent: 0,
            active: 0,
            finished: false,
        }
    }
    /// The most urgent task.
    pub(super) fn pick(&mut self, lanes: usize) -> Option<Task<'a>> {
        if let Some(chunk) = self.hashed.pop() {
            return Some(Task::Store(chunk));
        }
        if self.ready.len() >= lanes {
            let rest = self.ready.len() - lanes;
            return Some(Task::Hash(self.ready.split_off(rest)));
        }
        if !self.stretches.is_empty() && self.pool.has_free() {
            let stretch = self.stretches.pop_front()?;
            return Some(Task::Read(stretch, self.pool.take()?));
        }
        if let Some(node) = self.node_to_walk() {
            return Some(Task::Walk(node));
        }
        (!self.ready.is_empty()).then(|| Task::Hash(std::mem::take(&mut self.ready)))
    }
    fn node_to_walk(&self) -> Option<Arc<Node<'a>>> {
        if self.stretches.len() >= STRETCHES_WAITING_MAX {
            return None;
        }
        self.nodes.iter().rev().find(|node| node.can_claim()).map(Arc::clone)
    }
    /// Whether a worker does better than to hash fewer chunks than there are lanes.
    pub(super) fn has_better_than_few_lanes(&self) -> bool {
        !self.hashed.is_empty()
            || (!self.stretches.is_empty() && self.pool.has_free())
            || self.node_to_walk().is_some()
    }
}
