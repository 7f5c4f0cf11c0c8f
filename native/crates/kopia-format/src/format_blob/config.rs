//! The decrypted configuration of a repository (format document §2.1, §2.7).
//!
//! Field order is the order of the derived JSON: do not sort. Absent pack size and index
//! version are filled in on reading, as Kopia does; an absent splitter stays empty, which
//! `SplitterAlgorithm::parse` knows as `FIXED`.

use super::UpgradeLock;
use crate::ecc::{ECC_ALGORITHM, EccParameters};
use crate::encryption::{CipherAlgorithm, ContentSealer};
use crate::error::{FormatError, Result};
use crate::go_json::{self, base64_text, is_default, null_as_default};
use crate::hashing::{ContentHasher, HashAlgorithm};
use crate::splitter::SplitterAlgorithm;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

const MAX_PACK_SIZE_DEFAULT_BYTES: u64 = 20 << 20;

/// Required features that this program understands, as Kopia 0.22 does.
pub const SUPPORTED_FEATURES: &[&str] = &["index-v1", "index-v2"];

/// Epoch parameters; durations in nanoseconds as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)]
pub struct EpochParameters {
    pub enabled: bool,
    pub epoch_refresh_frequency: i64,
    pub full_checkpoint_frequency: i64,
    pub cleanup_safety_margin: i64,
    pub min_epoch_duration: i64,
    pub epoch_advance_on_count_threshold: i64,
    pub epoch_advance_on_total_size_bytes_threshold: i64,
    pub delete_parallelism: i64,
}

/// A feature that a client must understand to open the repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "StoredFeature", into = "StoredFeature")]
#[allow(missing_docs)]
pub struct RequiredFeature {
    pub feature: String,
    /// Whether a client that does not know the feature may go on after a warning.
    pub warn: bool,
    pub message: String,
    pub url: String,
    pub upgrade_to_version: String,
}

/// The decrypted configuration of a repository. Keys print as `***`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct RepositoryConfig {
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub encryption: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub ecc: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub ecc_overhead_percent: u32,
    #[serde(default, with = "base64_text", skip_serializing_if = "is_default")]
    pub secret: Zeroizing<Vec<u8>>,
    #[serde(default, with = "base64_text", skip_serializing_if = "is_default")]
    pub master_key: Zeroizing<Vec<u8>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub version: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_pack_size: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub index_version: u32,
    #[serde(default)]
    pub epoch_parameters: EpochParameters,
    #[serde(default)]
    pub enable_password_change: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub splitter: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub upgrade_lock: Option<UpgradeLock>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub required_features: Vec<RequiredFeature>,
}

/// The envelope around the configuration.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: T,
}

impl RepositoryConfig {
    /// Parses the decrypted JSON, without any judgement of its values.
    ///
    /// # Errors
    /// `Malformed` if it is not this JSON.
    pub fn decode(json: &[u8]) -> Result<Self> {
        let mut config = go_json::from_slice::<Envelope<Self>>("repository configuration", json)?.format;
        if config.max_pack_size == 0 {
            config.max_pack_size = MAX_PACK_SIZE_DEFAULT_BYTES;
        }
        if config.index_version == 0 {
            config.index_version = 1;
        }
        Ok(config)
    }

    /// Compact JSON in Kopia's field order. It holds the keys: wipe it after use.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>> {
        go_json::to_vec("repository configuration", &Envelope { format: self })
    }

    /// Whether this program can use the repository: versions, algorithms, required features.
    ///
    /// # Errors
    /// `Unsupported`, naming what is not known.
    pub fn check(&self) -> Result<()> {
        let unsupported = |why| Err(FormatError::unsupported("repository configuration", why));
        if !(1..=3).contains(&self.version) {
            return unsupported(format!("format version {} is not in 1..=3", self.version));
        }
        if !(1..=2).contains(&self.index_version) {
            return unsupported(format!("index version {} is not in 1..=2", self.index_version));
        }
        HashAlgorithm::parse(&self.hash)?;
        CipherAlgorithm::parse(&self.encryption)?;
        self.ecc_parameters()?;
        SplitterAlgorithm::parse(&self.splitter)?;
        self.check_required_features().map(drop)
    }

    /// Compares the required features with [`SUPPORTED_FEATURES`]; those that are not known but
    /// only ask for a warning are returned. To be called again whenever the format blob is read again.
    ///
    /// # Errors
    /// `Unsupported` for the first unknown feature that does not allow to go on.
    pub fn check_required_features(&self) -> Result<Vec<&RequiredFeature>> {
        let known = |feature: &&RequiredFeature| SUPPORTED_FEATURES.contains(&feature.feature.as_str());
        let unknown: Vec<_> = self.required_features.iter().filter(|feature| !known(feature)).collect();
        match unknown.iter().find(|feature| !feature.warn) {
            Some(feature) => Err(FormatError::unsupported("required feature", feature.unsupported_message())),
            None => Ok(unknown),
        }
    }

    /// Error correction, if the repository uses it.
    ///
    /// # Errors
    /// `Unsupported` for an unknown algorithm, `OutOfRange` for a percentage above 100.
    pub fn ecc_parameters(&self) -> Result<Option<EccParameters>> {
        if self.ecc_overhead_percent == 0 {
            return Ok(None);
        }
        match self.ecc.as_str() {
            "" => Ok(None),
            ECC_ALGORITHM => EccParameters::for_overhead(self.ecc_overhead_percent).map(Some),
            other => Err(FormatError::unsupported("ECC algorithm", format!("unknown name {other:?}"))),
        }
    }

    /// The hash function of this repository.
    ///
    /// # Errors
    /// `Unsupported` for an unknown algorithm, `Malformed` for a secret that it cannot take.
    pub fn content_hasher(&self) -> Result<ContentHasher> {
        ContentHasher::new(HashAlgorithm::parse(&self.hash)?, &self.secret)
    }

    /// The sealer of this repository.
    ///
    /// # Errors
    /// `Unsupported` for an unknown algorithm.
    pub fn content_sealer(&self) -> Result<ContentSealer> {
        ContentSealer::new(
            CipherAlgorithm::parse(&self.encryption)?,
            &self.master_key,
            self.ecc_parameters()?,
        )
    }
}

impl fmt::Debug for RepositoryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryConfig")
            .field("hash", &self.hash)
            .field("encryption", &self.encryption)
            .field("ecc", &self.ecc)
            .field("ecc_overhead_percent", &self.ecc_overhead_percent)
            .field("secret", &format_args!("***"))
            .field("master_key", &format_args!("***"))
            .field("version", &self.version)
            .field("max_pack_size", &self.max_pack_size)
            .field("index_version", &self.index_version)
            .field("epoch_parameters", &self.epoch_parameters)
            .field("enable_password_change", &self.enable_password_change)
            .field("splitter", &self.splitter)
            .field("upgrade_lock", &self.upgrade_lock)
            .field("required_features", &self.required_features)
            .finish()
    }
}

impl RequiredFeature {
    /// What to tell a person whose program does not know this feature.
    pub fn unsupported_message(&self) -> String {
        let mut message = format!("feature {:?} is not supported by this program", self.feature);
        for (lead, text) in
            [("", &self.message), ("see ", &self.url), ("it needs version ", &self.upgrade_to_version)]
        {
            if !text.is_empty() {
                message.push_str("; ");
                message.push_str(lead);
                message.push_str(text);
            }
        }
        message
    }
}

/// [`RequiredFeature`] as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredFeature {
    feature: String,
    #[serde(default)]
    if_not_understood: StoredReaction,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredReaction {
    warn: bool,
    #[serde(skip_serializing_if = "is_default")]
    message: String,
    #[serde(skip_serializing_if = "is_default")]
    url: String,
    #[serde(skip_serializing_if = "is_default")]
    upgrade_to_version: String,
}

impl From<StoredFeature> for RequiredFeature {
    fn from(stored: StoredFeature) -> Self {
        let StoredReaction { warn, message, url, upgrade_to_version } = stored.if_not_understood;
        Self { feature: stored.feature, warn, message, url, upgrade_to_version }
    }
}

impl From<RequiredFeature> for StoredFeature {
    fn from(feature: RequiredFeature) -> Self {
        let RequiredFeature { feature, warn, message, url, upgrade_to_version } = feature;
        Self { feature, if_not_understood: StoredReaction { warn, message, url, upgrade_to_version } }
    }
}
