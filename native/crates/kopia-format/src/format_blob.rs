//! `kopia.repository` and `kopia.blobcfg`: passwords, keys, parameters (format document §2).
//!
//! Holds the outer, readable blob; its sealed configuration, keys, upgrade lock and copies in
//! packs are the sub-modules. Nothing here reads or writes storage. The surprise: version
//! numbers decide little, the switches are fields of the configuration (§2.3).

use crate::error::{FormatError, Result};
use crate::go_json::{self, base64_text};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

mod blob_config;
mod config;
mod keys;
mod pack_copy;
#[cfg(test)]
mod tests;
mod upgrade_lock;

pub use blob_config::BlobConfig;
pub use config::{EpochParameters, RepositoryConfig, RequiredFeature, SUPPORTED_FEATURES};
pub use keys::{decrypt_block, derive_purpose_key, encrypt_block};
pub(crate) use keys::{derive_key_with_salt, open_with_nonce, seal_with_nonce};
pub use pack_copy::{pack_prefix, recover_from_pack};
pub use upgrade_lock::UpgradeLock;

/// The only encryption of the format's own blocks.
pub const FORMAT_ENCRYPTION: &str = "AES256_GCM";

/// How the password becomes the format encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDerivation {
    /// `scrypt-65536-8-1`, the default; 64 MiB while it runs.
    Scrypt65536_8_1,
    /// `pbkdf2-sha256-600000`.
    Pbkdf2Sha256_600000,
}

/// The outer, readable part of `kopia.repository`.
///
/// `tool`, `build_version` and `build_info` inform people only. Source: Kopia `repo/format/format_blob.go`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FormatBlob {
    pub tool: String,
    pub build_version: String,
    pub build_info: String,
    pub unique_id: Vec<u8>,
    pub key_derivation: KeyDerivation,
    pub encryption: String,
    pub encrypted_block_format: Vec<u8>,
}

/// [`FormatBlob`] as JSON, in the order of its keys.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredFormatBlob {
    #[serde(default)]
    tool: String,
    #[serde(default)]
    build_version: String,
    #[serde(default)]
    build_info: String,
    #[serde(rename = "uniqueID", with = "base64_text")]
    unique_id: Vec<u8>,
    key_algo: String,
    encryption: String,
    #[serde(default, with = "base64_text", skip_serializing_if = "Vec::is_empty")]
    encrypted_block_format: Vec<u8>,
}

/// The key that a password and the repository's unique ID give.
pub type FormatEncryptionKey = Zeroizing<[u8; 32]>;

impl FormatBlob {
    /// Parses `kopia.repository`.
    ///
    /// # Errors
    /// `Malformed` if it is not this JSON, `Unsupported` for an unknown key derivation.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let stored: StoredFormatBlob = go_json::from_slice("kopia.repository", json)?;
        Ok(Self {
            key_derivation: KeyDerivation::parse(&stored.key_algo)?,
            tool: stored.tool,
            build_version: stored.build_version,
            build_info: stored.build_info,
            unique_id: stored.unique_id,
            encryption: stored.encryption,
            encrypted_block_format: stored.encrypted_block_format,
        })
    }

    /// Pretty-printed JSON with the trailing newline, as Kopia writes it.
    pub fn encode(&self) -> Vec<u8> {
        let stored = StoredFormatBlob {
            tool: self.tool.clone(),
            build_version: self.build_version.clone(),
            build_info: self.build_info.clone(),
            unique_id: self.unique_id.clone(),
            key_algo: self.key_derivation.name().into(),
            encryption: self.encryption.clone(),
            encrypted_block_format: self.encrypted_block_format.clone(),
        };
        let json = serde_json::to_vec_pretty(&stored).expect("a struct of strings is always JSON");
        let mut json = go_json::escape_as_go(json);
        json.push(b'\n');
        json
    }

    /// Decrypts and parses the configuration, and checks that this program can use the repository.
    ///
    /// # Errors
    /// `InvalidPassword` if the seal does not match, `Unsupported` for unknown versions, algorithms, features.
    pub fn decrypt_config(&self, key: &FormatEncryptionKey) -> Result<RepositoryConfig> {
        self.check_encryption()?;
        let json = Zeroizing::new(decrypt_block(key, &self.unique_id, &self.encrypted_block_format)?);
        let config = RepositoryConfig::decode(&json)?;
        config.check()?;
        Ok(config)
    }

    /// Seals `config` into `encrypted_block_format` with a fresh nonce.
    ///
    /// # Errors
    /// `Unsupported` if the blob names another encryption than AES256_GCM.
    pub fn encrypt_config(
        &mut self,
        key: &FormatEncryptionKey,
        config: &RepositoryConfig,
        nonce: [u8; 12],
    ) -> Result<()> {
        self.check_encryption()?;
        let json = Zeroizing::new(config.encode()?);
        self.encrypted_block_format = encrypt_block(key, &self.unique_id, nonce, &json)?;
        Ok(())
    }

    fn check_encryption(&self) -> Result<()> {
        match self.encryption.as_str() {
            FORMAT_ENCRYPTION => Ok(()),
            other => {
                Err(FormatError::unsupported("kopia.repository", format!("unknown encryption {other:?}")))
            }
        }
    }
}
