//! Keys of the format blob: from the password, and from one another (format document §2.1, §2.2).
//!
//! Also the block encryption of `kopia.repository` and `kopia.blobcfg`. The surprise: its
//! additional data is not a constant but a second derived key.

use super::{FormatBlob, FormatEncryptionKey, KeyDerivation};
use crate::error::{FormatError, FormatErrorKind, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, pbkdf2};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

const NONCE_LENGTH: usize = 12;
/// Shorter salts are refused, as Kopia does.
const SALT_LENGTH_MIN: usize = 16;
const PBKDF2_ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).expect("it is not zero");

impl KeyDerivation {
    /// Parses Kopia's name.
    ///
    /// # Errors
    /// `Unsupported` for any other name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "scrypt-65536-8-1" => Ok(Self::Scrypt65536_8_1),
            "pbkdf2-sha256-600000" => Ok(Self::Pbkdf2Sha256_600000),
            _ => Err(FormatError::unsupported("key derivation algorithm", format!("unknown name {name:?}"))),
        }
    }

    /// Kopia's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scrypt65536_8_1 => "scrypt-65536-8-1",
            Self::Pbkdf2Sha256_600000 => "pbkdf2-sha256-600000",
        }
    }

    fn derive(self, password: &[u8], salt: &[u8]) -> FormatEncryptionKey {
        let mut key = Zeroizing::new([0; 32]);
        match self {
            Self::Scrypt65536_8_1 => {
                let parameters = scrypt::Params::new(16, 8, 1).expect("N=2^16, r=8, p=1 is in range");
                scrypt::scrypt(password, salt, &parameters, &mut *key)
                    .expect("32 bytes of output are in range");
            }
            Self::Pbkdf2Sha256_600000 => {
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, PBKDF2_ITERATIONS, salt, password, &mut *key);
            }
        }
        key
    }
}

impl FormatBlob {
    /// Derives the key; a password is bytes, as in Kopia, whether they are text or not. Takes some 0.2 s and 64 MiB with scrypt.
    ///
    /// # Errors
    /// `Malformed` if the unique ID, which is the salt, is shorter than 16 bytes.
    pub fn derive_key(&self, password: impl AsRef<[u8]>) -> Result<FormatEncryptionKey> {
        if self.unique_id.len() < SALT_LENGTH_MIN {
            let why = format!("{} bytes are too few to be a salt", self.unique_id.len());
            return Err(FormatError::malformed("unique ID of the repository", why));
        }
        Ok(self.key_derivation.derive(password.as_ref(), &self.unique_id))
    }
}

/// Wanted length of HKDF output.
struct OutputLength(usize);

impl hkdf::KeyType for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}

/// The purpose keys of format document §2.2, by HKDF-SHA256 with the purpose as info.
///
/// # Errors
/// `OutOfRange` for a `length` that HKDF cannot give.
pub fn derive_purpose_key(
    ikm: &[u8],
    salt: &[u8],
    purpose: &str,
    length: usize,
) -> Result<Zeroizing<Vec<u8>>> {
    derive_key_with_salt(ikm, salt, purpose.as_bytes(), length)
}

/// HKDF-SHA256 with all its inputs.
pub(crate) fn derive_key_with_salt(
    ikm: &[u8],
    salt: &[u8],
    info: &[u8],
    length: usize,
) -> Result<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(vec![0; length]);
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(ikm);
    let filled = pseudorandom.expand(&[info], OutputLength(length)).and_then(|output| output.fill(&mut key));
    filled.map_err(|_| {
        FormatError::new(FormatErrorKind::OutOfRange, "key derivation", format!("{length} bytes of output"))
    })?;
    Ok(key)
}

/// The cipher of the format's own blocks, and its additional data.
fn block_cipher(key: &FormatEncryptionKey, unique_id: &[u8]) -> Result<(LessSafeKey, Zeroizing<Vec<u8>>)> {
    let aes_key = derive_purpose_key(&**key, unique_id, "AES", 32)?;
    let additional_data = derive_purpose_key(&**key, unique_id, "CHECKSUM", 32)?;
    let unbound = UnboundKey::new(&AES_256_GCM, &aes_key).expect("the derived key has 32 bytes");
    Ok((LessSafeKey::new(unbound), additional_data))
}

/// Seals a `kopia.blobcfg` body (and anything else of the format's own block encryption).
///
/// Output: 12 bytes of nonce, cipher text, 16 bytes of tag. Source: Kopia `internal/crypto/aesgcm.go`.
///
/// # Errors
/// `OutOfRange` if `plain` is longer than AES-GCM can take (64 GiB).
pub fn encrypt_block(
    key: &FormatEncryptionKey,
    unique_id: &[u8],
    nonce: [u8; 12],
    plain: &[u8],
) -> Result<Vec<u8>> {
    let (cipher, additional_data) = block_cipher(key, unique_id)?;
    seal_with_nonce(&cipher, nonce, &additional_data, plain)
}

/// Opens what `encrypt_block` sealed.
///
/// # Errors
/// `InvalidPassword` if the seal does not match: a wrong key cannot be told from damage.
pub fn decrypt_block(key: &FormatEncryptionKey, unique_id: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
    let (cipher, additional_data) = block_cipher(key, unique_id)?;
    open_with_nonce(&cipher, &additional_data, sealed).ok_or_else(|| {
        FormatError::new(FormatErrorKind::InvalidPassword, "repository format", "invalid repository password")
    })
}

/// Nonce, cipher text, tag in one buffer.
pub(crate) fn seal_with_nonce(
    cipher: &LessSafeKey,
    nonce: [u8; 12],
    additional_data: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>> {
    let mut sealed = [&nonce[..], plain].concat();
    let tag = cipher.seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(additional_data),
        &mut sealed[NONCE_LENGTH..],
    );
    let tag =
        tag.map_err(|_| FormatError::new(FormatErrorKind::OutOfRange, "seal", "plain text too long"))?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Opens what [`seal_with_nonce`] sealed; `None` if the seal does not match.
pub(crate) fn open_with_nonce(
    cipher: &LessSafeKey,
    additional_data: &[u8],
    sealed: &[u8],
) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_LENGTH>()?;
    let mut body = body.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = cipher.open_in_place(nonce, Aad::from(additional_data), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}
