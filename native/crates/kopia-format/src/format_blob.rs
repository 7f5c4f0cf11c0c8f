//! `kopia.repository` and `kopia.blobcfg`: passwords, keys, parameters (format document §2).

use crate::error::Result;
use zeroize::Zeroizing;

mod keys;

pub(crate) use keys::derive_key_with_salt;
pub use keys::{decrypt_block, derive_purpose_key, encrypt_block};

/// How the password becomes the format encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDerivation {
    /// `scrypt-65536-8-1`, the default; 64 MiB while it runs.
    Scrypt65536_8_1,
    /// `pbkdf2-sha256-600000`.
    Pbkdf2Sha256_600000,
}

/// The outer, readable part of `kopia.repository`.
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

/// Epoch parameters; durations in nanoseconds as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct RequiredFeature { pub feature: String, pub warn: bool, pub message: String, pub url: String, pub upgrade_to_version: String }

/// The upgrade lock (format document §2.6); durations in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct UpgradeLock {
    pub owner_id: String, pub creation_time: crate::time::Timestamp, pub advance_notice_duration: i64,
    pub io_drain_timeout: i64, pub status_poll_interval: i64, pub message: String, pub max_permitted_clock_drift: i64,
}

/// The decrypted configuration of a repository. Keys print as `***`.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RepositoryConfig {
    pub hash: String,
    pub encryption: String,
    pub ecc: String,
    pub ecc_overhead_percent: u32,
    pub secret: Zeroizing<Vec<u8>>,
    pub master_key: Zeroizing<Vec<u8>>,
    pub version: u32,
    pub max_pack_size: u64,
    pub index_version: u32,
    pub epoch_parameters: EpochParameters,
    pub enable_password_change: bool,
    pub splitter: String,
    pub upgrade_lock: Option<UpgradeLock>,
    pub required_features: Vec<RequiredFeature>,
}

/// The key that a password and the repository's unique ID give.
pub type FormatEncryptionKey = Zeroizing<[u8; 32]>;

impl FormatBlob {
    /// Parses `kopia.repository`.
    pub fn parse(_json: &[u8]) -> Result<Self> { todo!() }
    /// Pretty-printed JSON with the trailing newline, as Kopia writes it.
    pub fn encode(&self) -> Vec<u8> { todo!() }
    /// Decrypts and parses the configuration.
    ///
    /// # Errors
    /// `InvalidPassword` if the seal does not match, `Unsupported` for unknown versions, algorithms, features.
    pub fn decrypt_config(&self, _key: &FormatEncryptionKey) -> Result<RepositoryConfig> { todo!() }
    /// Seals `config` into `encrypted_block_format` with a fresh nonce.
    pub fn encrypt_config(&mut self, _key: &FormatEncryptionKey, _config: &RepositoryConfig, _nonce: [u8; 12]) -> Result<()> { todo!() }
}

/// The copy of the format blob that starts each pack where `enablePasswordChange` is false (§2.8): `L‖F‖H‖L`.
pub fn pack_prefix(_format_blob_bytes: &[u8]) -> Result<Vec<u8>> { todo!() }
/// Finds a format blob copy at the start (or the end) of a pack.
pub fn recover_from_pack(_first_64k: &[u8], _last_64k: &[u8]) -> Option<Vec<u8>> { todo!() }
