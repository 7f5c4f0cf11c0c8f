//! Labelled JSON entries in `m` contents (format document §6.1).
//!
//! Here: the gzipped JSON of one content, and which of several entries for one manifest counts.
//! What the payloads say is in `snapshot`, `policy`, `maintenance`. The surprise: Kopia trips
//! over any top-level field but `entries`, so none is ever written.

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::ids::ManifestId;
use crate::json::cursor::{Cursor, Fault, Scan, read_all};
use crate::json::{ObjectWriter, write_array, write_map, write_time};
use crate::time::Timestamp;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};

const WHAT: &str = "manifest content";

/// Largest JSON that one `m` content may hold.
///
/// Far above what Kopia writes (about 1 kB a snapshot), far below what a crafted stream could inflate to.
pub const PLAIN_LENGTH_MAX_BYTES: u64 = 512 << 20;

/// One entry of an `m` content.
#[derive(Debug, Clone)]
pub struct ManifestEntry {
    /// The manifest.
    pub id: ManifestId,
    /// `type` and others; empty (JSON `null`) in deletions.
    pub labels: BTreeMap<String, String>,
    /// When it was put or deleted; the newest entry of an ID counts.
    pub modified: Timestamp,
    /// Whether the entry deletes the manifest.
    pub deleted: bool,
    /// The payload as JSON text; `null` for a deletion.
    pub data: Box<RawValue>,
}

impl ManifestEntry {
    /// The entry that puts a manifest with the JSON text `payload`.
    ///
    /// # Errors
    /// A payload that is not JSON, or labels without `type`, is malformed.
    pub fn put(
        id: ManifestId,
        labels: BTreeMap<String, String>,
        modified: Timestamp,
        payload: Vec<u8>,
    ) -> Result<Self> {
        if labels.get("type").is_none_or(String::is_empty) {
            return Err(FormatError::malformed("manifest", "labels without a type"));
        }
        let text = String::from_utf8(payload).map_err(|_| FormatError::malformed("manifest", "not UTF-8"))?;
        Ok(Self { id, labels, modified, deleted: false, data: raw(text)? })
    }
    /// The entry that deletes a manifest.
    pub fn deletion(id: ManifestId, modified: Timestamp) -> Self {
        Self { id, labels: BTreeMap::new(), modified, deleted: true, data: null() }
    }
}

/// JSON `null`.
fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

fn raw(text: String) -> Result<Box<RawValue>> {
    RawValue::from_string(text).map_err(|error| FormatError::malformed("manifest", error.to_string()))
}

/// Gzipped content bytes of `entries`.
///
/// # Errors
/// None in practice: compressing into memory does not fail.
pub fn encode(entries: &[ManifestEntry]) -> Result<Vec<u8>> {
    let mut json = br#"{"entries":"#.to_vec();
    write_array(entries, &mut json, write_entry);
    json.extend_from_slice(b"}\n");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let written = gzip.write_all(&json).and_then(|()| gzip.finish());
    written.map_err(|error| FormatError::new(FormatErrorKind::OutOfRange, WHAT, error.to_string()))
}

fn write_entry(entry: &ManifestEntry, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.string("id", entry.id.as_str().as_bytes());
    let labels = json.field("labels");
    if entry.labels.is_empty() {
        labels.extend_from_slice(b"null");
    } else {
        write_map(&entry.labels, labels);
    }
    write_time(entry.modified, json.field("modified"));
    if entry.deleted {
        json.boolean("deleted", true);
    }
    json.field("data").extend_from_slice(entry.data.get().as_bytes());
    json.end();
}

/// Entries of an `m` content.
///
/// # Errors
/// Bytes that are not the gzip of such JSON are malformed; more than [`PLAIN_LENGTH_MAX_BYTES`] of it is out of range.
pub fn decode(content: &[u8]) -> Result<Vec<ManifestEntry>> {
    read_all(WHAT, &gunzip(content, PLAIN_LENGTH_MAX_BYTES)?, |cursor| {
        let mut entries = Vec::new();
        cursor.object(&["entries"], |cursor, _| {
            cursor.array(|cursor| read_entry(cursor).map(|entry| entries.extend(entry)))
        })?;
        Ok(entries)
    })
}

fn gunzip(content: &[u8], length_bytes_max: u64) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    let mut limited = MultiGzDecoder::new(content).take(length_bytes_max + 1);
    limited
        .read_to_end(&mut json)
        .map_err(|error| FormatError::malformed(WHAT, format!("not gzip: {error}")))?;
    if json.len() as u64 > length_bytes_max {
        let why = format!("more than {length_bytes_max} bytes of json");
        return Err(FormatError::new(FormatErrorKind::OutOfRange, WHAT, why));
    }
    Ok(json)
}

/// Reads an entry; `None` for `null`.
fn read_entry(cursor: &mut Cursor<'_>) -> Scan<Option<ManifestEntry>> {
    let mut entry = ManifestEntry::deletion(ManifestId::new(""), Timestamp::GO_ZERO);
    entry.deleted = false;
    let fields = &["id", "labels", "modified", "deleted", "data"];
    let present = cursor.object(fields, |cursor, name| {
        match name {
            "id" => entry.id = ManifestId::new(cursor.string()?),
            "labels" => entry.labels = cursor.string_map()?,
            "modified" => entry.modified = cursor.time()?,
            "deleted" => entry.deleted = cursor.boolean()?,
            _ => entry.data = read_data(cursor)?,
        }
        Ok(())
    })?;
    Ok(present.then_some(entry))
}

fn read_data(cursor: &mut Cursor<'_>) -> Scan<Box<RawValue>> {
    let text = String::from_utf8_lossy(cursor.skip()?).into_owned();
    RawValue::from_string(text).map_err(|error| Fault::Bad(format!("data: {error}")))
}

/// The manifests that exist, given all entries of all `m` contents in any order: per ID the newest
/// entry, without those that are deletions. Sorted by modification time, then ID.
///
/// Of two entries of equal time the deletion counts, so that no order of reading resurrects one.
/// Source: Kopia `repo/manifest/committed_manifest_manager.go` (where ties fall as they come).
pub fn newest(entries: impl IntoIterator<Item = ManifestEntry>) -> Vec<ManifestEntry> {
    let mut by_id: HashMap<ManifestId, ManifestEntry> = HashMap::new();
    for entry in entries {
        let known = by_id.get(&entry.id);
        if known.is_none_or(|known| (known.modified, known.deleted) < (entry.modified, entry.deleted)) {
            by_id.insert(entry.id.clone(), entry);
        }
    }
    let mut live: Vec<_> = by_id.into_values().filter(|entry| !entry.deleted).collect();
    live.sort_by(|a, b| (a.modified, &a.id).cmp(&(b.modified, &b.id)));
    live
}

#[cfg(test)]
mod tests;
