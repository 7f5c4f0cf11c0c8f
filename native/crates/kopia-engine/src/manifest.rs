//! The manifest store: labelled JSON in `m` contents.

use crate::error::Result;
use kopia_format::{ManifestId, Timestamp};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Labels of a manifest.
pub type Labels = BTreeMap<String, String>;

/// What is known of a manifest without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestMetadata {
    /// Its ID.
    pub id: ManifestId,
    /// Its labels; always a `type`.
    pub labels: Labels,
    /// Time of the put.
    pub modified: Timestamp,
    /// Length of the payload in bytes.
    pub length: usize,
}

/// Manifests of one open repository. What is put or deleted is pending until the repository is flushed.
pub struct ManifestManager {}

impl ManifestManager {
    /// Labels and payload of a manifest.
    ///
    /// # Errors
    /// `ManifestNotFound`.
    pub fn get(&self, _id: &ManifestId) -> Result<(ManifestMetadata, Box<RawValue>)> {
        todo!()
    }
    /// Manifests that have all `labels` (others allowed), oldest first.
    pub fn find(&self, _labels: &Labels) -> Result<Vec<ManifestMetadata>> {
        todo!()
    }
    /// Puts a payload under a new ID; `labels` must hold a `type`.
    pub fn put(&self, _labels: Labels, _payload: &[u8]) -> Result<ManifestId> {
        todo!()
    }
    /// Deletes a manifest.
    pub fn delete(&self, _id: &ManifestId) -> Result<()> {
        todo!()
    }
    /// Puts a payload and deletes all others with exactly these labels (policies, maintenance parameters).
    pub fn replace(&self, _labels: Labels, _payload: &[u8]) -> Result<ManifestId> {
        todo!()
    }
}
