//! Labelled JSON entries in `m` contents (format document §6.1).

use crate::error::Result;
use crate::ids::ManifestId;
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// One entry of an `m` content.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct ManifestEntry {
    pub id: ManifestId,
    pub labels: BTreeMap<String, String>,
    pub modified: Timestamp,
    pub deleted: bool,
    /// The payload as JSON text; `null` for a deletion.
    pub data: Box<serde_json::value::RawValue>,
}

/// Gzipped content bytes of `entries`.
pub fn encode(_entries: &[ManifestEntry]) -> Result<Vec<u8>> { todo!() }
/// Entries of an `m` content.
pub fn decode(_content: &[u8]) -> Result<Vec<ManifestEntry>> { todo!() }
