//! Where objects are cut (format document §5.3): names, sizes and the rule; the rolling hashes
//! themselves live in `kopia-kernels`.
//!
//! A dynamic splitter of average size A never tests the first A/2 − 1 bytes of a chunk, far more
//! than the hash window of 64 bytes: so each chunk is computed from its own bytes alone, and
//! nothing has to be remembered from one call to the next.
//!
//! Source: Kopia `repo/splitter/splitter.go`, `splitter_buzhash32.go`, `splitter_rabinkarp64.go`.

use kopia_kernels::{buzhash, rabin_karp};

use crate::error::{FormatError, Result};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A splitter by name: `FIXED-4M`, `DYNAMIC-4M-BUZHASH`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SplitterAlgorithm {
    name: &'static str,
    rule: Rule,
    /// Length of a fixed chunk, average of a dynamic one; a power of two.
    size_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    Fixed,
    Buzhash,
    RabinKarp,
}

/// One line a name, in the order of Kopia's sizes.
const ALGORITHMS: [SplitterAlgorithm; 23] = {
    const fn of(name: &'static str, rule: Rule, size_bytes: usize) -> SplitterAlgorithm {
        SplitterAlgorithm { name, rule, size_bytes }
    }
    [
        of("DYNAMIC", Rule::Buzhash, 4 * MIB),
        of("DYNAMIC-128K-BUZHASH", Rule::Buzhash, 128 * KIB),
        of("DYNAMIC-256K-BUZHASH", Rule::Buzhash, 256 * KIB),
        of("DYNAMIC-512K-BUZHASH", Rule::Buzhash, 512 * KIB),
        of("DYNAMIC-1M-BUZHASH", Rule::Buzhash, MIB),
        of("DYNAMIC-2M-BUZHASH", Rule::Buzhash, 2 * MIB),
        of("DYNAMIC-4M-BUZHASH", Rule::Buzhash, 4 * MIB),
        of("DYNAMIC-8M-BUZHASH", Rule::Buzhash, 8 * MIB),
        of("DYNAMIC-128K-RABINKARP", Rule::RabinKarp, 128 * KIB),
        of("DYNAMIC-256K-RABINKARP", Rule::RabinKarp, 256 * KIB),
        of("DYNAMIC-512K-RABINKARP", Rule::RabinKarp, 512 * KIB),
        of("DYNAMIC-1M-RABINKARP", Rule::RabinKarp, MIB),
        of("DYNAMIC-2M-RABINKARP", Rule::RabinKarp, 2 * MIB),
        of("DYNAMIC-4M-RABINKARP", Rule::RabinKarp, 4 * MIB),
        of("DYNAMIC-8M-RABINKARP", Rule::RabinKarp, 8 * MIB),
        of("FIXED", Rule::Fixed, 4 * MIB),
        of("FIXED-128K", Rule::Fixed, 128 * KIB),
        of("FIXED-256K", Rule::Fixed, 256 * KIB),
        of("FIXED-512K", Rule::Fixed, 512 * KIB),
        of("FIXED-1M", Rule::Fixed, MIB),
        of("FIXED-2M", Rule::Fixed, 2 * MIB),
        of("FIXED-4M", Rule::Fixed, 4 * MIB),
        of("FIXED-8M", Rule::Fixed, 8 * MIB),
    ]
};

static NAMES: [&str; ALGORITHMS.len()] = {
    let mut names = [""; ALGORITHMS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = ALGORITHMS[at].name;
        at += 1;
    }
    names
};

impl SplitterAlgorithm {
    /// Parses one of the 23 names; the empty string is `FIXED`.
    pub fn parse(name: &str) -> Result<Self> {
        let name = if name.is_empty() { "FIXED" } else { name };
        ALGORITHMS.iter().find(|algorithm| algorithm.name == name).copied().ok_or_else(|| {
            FormatError::unsupported(
                "splitter",
                format!("unknown splitter {name:?}; known are {}", NAMES.join(", ")),
            )
        })
    }

    /// The name given to `parse` (`FIXED` for the empty string).
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// All names.
    #[must_use]
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// Smallest chunk that is not the last of its object, in bytes.
    #[must_use]
    pub fn chunk_bytes_min(self) -> usize {
        if self.rule == Rule::Fixed { self.size_bytes } else { self.size_bytes / 2 }
    }

    /// Largest chunk, in bytes.
    #[must_use]
    pub fn chunk_bytes_max(self) -> usize {
        if self.rule == Rule::Fixed { self.size_bytes } else { self.size_bytes * 2 }
    }

    /// A splitter at the start of a chunk.
    #[must_use]
    pub fn start(self) -> Splitter {
        Splitter { algorithm: self }
    }
}

/// Finds the end of one chunk after the other. Results do not depend on how bytes are divided into calls.
#[derive(Debug, Clone)]
pub struct Splitter {
    algorithm: SplitterAlgorithm,
}

impl Splitter {
    /// Continues the chunk that is being scanned. `chunk` is the whole chunk so far (from its start),
    /// of which the first `scanned` bytes were given to earlier calls. Says the length of the
    /// chunk if it ends within `chunk`, else `None` (more bytes are needed). Stateless between chunks.
    #[must_use]
    pub fn find_end(&self, chunk: &[u8], scanned: usize) -> Option<usize> {
        let longest = self.algorithm.chunk_bytes_max();
        let chunk = &chunk[..chunk.len().min(longest)];
        // A chunk of n bytes ends at position n - 1.
        let from = scanned.max(self.algorithm.chunk_bytes_min() - 1).min(chunk.len());
        let last = self.find_cut(chunk, from);
        last.map(|position| position + 1).or((chunk.len() == longest).then_some(longest))
    }

    /// First position at or behind `from` after which the content says to cut.
    fn find_cut(&self, chunk: &[u8], from: usize) -> Option<usize> {
        if from == chunk.len() {
            return None;
        }
        // At most 23 bits are set: both hashes have more.
        let mask = self.algorithm.size_bytes - 1;
        match self.algorithm.rule {
            Rule::Fixed => None,
            Rule::Buzhash => buzhash::find(chunk, from..chunk.len(), mask as u32),
            Rule::RabinKarp => rabin_karp::find(chunk, from..chunk.len(), mask as u64),
        }
    }

    /// How long a chunk of zero bytes gets (equal for every run of zeros; sparse files use it):
    /// the smallest length, because both hashes of 64 zero bytes are 0 and so always match.
    #[must_use]
    pub fn zero_chunk_length(&self) -> usize {
        self.algorithm.chunk_bytes_min()
    }
}

#[cfg(test)]
mod tests;
