//! What Python gets, as JSON with Kopia's field names wherever Kopia prints the same thing.

use crate::errors::exception_name;
use kopia_engine::blob::layers::metrics::StorageMetrics;
use kopia_engine::blob::{BlobMetadata, Storage};
use kopia_engine::content::ContentInfo;
use kopia_engine::manifest::ManifestMetadata;
use kopia_engine::repository::Repository;
use kopia_engine::restore::{Failure, RestoreResult};
use kopia_engine::tree::{Change, Difference};
use kopia_engine::upload::UploadResult;
use kopia_engine::verify::{Damage, RepositoryVerifyResult, VerifyResult, WithinWindow};
use kopia_format::compression::CompressorId;
use kopia_format::ids::encode_hex;
use kopia_format::index::IndexEntry;
use kopia_format::snapshot::{DirectoryEntry, EntryError, SnapshotManifest};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A snapshot as `kopia snapshot list --json` prints it.
pub(crate) fn snapshot(manifest: &SnapshotManifest) -> Value {
    let mut document = as_json(&manifest.encode());
    if let (Some(id), Some(object)) = (&manifest.id, document.as_object_mut()) {
        object.insert("id".into(), id.as_str().into());
    }
    document
}

/// An entry as a directory object holds it.
pub(crate) fn entry(entry: &DirectoryEntry) -> Value {
    let mut encoded = Vec::new();
    entry.encode(&mut encoded);
    as_json(&encoded)
}

/// Our own encoders write JSON; `null` could only come of a mistake in them.
fn as_json(encoded: &[u8]) -> Value {
    serde_json::from_slice(encoded).unwrap_or_default()
}

pub(crate) fn errors(errors: &[EntryError]) -> Value {
    errors
        .iter()
        .map(|failed| json!({"path": String::from_utf8_lossy(&failed.path), "error": failed.error}))
        .collect()
}

pub(crate) fn upload_result(result: &UploadResult) -> Value {
    let parents: Vec<_> = result.parents.iter().map(|id| id.as_str()).collect();
    let incremental = &result.incremental;
    json!({
        "snapshot": snapshot(&result.manifest),
        "saved": result.saved,
        "parents": parents,
        "errors": errors(&result.errors),
        "vanished_count": result.vanished_count,
        "not_utf8_count": result.not_utf8_count,
        "lost_pack_count": result.lost_pack_count,
        "files_cached": incremental.files_cached,
        "bytes_cached": incremental.bytes_cached,
        "bytes_read": incremental.bytes_read,
        "bytes_uploaded": incremental.bytes_uploaded,
        "bytes_deduplicated": incremental.bytes_deduplicated,
    })
}

pub(crate) fn restore_result(result: &RestoreResult) -> Value {
    json!({
        "file_count": result.file_count,
        "directory_count": result.directory_count,
        "symlink_count": result.symlink_count,
        "skipped_count": result.skipped_count,
        "deleted_count": result.deleted_count,
        "file_bytes": result.file_bytes,
        "storage_requests": result.storage_requests,
        "storage_bytes": result.storage_bytes,
        "needed_bytes": result.needed_bytes,
        "failed_count": result.failed_count,
        "failures": result.failures.iter().map(failure).collect::<Value>(),
        "refused_count": result.refused_count,
        "refused": result.refused.iter().map(failure).collect::<Value>(),
    })
}

fn failure(failure: &Failure) -> Value {
    json!({
        "path": String::from_utf8_lossy(&failure.path),
        "error": failure.error.to_string(),
        "kind": exception_name(failure.error.kind),
    })
}

/// What the storage was asked for, by operation and result.
pub(crate) fn storage_metrics(metrics: &StorageMetrics) -> Value {
    let readings = metrics.read().into_iter().map(|reading| {
        json!({
            "operation": reading.operation.name(),
            "result": reading.result.name(),
            "requests": reading.request_count,
            "bytes": reading.bytes,
            "seconds": reading.seconds,
        })
    });
    readings.collect()
}

pub(crate) fn verify_result(result: &VerifyResult) -> Value {
    json!({
        "file_count": result.file_count,
        "directory_count": result.directory_count,
        "content_count": result.content_count,
        "read_count": result.read_count,
        "read_bytes": result.read_bytes,
        "damage_count": result.damage_count,
        "damages": result.damages.iter().map(damage).collect::<Value>(),
    })
}

pub(crate) fn repository_verify_result(result: &RepositoryVerifyResult) -> Value {
    let coverage = &result.coverage;
    let window =
        |one: &WithinWindow| json!({"seconds": one.seconds, "bytes": one.bytes, "percent": one.percent});
    json!({
        "contents": result.content_count,
        "packs": result.pack_count,
        "read": {"packs": result.read_packs, "contents": result.read_count, "bytes": result.read_bytes},
        "left_bytes": result.left_bytes,
        "canceled": result.canceled,
        "damage_count": result.damage_count,
        "damages": result.damages.iter().map(damage).collect::<Value>(),
        "coverage": {
            "bytes": coverage.bytes,
            "never_bytes": coverage.never_bytes,
            "oldest_seconds": coverage.oldest_seconds,
            "within": coverage.within.iter().map(window).collect::<Value>(),
        },
    })
}

fn damage(damage: &Damage) -> Value {
    json!({
        "snapshot": damage.snapshot,
        "path": String::from_utf8_lossy(&damage.path),
        "error": damage.error.to_string(),
        "kind": exception_name(damage.error.kind),
        "context": damage.error.context.iter().map(|(key, value)| (*key, value)).collect::<BTreeMap<_, _>>(),
    })
}

/// An entry and where it is.
pub(crate) fn entry_at(path: &[u8], entry: &DirectoryEntry) -> Value {
    json!({ "path": String::from_utf8_lossy(path), "entry": self::entry(entry) })
}

pub(crate) fn difference(found: &Difference) -> Value {
    let change = match found.change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Modified => "modified",
    };
    json!({
        "path": String::from_utf8_lossy(&found.path),
        "change": change,
        "before": found.before.as_ref().map(entry),
        "after": found.after.as_ref().map(entry),
    })
}

/// What `kopia repository status --json` prints, as far as it does not concern Kopia's own configuration.
/// Where a repository is, and what its bucket does against loss if that is known.
fn storage(storage: &dyn Storage) -> Value {
    let mut document = json!({ "url": storage.describe() });
    if let (Ok(Some(found)), Some(members)) = (storage.protection(), document.as_object_mut()) {
        let protection = json!({ "versions": found.has_versions, "objectLock": found.has_object_lock });
        members.insert("protection".into(), protection);
    }
    document
}

pub(crate) fn status(repository: &Repository) -> Value {
    let config = repository.config();
    json!({
        "uniqueIDHex": encode_hex(repository.unique_id()),
        "clientOptions": {
            "hostname": repository.hostname(),
            "username": repository.username(),
            "readonly": repository.is_read_only(),
        },
        "storage": storage(repository.storage().as_ref()),
        "contentFormat": {
            "hash": config.hash,
            "encryption": config.encryption,
            "ecc": config.ecc,
            "eccOverheadPercent": config.ecc_overhead_percent,
            "version": config.version,
            "maxPackSize": config.max_pack_size,
            "indexVersion": config.index_version,
            "epochParameters": config.epoch_parameters,
            "enablePasswordChange": config.enable_password_change,
        },
        "objectFormat": { "splitter": config.splitter },
    })
}

pub(crate) fn manifest(metadata: &ManifestMetadata) -> Value {
    json!({
        "id": metadata.id.as_str(),
        "labels": metadata.labels,
        "mtime": metadata.modified.to_rfc3339(),
        "length": metadata.length,
    })
}

pub(crate) fn content(info: &ContentInfo) -> Value {
    let mut document = json!({
        "contentID": info.id.to_string(),
        "packFile": info.pack.as_str(),
        "packOffset": info.offset,
        "length": info.packed_length,
        "originalLength": info.original_length,
        "time": info.timestamp_seconds,
        "deleted": info.deleted,
        "formatVersion": info.format_version,
    });
    // A number, as Kopia prints it.
    if info.compressor != CompressorId::NONE {
        document["compression"] = info.compressor.0.into();
    }
    document
}

pub(crate) fn blob(metadata: &BlobMetadata) -> Value {
    json!({
        "id": metadata.id.as_str(),
        "length": metadata.length,
        "timestamp": metadata.timestamp.to_rfc3339(),
    })
}

/// An entry of an index, with the names of [`content`].
pub(crate) fn index_entry(entry: &IndexEntry) -> Value {
    content(&ContentInfo {
        id: entry.content,
        pack: entry.pack.clone(),
        offset: entry.pack_offset,
        packed_length: entry.packed_length,
        original_length: entry.original_length,
        timestamp_seconds: entry.timestamp_seconds,
        compressor: entry.compressor,
        deleted: entry.deleted,
        format_version: entry.format_version,
    })
}
