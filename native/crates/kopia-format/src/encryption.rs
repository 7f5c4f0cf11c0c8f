//! Sealing of contents and whole blobs: per-item key by HMAC, AEAD, then ECC.
//!
//! Which initialization vector belongs to which item is decided by the callers (`index_blob`,
//! `pack`, the content layer). The surprise: the same IV is both the input of the per-item key
//! and the additional data, so an item opened under another's IV fails twice over. Contents are sealed by `ring`,
//! everything else by `aws-lc-rs`: where there is AVX2 but no AVX-512 the former is twice as fast (6.5 against 3.3 GB/s).
//!
//! A sealed item, before ECC:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 12 | random nonce |
//! | 12 | n | cipher text |
//! | 12+n | 16 | tag |

use crate::ecc::{EccCodec, EccParameters};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::format_blob::derive_key_with_salt;
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use std::fmt;
use std::sync::Arc;

mod blocks;
#[cfg(test)]
mod tests;

pub use blocks::{BLOCK_OVERHEAD, BlockCipher};

/// Bytes that a seal adds before ECC: 12 of nonce and 16 of tag.
pub const SEAL_OVERHEAD: usize = 28;

const NONCE_LENGTH: usize = 12;
const TAG_LENGTH: usize = 16;

/// The two content ciphers of Kopia (`repo/encryption`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CipherAlgorithm {
    /// `AES256-GCM-HMAC-SHA256`, the default.
    Aes256GcmHmacSha256,
    /// `CHACHA20-POLY1305-HMAC-SHA256`.
    ChaCha20Poly1305HmacSha256,
}

impl CipherAlgorithm {
    /// Both, the default first.
    pub const ALL: &'static [CipherAlgorithm] =
        &[Self::Aes256GcmHmacSha256, Self::ChaCha20Poly1305HmacSha256];

    /// Parses Kopia's name.
    ///
    /// # Errors
    /// `Unsupported` for any other name.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name);
        found
            .ok_or_else(|| FormatError::unsupported("encryption algorithm", format!("unknown name {name:?}")))
    }

    /// Kopia's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256GcmHmacSha256 => "AES256-GCM-HMAC-SHA256",
            Self::ChaCha20Poly1305HmacSha256 => "CHACHA20-POLY1305-HMAC-SHA256",
        }
    }

    fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes256GcmHmacSha256 => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305HmacSha256 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// Seals and opens contents of one repository. Cheap to share between threads.
#[derive(Clone)]
pub struct ContentSealer {
    cipher: CipherAlgorithm,
    /// Keyed with the content key-derivation secret; its MAC of an IV is that item's key.
    item_keys: Arc<hmac::Key>,
    ecc: Option<EccCodec>,
}

impl fmt::Debug for ContentSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ContentSealer({}, keys: ***, ecc: {:?})",
            self.cipher.name(),
            self.ecc.as_ref().map(EccCodec::parameters)
        )
    }
}

impl ContentSealer {
    /// Derives the content key-derivation secret from `master_key`; `ecc` wraps every output when given.
    ///
    /// # Errors
    /// `OutOfRange` if the key derivation refuses its input, which it does for no length in use.
    pub fn new(cipher: CipherAlgorithm, master_key: &[u8], ecc: Option<EccParameters>) -> Result<Self> {
        // Unlike all other purposes, this one goes into the salt and leaves the info empty.
        let secret = derive_key_with_salt(master_key, b"encryption", b"", 32)?;
        let ecc = ecc.map(EccCodec::new).transpose()?;
        Ok(Self { cipher, item_keys: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)), ecc })
    }

    /// Whether outputs are wrapped by error correction (then `seal_in_place` must not be used).
    pub fn has_ecc(&self) -> bool {
        self.ecc.is_some()
    }

    /// Length of what `seal_append` appends for a plain text of `length` bytes.
    pub fn sealed_length(&self, length: usize) -> usize {
        let sealed = length + SEAL_OVERHEAD;
        self.ecc.as_ref().map_or(sealed, |ecc| ecc.parameters().encoded_length(sealed))
    }

    /// Appends nonce, cipher text and tag (or their ECC encoding) to `out`. `nonce` must be fresh random bytes.
    ///
    /// # Errors
    /// `OutOfRange` if the plain text is longer than the cipher or ECC can take.
    pub fn seal_append(&self, iv: &[u8], nonce: [u8; 12], plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match &self.ecc {
            None => self.seal_append_bare(iv, nonce, plain, out),
            Some(ecc) => {
                let mut sealed = Vec::with_capacity(plain.len() + SEAL_OVERHEAD);
                self.seal_append_bare(iv, nonce, plain, &mut sealed)?;
                ecc.encode(&sealed, out)
            }
        }
    }

    fn seal_append_bare(&self, iv: &[u8], nonce: [u8; 12], plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.reserve(plain.len() + SEAL_OVERHEAD);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        match self.encrypt(iv, nonce, &mut out[start + NONCE_LENGTH..]) {
            Ok(tag) => out.extend_from_slice(&tag),
            Err(error) => {
                // Plain text must not stay behind in a buffer that is meant for storage.
                out.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Encrypts `data` where it stands and returns the tag; stored form is nonce, data, tag. Not with ECC.
    ///
    /// # Errors
    /// `Unsupported` if this repository uses ECC, `OutOfRange` if `data` is longer than the cipher can take.
    pub fn seal_in_place(&self, iv: &[u8], nonce: [u8; 12], data: &mut [u8]) -> Result<[u8; 16]> {
        if self.has_ecc() {
            return Err(FormatError::unsupported(
                "seal in place",
                "error correction needs a buffer of its own",
            ));
        }
        self.encrypt(iv, nonce, data)
    }

    fn encrypt(&self, iv: &[u8], nonce: [u8; 12], data: &mut [u8]) -> Result<[u8; TAG_LENGTH]> {
        let sealed = self.item_key(iv).seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(iv),
            data,
        );
        let tag = sealed.map_err(|_| {
            FormatError::new(FormatErrorKind::OutOfRange, "seal", "plain text too long for the cipher")
        })?;
        Ok(tag.as_ref().try_into().expect("both ciphers have tags of 16 bytes"))
    }

    /// Opens (and repairs, with ECC) a sealed item in its own buffer; the plain text is the returned part of it.
    ///
    /// With ECC, `sealed` holds the repaired item afterwards.
    ///
    /// # Errors
    /// `Corrupted` if the seal does not match or more is damaged than ECC can repair.
    pub fn open_in_place<'a>(&self, iv: &[u8], sealed: &'a mut Vec<u8>) -> Result<&'a mut [u8]> {
        if let Some(ecc) = &self.ecc {
            *sealed = ecc.decode(sealed)?.0;
        }
        self.open_bare(iv, sealed)
    }

    /// Opens a sealed item where it stands, without a buffer of its own: the plain text is the returned
    /// part of `sealed`. Not with ECC, whose repair needs a buffer.
    ///
    /// # Errors
    /// `Corrupted` if the seal does not match; `Unsupported` if this repository uses ECC.
    pub fn open_slice_in_place<'a>(&self, iv: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        if self.has_ecc() {
            return Err(FormatError::unsupported(
                "open in place",
                "error correction needs a buffer of its own",
            ));
        }
        self.open_bare(iv, sealed)
    }

    fn open_bare<'a>(&self, iv: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        let length = sealed.len();
        let Some((nonce, body)) = sealed.split_first_chunk_mut::<NONCE_LENGTH>() else {
            return Err(FormatError::corrupted("seal", format!("{length} bytes are too few")));
        };
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.item_key(iv)
            .open_in_place(nonce, Aad::from(iv), body)
            .map_err(|_| FormatError::corrupted("seal", "the tag does not match"))
    }

    /// The cipher of numbered blocks in a local file; `salt` must be fresh random bytes for each file.
    pub fn block_cipher(&self, purpose: &str, salt: &[u8; 32]) -> BlockCipher {
        // Longer than any IV of Kopia's, which have 16 bytes at most: no item can have this key.
        BlockCipher::new(self.item_key(&[purpose.as_bytes(), salt].concat()))
    }

    fn item_key(&self, iv: &[u8]) -> LessSafeKey {
        let key = hmac::sign(&self.item_keys, iv);
        let unbound = UnboundKey::new(self.cipher.aead(), key.as_ref());
        LessSafeKey::new(unbound.expect("both ciphers take keys of 32 bytes, as HMAC-SHA256 gives"))
    }
}
