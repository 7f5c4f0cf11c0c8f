//! Which blobs are stored under an object lock (`kopia.blobcfg`, format document §1.4, §2.4).

use super::storage::{PutOptions, RetentionMode};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::BlobId;
use kopia_format::format_blob::BlobConfig;
use std::time::Duration;

/// Prefixes of blobs that get a lock. Source: Kopia `repo/locking_storage.go`.
pub(crate) const LOCKED_PREFIXES: [&str; 6] = ["n", "x", "p", "q", "kopia.repository", "kopia.blobcfg"];

/// The retention settings of a repository; the default locks nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlobRetention(pub Option<(RetentionMode, Duration)>);

impl BlobRetention {
    /// The settings that `config` holds.
    ///
    /// # Errors
    /// `UnsupportedFormat` for an unknown mode.
    pub fn from_config(config: &BlobConfig) -> Result<Self> {
        if !config.is_retention_enabled() {
            return Ok(Self(None));
        }
        let mode = match config.retention_mode.as_str() {
            "GOVERNANCE" => RetentionMode::Governance,
            "COMPLIANCE" => RetentionMode::Compliance,
            other => {
                let message = format!("kopia.blobcfg: unknown retention mode {other:?}");
                return Err(Error::new(ErrorKind::UnsupportedFormat, message));
            }
        };
        let nanoseconds = u64::try_from(config.retention_period).unwrap_or(0);
        Ok(Self(Some((mode, Duration::from_nanos(nanoseconds)))))
    }

    /// The body of `kopia.blobcfg`.
    pub fn to_config(&self) -> BlobConfig {
        self.0.map_or_else(BlobConfig::default, |(mode, period)| BlobConfig {
            retention_mode: match mode {
                RetentionMode::Governance => "GOVERNANCE".into(),
                RetentionMode::Compliance => "COMPLIANCE".into(),
            },
            retention_period: i64::try_from(period.as_nanos()).unwrap_or(i64::MAX),
        })
    }

    /// Options of the put of `id`.
    pub fn put_options(&self, id: &BlobId) -> PutOptions {
        let locked = LOCKED_PREFIXES.iter().any(|prefix| id.as_str().starts_with(prefix));
        PutOptions { retention: self.0.filter(|_| locked), ..PutOptions::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_and_unknown_modes_are_refused() {
        let day = Some((RetentionMode::Compliance, Duration::from_secs(86_400)));
        for retention in [BlobRetention(None), BlobRetention(day)] {
            assert_eq!(BlobRetention::from_config(&retention.to_config()).expect("own settings"), retention);
        }
        let never = BlobConfig { retention_mode: "NEVER".into(), retention_period: 1 };
        assert!(BlobRetention::from_config(&never).is_err());
    }

    #[test]
    fn only_data_indexes_and_format_are_locked() {
        let retention = BlobRetention(Some((RetentionMode::Governance, Duration::from_secs(86_400))));
        let locked = |id: &str| retention.put_options(&BlobId::new(id)).retention.is_some();
        assert!(
            ["p0-s1", "q0-s1", "xn0_a-s1-c1", "n0-s1", "kopia.repository", "kopia.blobcfg"]
                .into_iter()
                .all(locked)
        );
        assert!(!["s0-s1", "_log_1", "m0", "l0", "kopia.maintenance"].into_iter().any(locked));
    }
}
