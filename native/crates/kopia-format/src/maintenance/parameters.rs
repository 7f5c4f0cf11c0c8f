//! Who maintains a repository, and how often: the manifest of type `maintenance` (format document §8.1).
//!
//! Only its payload; labels and IDs are the manifest store's. Of several manifests the newest
//! counts. The surprise: a repository without one has the defaults and *no* owner, so nobody may run.

use crate::error::Result;
use crate::go_json;
use serde::{Deserialize, Serialize};

/// Value of the label `type` of the manifest.
pub const MAINTENANCE_MANIFEST_TYPE: &str = "maintenance";

const HOUR_NANOSECONDS: i64 = 3600 * 1_000_000_000;

/// One of the two cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CycleParameters {
    /// Whether it runs by itself.
    pub enabled: bool,
    /// Time from the start of one run to the next being due.
    #[serde(rename = "interval")]
    pub interval_nanoseconds: i64,
}

/// How many diagnostic logs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogRetention {
    /// All of them together.
    #[serde(rename = "maxTotalSize")]
    pub max_total_size_bytes: i64,
    /// Number of blobs.
    #[serde(rename = "maxCount")]
    pub max_count: i64,
    /// Age by storage time.
    #[serde(rename = "maxAge")]
    pub max_age_nanoseconds: i64,
}

/// Payload of the maintenance manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceParameters {
    /// `username@hostname` of the only client that may run; empty for none.
    #[serde(default)]
    pub owner: String,
    /// The frequent cycle.
    #[serde(default)]
    pub quick: CycleParameters,
    /// The thorough cycle.
    #[serde(default)]
    pub full: CycleParameters,
    /// For `_log_` blobs.
    #[serde(default)]
    pub log_retention: LogRetention,
    /// Whether the full cycle extends object locks.
    #[serde(default)]
    pub extend_object_locks: bool,
    /// Prefixes listed side by side; 0 for the default.
    #[serde(default)]
    pub list_parallelism: i64,
}

impl Default for MaintenanceParameters {
    fn default() -> Self {
        let cycle = |hours| CycleParameters { enabled: true, interval_nanoseconds: hours * HOUR_NANOSECONDS };
        Self {
            owner: String::new(),
            quick: cycle(1),
            full: cycle(24),
            log_retention: LogRetention {
                max_total_size_bytes: 1 << 30,
                max_count: 10_000,
                max_age_nanoseconds: 30 * 24 * HOUR_NANOSECONDS,
            },
            extend_object_locks: false,
            list_parallelism: 0,
        }
    }
}

impl MaintenanceParameters {
    /// Parses the payload. Absent fields are zero, not the defaults: so Kopia reads them.
    ///
    /// # Errors
    /// `Malformed` if it is not this JSON.
    pub fn decode(json: &[u8]) -> Result<Self> {
        go_json::from_slice("maintenance parameters", json)
    }

    /// Compact JSON in Kopia's field order.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>> {
        go_json::to_vec("maintenance parameters", self)
    }
}
