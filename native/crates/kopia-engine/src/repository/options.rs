//! How a repository is created and opened.

use crate::blob::cache::CacheOptions;
use crate::blob::storage::RetentionMode;
use crate::clock::{Clock, SystemClock};
use kopia_format::format_blob::KeyDerivation;
use std::sync::Arc;
use std::time::Duration;

/// How a repository is created. The default is Kopia's.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Hash algorithm by Kopia's name.
    pub hash: String,
    /// Cipher by Kopia's name.
    pub encryption: String,
    /// Splitter by Kopia's name.
    pub splitter: String,
    /// 1, 2 or 3.
    pub format_version: u32,
    /// Packs are closed at this length.
    pub max_pack_size_bytes: u64,
    /// 0 is no error correction.
    pub ecc_overhead_percent: u32,
    /// How the password becomes a key.
    pub key_derivation: KeyDerivation,
    /// Object lock of every pack, index and format blob.
    pub retention: Option<(RetentionMode, Duration)>,
    /// `user@host` that owns maintenance; `None` writes no maintenance manifest.
    pub owner: Option<String>,
    /// Write the global policy as `kopia repository create` does (Velero does not).
    pub global_policy: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            hash: "BLAKE2B-256-128".into(),
            encryption: "AES256-GCM-HMAC-SHA256".into(),
            splitter: "DYNAMIC-4M-BUZHASH".into(),
            format_version: 3,
            max_pack_size_bytes: 20 << 20,
            ecc_overhead_percent: 0,
            key_derivation: KeyDerivation::Scrypt65536_8_1,
            retention: None,
            owner: None,
            global_policy: true,
        }
    }
}

/// How a repository is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// User name that goes into sessions and snapshots.
    pub username: String,
    /// Host name that goes into sessions and snapshots.
    pub hostname: String,
    /// Refuse every write.
    pub read_only: bool,
    /// Bound of the process's memory from which tables and buffers are sized; `None` is 128 MiB.
    pub memory_limit_bytes: Option<u64>,
    /// Hash again what was read and compare with the content ID. Without, the seal is relied on as in Kopia: both ciphers
    /// authenticate, and the ID goes into key and additional data. Care of a repository hashes in any case.
    pub check_hashes: bool,
    /// Where merged indexes are kept, sealed, so that opening again reads few files; `None` keeps none.
    pub index_cache: Option<CacheOptions>,
    /// Source of time.
    pub clock: Arc<dyn Clock>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            username: "default".into(),
            hostname: "default".into(),
            read_only: false,
            memory_limit_bytes: None,
            check_hashes: false,
            index_cache: None,
            clock: Arc::new(SystemClock),
        }
    }
}
