//! Chunk buffers of one upload: a fixed number, made when first needed, used again and again.
//!
//! The number follows from the memory budget; fresh allocation for every chunk would cost a page
//! fault per 4 KiB. A buffer is a `Vec` because sealing may happen in place.

/// Room behind the largest chunk for what sealing adds, so that it never reallocates.
const SEALING_ROOM_BYTES: usize = 4 << 10;

/// Fewer buffers cannot keep a reader and a hasher busy.
const BUFFERS_MIN: usize = 3;

/// The free buffers.
#[derive(Debug)]
pub(super) struct Pool {
    free: Vec<Vec<u8>>,
    not_made: usize,
    capacity_bytes: usize,
    count: usize,
}

impl Pool {
    /// As many buffers for chunks of up to `chunk_bytes_max` as `budget_bytes` allows, at least three.
    pub(super) fn new(budget_bytes: usize, chunk_bytes_max: usize) -> Self {
        let capacity_bytes = chunk_bytes_max + SEALING_ROOM_BYTES;
        let count = (budget_bytes / capacity_bytes).clamp(BUFFERS_MIN, 64);
        Self { free: Vec::with_capacity(count), not_made: count, capacity_bytes, count }
    }
    /// Whether `take` would give one.
    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty() || self.not_made > 0
    }
    /// Buffers in all, free or not.
    pub(super) fn count(&self) -> usize {
        self.count
    }
    /// An empty buffer.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        self.free.pop().or_else(|| {
            self.not_made = self.not_made.checked_sub(1)?;
            Some(Vec::with_capacity(self.capacity_bytes))
        })
    }
    /// Takes a buffer back. Its bytes stay as they are, only its length goes.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.free.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_no_more_buffers_than_the_budget_holds() {
        let mut pool = Pool::new(40 << 20, 8 << 20);
        let mut taken = Vec::new();
        while let Some(buffer) = pool.take() {
            taken.push(buffer);
        }
        assert_eq!(taken.len(), 4);
        pool.give(taken.pop().expect("taken"));
        assert!(pool.has_free());
        assert!(pool.take().expect("free").capacity() > 8 << 20);
    }
}
