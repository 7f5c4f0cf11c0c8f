//! Sealing of contents and whole blobs: per-item key by HMAC, AEAD, then ECC.

use crate::ecc::EccParameters;
use crate::error::Result;

/// Bytes that a seal adds before ECC: 12 of nonce and 16 of tag.
pub const SEAL_OVERHEAD: usize = 28;

/// The two content ciphers of Kopia (`repo/encryption`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CipherAlgorithm {
    /// `AES256-GCM-HMAC-SHA256`, the default.
    Aes256GcmHmacSha256,
    /// `CHACHA20-POLY1305-HMAC-SHA256`.
    ChaCha20Poly1305HmacSha256,
}

impl CipherAlgorithm {
    /// Parses Kopia's name.
    pub fn parse(_name: &str) -> Result<Self> { todo!() }
    /// Kopia's name.
    pub fn name(self) -> &'static str { todo!() }
}

/// Seals and opens contents of one repository. Cheap to share between threads.
#[derive(Clone)]
pub struct ContentSealer {}

impl ContentSealer {
    /// Derives the content key-derivation secret from `master_key`; `ecc` wraps every output when given.
    pub fn new(_cipher: CipherAlgorithm, _master_key: &[u8], _ecc: Option<EccParameters>) -> Result<Self> { todo!() }
    /// Whether outputs are wrapped by error correction (then `seal_in_place` must not be used).
    pub fn has_ecc(&self) -> bool { todo!() }
    /// Length of what `seal_append` appends for a plain text of `length` bytes.
    pub fn sealed_length(&self, _length: usize) -> usize { todo!() }
    /// Appends nonce, cipher text and tag (or their ECC encoding) to `out`. `nonce` must be fresh random bytes.
    pub fn seal_append(&self, _iv: &[u8], _nonce: [u8; 12], _plain: &[u8], _out: &mut Vec<u8>) -> Result<()> { todo!() }
    /// Encrypts `data` where it stands and returns the tag; stored form is nonce, data, tag. Not with ECC.
    pub fn seal_in_place(&self, _iv: &[u8], _nonce: [u8; 12], _data: &mut [u8]) -> Result<[u8; 16]> { todo!() }
    /// Opens (and repairs, with ECC) a sealed item in its own buffer; the plain text is the returned part of it.
    ///
    /// # Errors
    /// `Corrupted` if the seal does not match.
    pub fn open_in_place<'a>(&self, _iv: &[u8], _sealed: &'a mut Vec<u8>) -> Result<&'a mut [u8]> { todo!() }
}
