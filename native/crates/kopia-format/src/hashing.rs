//! The repository's keyed hash: one function for content IDs, blob names and local index IVs.

use crate::error::Result;
use crate::ids::ContentHash;

/// The eleven hash algorithms of Kopia (`repo/hashing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum HashAlgorithm {
    Blake2b256_128, Blake2b256, Blake2s128, Blake2s256, Blake3_256, Blake3_256_128,
    HmacSha224, HmacSha256, HmacSha256_128, HmacSha3_224, HmacSha3_256,
}

impl HashAlgorithm {
    /// All of them, in Kopia's order of names.
    pub const ALL: &'static [HashAlgorithm] = &[];
    /// Parses Kopia's name, e.g. `BLAKE2B-256-128`.
    pub fn parse(_name: &str) -> Result<Self> { todo!() }
    /// Kopia's name.
    pub fn name(self) -> &'static str { todo!() }
    /// Bytes of output.
    pub fn output_length(self) -> usize { todo!() }
}

/// The keyed hash of one repository. Cheap to share between threads.
#[derive(Clone)]
pub struct ContentHasher {}

impl ContentHasher {
    /// Prepares `algorithm` with the repository's `secret` (which may be empty where Kopia allows it).
    pub fn new(_algorithm: HashAlgorithm, _secret: &[u8]) -> Result<Self> { todo!() }
    /// Which algorithm this is.
    pub fn algorithm(&self) -> HashAlgorithm { todo!() }
    /// Hash of `data`.
    pub fn hash(&self, _data: &[u8]) -> ContentHash { todo!() }
    /// Hashes of all `inputs`, in order; side by side where the algorithm gains from it.
    pub fn hash_many(&self, _inputs: &[&[u8]]) -> Vec<ContentHash> { todo!() }
    /// A hash state that takes bytes in pieces (used to interleave long messages, see `update_many`).
    pub fn start(&self) -> HashState { todo!() }
    /// Feeds each state its piece; side by side where the algorithm gains from it.
    pub fn update_many(&self, _pieces: &mut [(&mut HashState, &[u8])]) { todo!() }
    /// How many messages side by side saturate the vector unit (4 for BLAKE2b with AVX2, 1 where it does not help).
    pub fn preferred_lanes(&self) -> usize { todo!() }
}

/// A message that is being hashed in pieces.
pub struct HashState {}

impl HashState {
    /// Feeds one piece.
    pub fn update(&mut self, _piece: &[u8]) { todo!() }
    /// The hash of all pieces.
    pub fn finish(self) -> ContentHash { todo!() }
}
