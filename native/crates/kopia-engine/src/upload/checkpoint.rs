//! Checkpoints: the tree as far as it is known, saved now and then as an incomplete snapshot.
//!
//! They keep what a long upload stored from garbage collection, and a later upload takes
//! finished files from them. Source: Kopia `snapshot/upload/checkpoint_registry.go`.

use super::directory::Node;
use super::engine::{Scratch, Upload};
use super::large_file::Part;
use crate::error::Result;
use crate::snapshots;
use kopia_format::snapshot::{DirectoryEntry, SnapshotManifest};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the root of an upload is.
pub(super) enum Root<'a> {
    /// A directory tree.
    Directory(Arc<Node<'a>>),
    /// One file or stream.
    File(Vec<Arc<Part<'a>>>),
}

impl<'a> Upload<'a> {
    /// Saves a checkpoint every interval until the upload is finished.
    pub(super) fn checkpoint_regularly(&self, root: &Root<'a>, prototype: &SnapshotManifest) -> Result<()> {
        let interval = self.options.checkpoint_interval.min(super::options::CHECKPOINT_INTERVAL_MAX);
        let mut last = Instant::now();
        let mut scratch = Scratch::default();
        while !self.is_finished() {
            let left = interval.saturating_sub(last.elapsed());
            if left > Duration::ZERO {
                self.wait(left);
                continue;
            }
            if self.is_canceled() {
                return Ok(());
            }
            self.checkpoint(root, prototype, &mut scratch)?;
            last = Instant::now();
        }
        Ok(())
    }

    /// Saves one checkpoint.
    fn checkpoint(&self, root: &Root<'a>, prototype: &SnapshotManifest, scratch: &mut Scratch) -> Result<()> {
        let entry = match root {
            Root::Directory(node) => Some(node.checkpoint(self, scratch)?),
            Root::File(parts) => self.checkpoint_file(parts, scratch)?,
        };
        let Some(entry) = entry else { return Ok(()) };
        if self.is_finished() {
            return Ok(());
        }
        let manifest = SnapshotManifest {
            root_entry: Some(entry),
            end_time: self.repository.clock().now(),
            incomplete_reason: "checkpoint".into(),
            tags: self.options.checkpoint_tags.clone(),
            ..prototype.clone()
        };
        snapshots::save(self.repository, &manifest)?;
        snapshots::apply_retention(self.repository, &manifest.source, false)?;
        self.repository.flush()
    }

    /// A file with one part in progress has a checkpoint; of several parts none stands for the file.
    fn checkpoint_file(
        &self,
        parts: &[Arc<Part<'a>>],
        scratch: &mut Scratch,
    ) -> Result<Option<DirectoryEntry>> {
        match parts {
            [part] => self.checkpoint_root_file(part, scratch),
            _ => Ok(None),
        }
    }
}
