//! Devices in Velero's block layout: changed blocks, backup, restore.

use crate::documents;
use crate::errors::Result;
use crate::progress::{CancelToken, Progress};
use crate::repository::Repository;
use crate::requests::{SourceRequest, parse, seconds};
use kopia_engine::block::{self, BlockBackupOptions, BlockBackupResult, BlockRestoreOptions};
use kopia_format::ManifestId;
use parking_lot::Mutex;
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Which pieces of a device may have changed.
#[pyclass(frozen, module = "repository._native")]
pub(crate) struct ChangedBlocks(pub(crate) Arc<Mutex<block::ChangedBlocks>>);

#[pymethods]
impl ChangedBlocks {
    #[new]
    fn new(device_bytes: u64) -> Result<Self> {
        Ok(Self(Arc::new(Mutex::new(block::ChangedBlocks::new(device_bytes)?))))
    }

    fn mark(&self, offset: i64, length: i64) -> Result<()> {
        Ok(self.0.lock().mark(offset, length)?)
    }

    #[getter]
    fn count(&self) -> u64 {
        self.0.lock().count()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedBlocksRequest {
    address: String,
    authority: String,
    token_path: PathBuf,
    namespace: String,
    snapshot: String,
    base: String,
    patience_seconds: f64,
}

#[pyfunction]
pub(crate) fn ask_changed_blocks(
    py: Python<'_>,
    request: &str,
    blocks: &ChangedBlocks,
    cancel: &CancelToken,
) -> Result<String> {
    let (blocks, cancel) = (Arc::clone(&blocks.0), cancel.0.clone());
    py.detach(|| {
        let request: ChangedBlocksRequest = parse(request)?;
        let query = block::ChangedBlocksQuery {
            address: request.address,
            authority: request.authority,
            token_path: request.token_path,
            namespace: request.namespace,
            snapshot: request.snapshot,
            base: request.base,
            patience: seconds(request.patience_seconds)?,
        };
        let answer = block::ask_changed_blocks(&query, &mut blocks.lock(), &cancel)?;
        Ok(json!({ "ranges": answer.ranges, "resumed": answer.resumed }).to_string())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockBackupRequest {
    source: SourceRequest,
    description: String,
    tags: BTreeMap<String, String>,
    pins: Vec<String>,
    parent: Option<String>,
    reads_under_way: Option<usize>,
    memory_budget_bytes: Option<usize>,
    direct: Option<bool>,
}

impl BlockBackupRequest {
    fn options(self, changed: Option<&ChangedBlocks>) -> BlockBackupOptions {
        let default = BlockBackupOptions::default();
        BlockBackupOptions {
            source: self.source.info(),
            description: self.description,
            tags: self.tags,
            pins: self.pins,
            parent: self.parent.map(ManifestId::new),
            changed: changed.map(|changed| changed.0.lock().clone()),
            reads_under_way: self.reads_under_way.unwrap_or(default.reads_under_way),
            memory_budget_bytes: self.memory_budget_bytes.unwrap_or(default.memory_budget_bytes),
            direct: self.direct.unwrap_or(default.direct),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct BlockRestoreRequest {
    parallelism: Option<usize>,
    memory_budget_bytes: Option<usize>,
    overwrite: Option<bool>,
}

#[pymethods]
impl Repository {
    #[pyo3(signature = (path, request, changed, progress, cancel))]
    fn upload_block(
        &self,
        py: Python<'_>,
        path: PathBuf,
        request: &str,
        changed: Option<&ChangedBlocks>,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<String> {
        let (progress, cancel) = (Arc::clone(&progress.0), cancel.0.clone());
        let options = parse::<BlockBackupRequest>(request)?.options(changed);
        self.detached(py, |repository| {
            let result = block::backup(repository, &path, &options, &progress, &cancel)?;
            Ok(backup_result(&result).to_string())
        })
    }

    fn restore_block(
        &self,
        py: Python<'_>,
        snapshot_id: &str,
        target: PathBuf,
        request: &str,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<String> {
        let (progress, cancel) = (Arc::clone(&progress.0), cancel.0.clone());
        let id = ManifestId::new(snapshot_id);
        self.detached(py, |repository| {
            let request: BlockRestoreRequest = parse(request)?;
            let default = BlockRestoreOptions::default();
            let options = BlockRestoreOptions {
                parallelism: request.parallelism,
                memory_budget_bytes: request.memory_budget_bytes.unwrap_or(default.memory_budget_bytes),
                overwrite: request.overwrite.unwrap_or(default.overwrite),
            };
            let result = block::restore(repository, &id, &target, &options, &progress, &cancel)?;
            let document = json!({
                "device_bytes": result.device_bytes,
                "bytes_written": result.bytes_written,
                "bytes_deallocated": result.bytes_deallocated,
                "storage_bytes": result.storage_bytes,
            });
            Ok(document.to_string())
        })
    }
}

fn backup_result(result: &BlockBackupResult) -> Value {
    json!({
        "snapshot": documents::snapshot(&result.manifest),
        "device_bytes": result.device_bytes,
        "incremental_bytes": result.incremental_bytes,
        "bytes_read": result.bytes_read,
        "bytes_unread": result.bytes_unread,
        "bytes_zero": result.bytes_zero,
        "bytes_uploaded": result.bytes_uploaded,
        "bytes_deduplicated": result.bytes_deduplicated,
        "lost_pieces": result.lost_pieces,
        "parent": result.parent.as_ref().map_or("", |id| id.as_str()),
        "parent_refused": result.parent_refused,
    })
}
