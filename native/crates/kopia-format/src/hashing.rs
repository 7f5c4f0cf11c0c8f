//! The repository's keyed hash: one function for content IDs, blob names and local index IVs.
//!
//! Holds the eleven algorithms, whole-message and piecewise hashing. What is done with a hash
//! (IDs, initialization vectors) is in `ids`. The surprise: `BLAKE2B-256-128` is BLAKE2b with a
//! digest of *32* bytes cut to 16, while `BLAKE2S-128` really is a 16-byte digest.

use crate::error::{FormatError, Result};
use crate::ids::ContentHash;
use aws_lc_rs::hmac as aws_hmac;
use blake2b_simd::many::{self, HashManyJob};
use hmac::{KeyInit, Mac, SimpleHmac};
use sha3::{Sha3_224, Sha3_256};
use std::fmt;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// The context under which short secrets are stretched into a BLAKE3 key.
const BLAKE3_KEY_CONTEXT: &str = "kopia blake3 derived key v1";

/// The eleven hash algorithms of Kopia (`repo/hashing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum HashAlgorithm {
    Blake2b256_128,
    Blake2b256,
    Blake2s128,
    Blake2s256,
    Blake3_256,
    Blake3_256_128,
    HmacSha224,
    HmacSha256,
    HmacSha256_128,
    HmacSha3_224,
    HmacSha3_256,
}

impl HashAlgorithm {
    /// All of them, in Kopia's order of names.
    pub const ALL: &'static [HashAlgorithm] = &[
        Self::Blake2b256,
        Self::Blake2b256_128,
        Self::Blake2s128,
        Self::Blake2s256,
        Self::Blake3_256,
        Self::Blake3_256_128,
        Self::HmacSha224,
        Self::HmacSha256,
        Self::HmacSha256_128,
        Self::HmacSha3_224,
        Self::HmacSha3_256,
    ];

    /// Parses Kopia's name, e.g. `BLAKE2B-256-128`.
    ///
    /// # Errors
    /// `Unsupported` for any other name.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name);
        found.ok_or_else(|| FormatError::unsupported("hash algorithm", format!("unknown name {name:?}")))
    }

    /// Kopia's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake2b256_128 => "BLAKE2B-256-128",
            Self::Blake2b256 => "BLAKE2B-256",
            Self::Blake2s128 => "BLAKE2S-128",
            Self::Blake2s256 => "BLAKE2S-256",
            Self::Blake3_256 => "BLAKE3-256",
            Self::Blake3_256_128 => "BLAKE3-256-128",
            Self::HmacSha224 => "HMAC-SHA224",
            Self::HmacSha256 => "HMAC-SHA256",
            Self::HmacSha256_128 => "HMAC-SHA256-128",
            Self::HmacSha3_224 => "HMAC-SHA3-224",
            Self::HmacSha3_256 => "HMAC-SHA3-256",
        }
    }

    /// Bytes of output: 16, 28 or 32.
    pub fn output_length(self) -> usize {
        match self {
            Self::Blake2b256_128 | Self::Blake2s128 | Self::Blake3_256_128 | Self::HmacSha256_128 => 16,
            Self::HmacSha224 | Self::HmacSha3_224 => 28,
            Self::Blake2b256
            | Self::Blake2s256
            | Self::Blake3_256
            | Self::HmacSha256
            | Self::HmacSha3_256 => 32,
        }
    }

    /// Cuts a digest of this algorithm to its output length.
    fn cut(self, digest: &[u8]) -> ContentHash {
        // Cannot fail: every digest below is at least as long as `output_length`, which is 16..=32.
        ContentHash::new(&digest[..self.output_length()]).expect("output lengths are 16 to 32 bytes")
    }
}

/// An algorithm that has taken in its key.
enum KeyedAlgorithm {
    Blake2b(blake2b_simd::Params),
    Blake2s(blake2s_simd::Params),
    Blake3([u8; blake3::KEY_LEN]),
    HmacSha2(Box<aws_hmac::Key>),
    HmacSha3_224(SimpleHmac<Sha3_224>),
    HmacSha3_256(SimpleHmac<Sha3_256>),
}

impl KeyedAlgorithm {
    fn new(algorithm: HashAlgorithm, secret: &[u8]) -> Result<Self> {
        use HashAlgorithm as A;
        Ok(match algorithm {
            A::Blake2b256 | A::Blake2b256_128 => Self::Blake2b(blake2b_params(secret)?),
            A::Blake2s128 | A::Blake2s256 => {
                Self::Blake2s(blake2s_params(secret, algorithm.output_length())?)
            }
            A::Blake3_256 | A::Blake3_256_128 => Self::Blake3(blake3_key(secret)),
            A::HmacSha224 => hmac_sha2(aws_hmac::HMAC_SHA224, secret),
            A::HmacSha256 | A::HmacSha256_128 => hmac_sha2(aws_hmac::HMAC_SHA256, secret),
            A::HmacSha3_224 => Self::HmacSha3_224(keyed_hmac(secret)),
            A::HmacSha3_256 => Self::HmacSha3_256(keyed_hmac(secret)),
        })
    }

    fn start(&self) -> RunningDigest {
        match self {
            Self::Blake2b(params) => RunningDigest::Blake2b(params.to_state()),
            Self::Blake2s(params) => RunningDigest::Blake2s(params.to_state()),
            Self::Blake3(key) => RunningDigest::Blake3(Box::new(blake3::Hasher::new_keyed(key))),
            Self::HmacSha2(key) => RunningDigest::HmacSha2(Box::new(aws_hmac::Context::with_key(key))),
            Self::HmacSha3_224(keyed) => RunningDigest::HmacSha3_224(Box::new(keyed.clone())),
            Self::HmacSha3_256(keyed) => RunningDigest::HmacSha3_256(Box::new(keyed.clone())),
        }
    }
}

fn hmac_sha2(digest: aws_hmac::Algorithm, secret: &[u8]) -> KeyedAlgorithm {
    KeyedAlgorithm::HmacSha2(Box::new(aws_hmac::Key::new(digest, secret)))
}

/// HMAC takes a key of any length.
fn keyed_hmac<M: KeyInit>(secret: &[u8]) -> M {
    M::new_from_slice(secret).expect("hmac takes keys of any length")
}

fn blake2b_params(secret: &[u8]) -> Result<blake2b_simd::Params> {
    if secret.len() > blake2b_simd::KEYBYTES {
        return Err(secret_too_long(secret.len(), blake2b_simd::KEYBYTES));
    }
    let mut params = blake2b_simd::Params::new();
    params.hash_length(32).key(secret);
    Ok(params)
}

fn blake2s_params(secret: &[u8], digest_length: usize) -> Result<blake2s_simd::Params> {
    if secret.len() > blake2s_simd::KEYBYTES {
        return Err(secret_too_long(secret.len(), blake2s_simd::KEYBYTES));
    }
    if secret.is_empty() && digest_length == 16 {
        // Kopia's library refuses it: 16 bytes of unkeyed digest do not resist collisions.
        return Err(FormatError::malformed("hash secret", "BLAKE2S-128 needs a secret, there is none"));
    }
    let mut params = blake2s_simd::Params::new();
    params.hash_length(digest_length).key(secret);
    Ok(params)
}

fn secret_too_long(length: usize, length_max: usize) -> FormatError {
    FormatError::malformed(
        "hash secret",
        format!("{length} bytes, this algorithm takes at most {length_max}"),
    )
}

fn blake3_key(secret: &[u8]) -> [u8; blake3::KEY_LEN] {
    match secret.first_chunk() {
        Some(key) => *key,
        None => blake3::derive_key(BLAKE3_KEY_CONTEXT, secret),
    }
}

/// The keyed hash of one repository. Cheap to clone and to share between threads.
#[derive(Clone)]
pub struct ContentHasher {
    algorithm: HashAlgorithm,
    keyed: Arc<KeyedAlgorithm>,
}

impl fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHasher({}, secret: ***)", self.algorithm.name())
    }
}

impl ContentHasher {
    /// Prepares `algorithm` with the repository's `secret` (which may be empty where Kopia allows it).
    ///
    /// # Errors
    /// `Malformed` for a secret that the algorithm cannot take: longer than 64 (BLAKE2b) or 32
    /// bytes (BLAKE2s), or empty with `BLAKE2S-128`.
    pub fn new(algorithm: HashAlgorithm, secret: &[u8]) -> Result<Self> {
        Ok(Self { algorithm, keyed: Arc::new(KeyedAlgorithm::new(algorithm, secret)?) })
    }

    /// Which algorithm this is.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Hash of `data`.
    pub fn hash(&self, data: &[u8]) -> ContentHash {
        match &*self.keyed {
            KeyedAlgorithm::Blake2b(params) => self.algorithm.cut(params.hash(data).as_bytes()),
            KeyedAlgorithm::Blake2s(params) => self.algorithm.cut(params.hash(data).as_bytes()),
            KeyedAlgorithm::Blake3(key) => self.algorithm.cut(blake3::keyed_hash(key, data).as_bytes()),
            KeyedAlgorithm::HmacSha2(key) => self.algorithm.cut(aws_hmac::sign(key, data).as_ref()),
            KeyedAlgorithm::HmacSha3_224(_) | KeyedAlgorithm::HmacSha3_256(_) => {
                let mut state = self.start();
                state.update(data);
                state.finish()
            }
        }
    }

    /// Hashes of all `inputs`, in order; side by side where the algorithm gains from it.
    ///
    /// BLAKE2b keeps its lanes full by taking the next message as soon as one ends, so many
    /// messages of unlike lengths in one call are faster than calls of a few.
    pub fn hash_many(&self, inputs: &[&[u8]]) -> Vec<ContentHash> {
        match &*self.keyed {
            KeyedAlgorithm::Blake2b(params) => self.hash_many_blake2b(params, inputs),
            _ => inputs.iter().map(|input| self.hash(input)).collect(),
        }
    }

    fn hash_many_blake2b(&self, params: &blake2b_simd::Params, inputs: &[&[u8]]) -> Vec<ContentHash> {
        let mut jobs: Vec<HashManyJob<'_>> =
            inputs.iter().map(|input| HashManyJob::new(params, input)).collect();
        // Longest first: otherwise a long message met last runs alone in one lane.
        let mut order: Vec<(usize, &mut HashManyJob<'_>)> =
            inputs.iter().map(|input| input.len()).zip(jobs.iter_mut()).collect();
        order.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        many::hash_many(order.into_iter().map(|(_, job)| job));
        jobs.iter().map(|job| self.algorithm.cut(job.to_hash().as_bytes())).collect()
    }

    /// A hash state that takes bytes in pieces (used to interleave long messages, see `update_many`).
    pub fn start(&self) -> HashState {
        HashState { algorithm: self.algorithm, digest: self.keyed.start() }
    }

    /// Feeds each state its piece; side by side where the algorithm gains from it.
    pub fn update_many(&self, pieces: &mut [(&mut HashState, &[u8])]) {
        let mut blake2b: Vec<(&mut blake2b_simd::State, &[u8])> = Vec::with_capacity(pieces.len());
        for (state, piece) in pieces.iter_mut() {
            match &mut state.digest {
                RunningDigest::Blake2b(digest) => blake2b.push((digest, piece)),
                other => other.update(piece),
            }
        }
        blake2b.sort_by_key(|(_, piece)| std::cmp::Reverse(piece.len()));
        many::update_many(blake2b);
    }

    /// How many messages side by side saturate the vector unit (4 for BLAKE2b with AVX2, 1 where it does not help).
    pub fn preferred_lanes(&self) -> usize {
        match &*self.keyed {
            KeyedAlgorithm::Blake2b(_) => many::degree(),
            _ => 1,
        }
    }
}

/// A digest on its way.
// BLAKE2b is unboxed on purpose: it is the default and must not cost an allocation.
enum RunningDigest {
    Blake2b(blake2b_simd::State),
    Blake2s(blake2s_simd::State),
    Blake3(Box<blake3::Hasher>),
    HmacSha2(Box<aws_hmac::Context>),
    HmacSha3_224(Box<SimpleHmac<Sha3_224>>),
    HmacSha3_256(Box<SimpleHmac<Sha3_256>>),
}

impl RunningDigest {
    fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Blake2b(state) => {
                state.update(piece);
            }
            Self::Blake2s(state) => {
                state.update(piece);
            }
            Self::Blake3(state) => {
                state.update(piece);
            }
            Self::HmacSha2(context) => context.update(piece),
            Self::HmacSha3_224(mac) => mac.update(piece),
            Self::HmacSha3_256(mac) => mac.update(piece),
        }
    }
}

/// A message that is being hashed in pieces.
pub struct HashState {
    algorithm: HashAlgorithm,
    digest: RunningDigest,
}

impl fmt::Debug for HashState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashState({})", self.algorithm.name())
    }
}

impl HashState {
    /// Feeds one piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.digest.update(piece);
    }

    /// The hash of all pieces.
    pub fn finish(self) -> ContentHash {
        let algorithm = self.algorithm;
        match self.digest {
            RunningDigest::Blake2b(state) => algorithm.cut(state.finalize().as_bytes()),
            RunningDigest::Blake2s(state) => algorithm.cut(state.finalize().as_bytes()),
            RunningDigest::Blake3(state) => algorithm.cut(state.finalize().as_bytes()),
            RunningDigest::HmacSha2(context) => algorithm.cut((*context).sign().as_ref()),
            RunningDigest::HmacSha3_224(mac) => algorithm.cut(&mac.finalize().into_bytes()),
            RunningDigest::HmacSha3_256(mac) => algorithm.cut(&mac.finalize().into_bytes()),
        }
    }
}
