//! JSON of compaction logs and clean-up records: parsed as leniently as Go's decoder does.

use super::{CleanupRecord, CompactionLog, LoggedBlob};
use crate::error::{FormatError, Result};
use crate::ids::BlobId;
use crate::time::Timestamp;
use serde_json::{Map, Value, json};

const LOG: &str = "index compaction log";
const RECORD: &str = "index clean-up record";

/// `{"inputMetadata":[…],"outputMetadata":[…]}`
pub(super) fn encode_log(log: &CompactionLog) -> Vec<u8> {
    let mut out = b"{\"inputMetadata\":".to_vec();
    write_blobs(&log.inputs, &mut out);
    out.extend_from_slice(b",\"outputMetadata\":");
    write_blobs(&log.outputs, &mut out);
    out.push(b'}');
    out
}

/// An empty list is `null`, as Go writes it.
fn write_blobs(blobs: &[LoggedBlob], out: &mut Vec<u8>) {
    if blobs.is_empty() {
        return out.extend_from_slice(b"null");
    }
    let mut separator = b'[';
    for blob in blobs {
        out.push(separator);
        out.extend_from_slice(b"{\"id\":");
        crate::json::write_string(blob.id.as_str().as_bytes(), out);
        out.extend_from_slice(format!(",\"length\":{},\"timestamp\":\"", blob.length).as_bytes());
        blob.timestamp.write_rfc3339(out);
        out.extend_from_slice(b"\"}");
        separator = b',';
    }
    out.push(b']');
}

/// `{"blobIDs":[…],"cleanupScheduleTime":"…"}`
pub(super) fn encode_record(record: &CleanupRecord) -> Vec<u8> {
    let names: Vec<&str> = record.blob_ids.iter().map(BlobId::as_str).collect();
    let mut out = format!("{{\"blobIDs\":{},\"cleanupScheduleTime\":\"", json!(names)).into_bytes();
    record.cleanup_schedule_time.write_rfc3339(&mut out);
    out.extend_from_slice(b"\"}");
    out
}

pub(super) fn decode_log(json: &[u8]) -> Result<CompactionLog> {
    let object = Object::parse(LOG, json)?;
    Ok(CompactionLog {
        inputs: decode_blobs(&object, "inputMetadata")?,
        outputs: decode_blobs(&object, "outputMetadata")?,
    })
}

fn decode_blobs(object: &Object, name: &str) -> Result<Vec<LoggedBlob>> {
    object.list(name)?.iter().map(|value| decode_blob(&Object::new(LOG, value)?)).collect()
}

fn decode_blob(blob: &Object) -> Result<LoggedBlob> {
    Ok(LoggedBlob {
        id: blob.text("id")?.into(),
        length: blob.field("length").and_then(Value::as_u64).unwrap_or(0),
        timestamp: blob.time("timestamp")?,
    })
}

pub(super) fn decode_record(json: &[u8]) -> Result<CleanupRecord> {
    let object = Object::parse(RECORD, json)?;
    let name = |value: &Value| value.as_str().map(BlobId::from).ok_or_else(|| object.malformed("blobIDs"));
    Ok(CleanupRecord {
        blob_ids: object.list("blobIDs")?.iter().map(name).collect::<Result<_>>()?,
        cleanup_schedule_time: object.time("cleanupScheduleTime")?,
    })
}

/// A JSON object whose field names match in any case, as Go's decoder takes them.
struct Object {
    what: &'static str,
    fields: Map<String, Value>,
}

impl Object {
    fn parse(what: &'static str, json: &[u8]) -> Result<Self> {
        let value: Value =
            serde_json::from_slice(json).map_err(|error| FormatError::malformed(what, error.to_string()))?;
        Self::new(what, &value)
    }

    fn new(what: &'static str, value: &Value) -> Result<Self> {
        let fields = value.as_object().ok_or_else(|| FormatError::malformed(what, "not a JSON object"))?;
        Ok(Self { what, fields: fields.clone() })
    }

    fn malformed(&self, name: &str) -> FormatError {
        FormatError::malformed(self.what, format!("bad or missing field {name}"))
    }

    fn field(&self, name: &str) -> Option<&Value> {
        let in_any_case = || self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        self.fields.get(name).or_else(|| in_any_case().map(|(_, value)| value))
    }

    /// An absent list and `null` are empty.
    fn list(&self, name: &str) -> Result<&[Value]> {
        match self.field(name) {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(self.malformed(name)),
        }
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.field(name).and_then(Value::as_str).ok_or_else(|| self.malformed(name))
    }

    fn time(&self, name: &str) -> Result<Timestamp> {
        Timestamp::parse(self.text(name)?)
    }
}
