//! `kopia.blobcfg`: object lock of a repository (format document §2.4).
//!
//! What is locked, and how, is the storage's. The surprise: the blob exists even where no
//! retention is set; its plain text is then `{}`.

use super::{FormatBlob, FormatEncryptionKey, decrypt_block, encrypt_block};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::go_json::{self, is_default};
use serde::{Deserialize, Serialize};

const RETENTION_PERIOD_MIN_NANOSECONDS: i64 = 24 * 3600 * 1_000_000_000;

/// Retention of the blobs of a repository; the default is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlobConfig {
    /// `GOVERNANCE`, `COMPLIANCE`, or empty.
    #[serde(skip_serializing_if = "is_default")]
    pub retention_mode: String,
    /// Nanoseconds; 0 for none.
    #[serde(skip_serializing_if = "is_default")]
    pub retention_period: i64,
}

impl BlobConfig {
    /// Whether blobs are to be locked.
    pub fn is_retention_enabled(&self) -> bool {
        !self.retention_mode.is_empty() && self.retention_period != 0
    }

    /// Whether it may be written.
    ///
    /// # Errors
    /// `OutOfRange` if only one of mode and period is set, or the period is below 24 hours.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: &str| Err(FormatError::new(FormatErrorKind::OutOfRange, "blob retention", why));
        if self.retention_mode.is_empty() != (self.retention_period == 0) {
            return refuse("mode and period must be set together");
        }
        if self.retention_period != 0 && self.retention_period < RETENTION_PERIOD_MIN_NANOSECONDS {
            return refuse("the period must be 24 hours or longer");
        }
        Ok(())
    }
}

impl FormatBlob {
    /// Seals the body of `kopia.blobcfg`.
    ///
    /// # Errors
    /// `OutOfRange` if `config` may not be written.
    pub fn seal_blob_config(
        &self,
        key: &FormatEncryptionKey,
        config: &BlobConfig,
        nonce: [u8; 12],
    ) -> Result<Vec<u8>> {
        config.check()?;
        encrypt_block(key, &self.unique_id, nonce, &go_json::to_vec("kopia.blobcfg", config)?)
    }

    /// Opens the body of `kopia.blobcfg`. A missing blob means the default.
    ///
    /// # Errors
    /// `Corrupted` if the seal does not match, `Malformed` if the plain text is not this JSON.
    pub fn open_blob_config(&self, key: &FormatEncryptionKey, sealed: &[u8]) -> Result<BlobConfig> {
        let json = decrypt_block(key, &self.unique_id, sealed)
            .map_err(|_| FormatError::corrupted("kopia.blobcfg", "the tag does not match"))?;
        go_json::from_slice("kopia.blobcfg", &json)
    }
}
