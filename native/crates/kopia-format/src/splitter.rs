//! Where objects are cut (format document §5.3).

use crate::error::Result;

/// A splitter by name: `FIXED-4M`, `DYNAMIC-4M-BUZHASH`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SplitterAlgorithm {}

impl SplitterAlgorithm {
    /// Parses one of the 23 names; the empty string is `FIXED`.
    pub fn parse(_name: &str) -> Result<Self> { todo!() }
    /// The name given to `parse`.
    pub fn name(self) -> &'static str { todo!() }
    /// All names.
    pub fn names() -> &'static [&'static str] { todo!() }
    /// Smallest chunk that is not the last of its object, in bytes.
    pub fn chunk_bytes_min(self) -> usize { todo!() }
    /// Largest chunk, in bytes.
    pub fn chunk_bytes_max(self) -> usize { todo!() }
    /// A splitter at the start of a chunk.
    pub fn start(self) -> Splitter { todo!() }
}

/// Finds the end of one chunk after the other. Results do not depend on how bytes are divided into calls.
#[derive(Debug, Clone)]
pub struct Splitter {}

impl Splitter {
    /// Continues the chunk that is being scanned. `chunk` is the whole chunk so far (from its start),
    /// of which the first `scanned` bytes were given to earlier calls. Says the length of the
    /// chunk if it ends within `chunk`, else `None` (more bytes are needed). Stateless between chunks.
    pub fn find_end(&self, _chunk: &[u8], _scanned: usize) -> Option<usize> { todo!() }
    /// How long a chunk of zero bytes gets (equal for every run of zeros; sparse files use it).
    pub fn zero_chunk_length(&self) -> usize { todo!() }
}
