//! Legacy index management: decisions by table, and the real repository `v1-compacted`.

use super::*;
use crate::encryption::{CipherAlgorithm, ContentSealer};
use crate::epoch::ListedBlob;
use crate::ids::BlobId;
use crate::time::Timestamp;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::Read;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors");
const MIB: u64 = 1 << 20;

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: 0 }
}

fn listed(name: &str, length: u64, seconds: i64) -> ListedBlob {
    ListedBlob { id: name.into(), length, timestamp: at(seconds) }
}

fn logged(names: &[&str]) -> Vec<LoggedBlob> {
    names.iter().map(|name| LoggedBlob { id: (*name).into(), length: 9, timestamp: at(0) }).collect()
}

fn log(inputs: &[&str], outputs: &[&str]) -> CompactionLog {
    CompactionLog { inputs: logged(inputs), outputs: logged(outputs) }
}

fn ids(names: &[&str]) -> Vec<BlobId> {
    names.iter().map(|name| BlobId::from(*name)).collect()
}

#[test]
fn inputs_of_a_log_are_replaced_only_while_all_its_outputs_are_there() {
    let blobs = ids(&["n1", "n2", "n3", "nout1", "nout2", POISON_BLOB]);
    let logs = [
        ("m1".into(), log(&["n1", "nvanished"], &["nout1", "nout2"])),
        ("m2".into(), log(&["n2"], &["nout3"])),
    ];
    assert_eq!(active_legacy(&blobs, &logs), ids(&["n2", "n3", "nout1", "nout2"]));
    assert_eq!(active_legacy(&blobs, &[]), ids(&["n1", "n2", "n3", "nout1", "nout2"]));
    let emptied = [("m3".into(), log(&["n3"], &[]))];
    assert_eq!(active_legacy(&ids(&["n3"]), &emptied), []);
}

#[test]
fn compactions_chain() {
    let logs = [("m1".into(), log(&["n1", "n2"], &["n3"])), ("m2".into(), log(&["n3", "n4"], &["n5"]))];
    assert_eq!(active_legacy(&ids(&["n1", "n2", "n3", "n4", "n5"]), &logs), ids(&["n5"]));
}

fn limits() -> LegacyCompactionLimits {
    LegacyCompactionLimits {
        pack_size_max: 20 * MIB,
        small_blobs_max: 8,
        all_indexes: false,
        drops_contents: false,
    }
}

/// How many blobs of each length the plan takes.
fn plan(lengths: &[(u64, usize)], limits: &LegacyCompactionLimits) -> Vec<(u64, usize)> {
    let blobs: Vec<_> =
        lengths.iter().flat_map(|(length, count)| vec![listed("n", *length, 0); *count]).collect();
    let chosen = legacy_compaction_plan(&blobs, limits);
    let counts = lengths
        .iter()
        .map(|(length, _)| (*length, chosen.iter().filter(|blob| blob.length == *length).count()));
    counts.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn enough_small_blobs_are_compacted() {
    assert_eq!(plan(&[(100, 7)], &limits()), []);
    assert_eq!(plan(&[(100, 8)], &limits()), [(100, 8)]);
    assert_eq!(plan(&[(100, 7), (20 * MIB + 1, 5)], &limits()), []);
    assert_eq!(plan(&[(100, 7), (20 * MIB, 1)], &limits()), [(100, 7)]);
}

#[test]
fn only_very_small_blobs_are_compacted_while_the_others_are_few() {
    let mib = MIB;
    assert_eq!(plan(&[(mib - 1, 8), (mib, 6)], &limits()), [(mib - 1, 8)]);
    assert_eq!(plan(&[(mib - 1, 9), (mib, 7)], &limits()), [(mib - 1, 9), (mib, 7)]);
    assert_eq!(plan(&[(mib - 1, 4), (mib, 4)], &limits()), [(mib - 1, 4), (mib, 4)]);
}

#[test]
fn all_indexes_and_drops_widen_the_plan() {
    let all = LegacyCompactionLimits { all_indexes: true, small_blobs_max: 1, ..limits() };
    assert_eq!(plan(&[(30 * MIB, 2)], &all), [(30 * MIB, 2)]);
    assert_eq!(plan(&[(30 * MIB, 1)], &all), []);
    let dropping = LegacyCompactionLimits { drops_contents: true, ..all };
    assert_eq!(plan(&[(30 * MIB, 1)], &dropping), [(30 * MIB, 1)]);
    assert_eq!(plan(&[], &dropping), []);
    assert!(legacy_compaction_plan(&[listed(POISON_BLOB, 9, 0)], &dropping).is_empty());
}

#[test]
fn inputs_of_settled_logs_are_deleted_and_their_logs_recorded() {
    let logs = [
        (listed("m1", 9, 0), Some(log(&["n1", "n2"], &["n3"]))),
        (listed("m2", 9, 1), Some(log(&["n2", "n3"], &["n4"]))),
        (listed("m3", 9, 0), None),
        (listed("m4", 9, 3600), Some(log(&["n4"], &["n5"]))),
    ];
    let deletion = legacy_deletion(&logs, at(3600), LEGACY_SETTLE_SECONDS);
    assert_eq!(deletion.index_blobs, ids(&["n1", "n2"]));
    let record = CleanupRecord { blob_ids: ids(&["m1", "m3"]), cleanup_schedule_time: at(3600) };
    assert_eq!(deletion.record, Some(record));
    assert_eq!(legacy_deletion(&logs, at(3600), 0).index_blobs, ids(&["n1", "n2", "n3", "n4"]));
    assert_eq!(legacy_deletion(&logs, at(3599), LEGACY_SETTLE_SECONDS), LegacyDeletion::default());
}

#[test]
fn logs_are_deleted_when_their_record_settled_by_the_clock_of_the_records() {
    let record = |names: &[&str], seconds| {
        Some(CleanupRecord { blob_ids: ids(names), cleanup_schedule_time: at(seconds) })
    };
    let records = [
        (listed("l1", 9, 0), record(&["m1", "m2"], 0)),
        (listed("l2", 9, 1), record(&["m3"], 1)),
        (listed("l3", 9, 3600), None),
    ];
    let cleanup = legacy_cleanup(&records, LEGACY_SETTLE_SECONDS);
    assert_eq!((cleanup.logs, cleanup.records), (ids(&["m1", "m2"]), ids(&["l1"])));
    assert_eq!(legacy_cleanup(&records[..2], LEGACY_SETTLE_SECONDS), LegacyCleanup::default());
    assert_eq!(legacy_cleanup(&records[..2], 0).records, ids(&["l1", "l2"]));
    assert_eq!(legacy_cleanup(&[], 0), LegacyCleanup::default());
}

#[test]
fn compaction_logs_are_written_as_kopia_writes_them() {
    let json = br#"{"inputMetadata":[{"id":"n1","length":9,"timestamp":"1970-01-01T00:00:00Z"},{"id":"n2","length":9,"timestamp":"1970-01-01T00:00:00Z"}],"outputMetadata":null}"#;
    let expected = log(&["n1", "n2"], &[]);
    assert_eq!(CompactionLog::decode(json).expect("decodes"), expected);
    assert_eq!(expected.encode(), json);
}

#[test]
fn cleanup_records_are_written_as_kopia_writes_them() {
    let json = br#"{"blobIDs":["m1","m2"],"cleanupScheduleTime":"1970-01-01T00:00:05Z"}"#;
    let expected = CleanupRecord { blob_ids: ids(&["m1", "m2"]), cleanup_schedule_time: at(5) };
    assert_eq!(CleanupRecord::decode(json).expect("decodes"), expected);
    assert_eq!(expected.encode(), json);
}

#[test]
fn field_names_match_in_any_case_and_unknown_ones_are_ignored() {
    let json =
        br#"{"INPUTmetadata":[{"ID":"n1","Length":9,"timestamp":"1970-01-01T01:00:00+01:00","x":1}],"y":[]}"#;
    assert_eq!(CompactionLog::decode(json).expect("decodes"), log(&["n1"], &[]));
    for bad in [&b"[]"[..], b"{", b"{\"inputMetadata\":1}", b"{\"inputMetadata\":[{}]}"] {
        assert!(CompactionLog::decode(bad).is_err(), "{bad:?}");
    }
    for bad in [&b"{}"[..], b"{\"blobIDs\":[1],\"cleanupScheduleTime\":\"1970-01-01T00:00:00Z\"}"] {
        assert!(CleanupRecord::decode(bad).is_err(), "{bad:?}");
    }
}

fn expected() -> serde_json::Value {
    let json = std::fs::read(format!("{VECTORS}/repos/v1-compacted.expected.json")).expect("vector");
    serde_json::from_slice(&json).expect("JSON")
}

/// The index blobs (`n`, `m`) of the repository `v1-compacted` and their bytes.
fn real_blobs() -> Vec<(ListedBlob, Vec<u8>)> {
    let file = std::fs::File::open(format!("{VECTORS}/repos/v1-compacted.tar")).expect("tar");
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().expect("entries").map(|entry| entry.expect("entry"));
    let blobs = entries.filter_map(|mut entry| {
        let path = entry.path().expect("path").to_string_lossy().into_owned();
        let name: String = path.split('/').skip(1).collect();
        let name = name.strip_suffix(".f").filter(|name| name.starts_with(['n', 'm']))?;
        let blob = listed(name, entry.size(), entry.header().mtime().expect("time") as i64);
        let mut body = Vec::new();
        entry.read_to_end(&mut body).expect("reads");
        Some((blob, body))
    });
    blobs.collect()
}

/// The one compaction log of `v1-compacted`, opened.
fn real_log(blobs: &[(ListedBlob, Vec<u8>)]) -> (ListedBlob, CompactionLog) {
    let (blob, mut sealed) =
        blobs.iter().find(|(blob, _)| blob.id.as_str().starts_with('m')).expect("a log").clone();
    let config = &expected()["config"];
    let cipher = CipherAlgorithm::parse(config["encryption"].as_str().expect("text")).expect("known");
    let master_key = BASE64.decode(config["masterKey"].as_str().expect("text")).expect("base64");
    let sealer = ContentSealer::new(cipher, &master_key, None).expect("derives");
    let log =
        CompactionLog::decode(open_blob(&sealer, &blob.id, &mut sealed).expect("opens")).expect("decodes");
    (blob, log)
}

#[test]
fn a_real_compaction_log_hides_its_inputs_and_is_planned_alike() {
    let blobs = real_blobs();
    let (blob, log) = real_log(&blobs);
    assert_eq!(CompactionLog::decode(&log.encode()).expect("decodes"), log);
    let index_blobs: Vec<_> =
        blobs.iter().map(|(blob, _)| blob).filter(|n| n.id.as_str().starts_with('n')).collect();
    let names: Vec<_> = index_blobs.iter().map(|blob| blob.id.clone()).collect();
    let found: BTreeSet<_> = active_legacy(&names, &[(blob.id, log.clone())]).into_iter().collect();
    let active = expected()["activeIndexBlobs"].clone();
    let active =
        active.as_array().expect("array").iter().map(|blob| blob["id"].as_str().expect("text").into());
    assert_eq!(found, active.collect());

    // What was active before the compaction, with the lengths and times that the log kept.
    let inputs: BTreeSet<_> = log.inputs.iter().map(|input| &input.id).collect();
    let before: Vec<_> = index_blobs.into_iter().filter(|blob| inputs.contains(&blob.id)).cloned().collect();
    for input in &log.inputs {
        let listed = before.iter().find(|blob| blob.id == input.id).expect("still there");
        // The archive rounds times to seconds.
        let seconds_apart = listed.timestamp.seconds - input.timestamp.seconds;
        assert!(listed.length == input.length && (0..=1).contains(&seconds_apart), "{input:?}");
    }
    assert_eq!(legacy_compaction_plan(&before, &limits()), before);
}

proptest! {
    #[test]
    fn any_json_is_safe(text in "\\PC{0,60}", field in "[a-zA-Z]{0,20}", value in "[\\[\\]{}\":,a-z0-9]{0,20}") {
        let _ = CompactionLog::decode(text.as_bytes());
        let _ = CleanupRecord::decode(text.as_bytes());
        let _ = CompactionLog::decode(format!("{{\"{field}\":{value}}}").as_bytes());
        let _ = CleanupRecord::decode(format!("{{\"blobIDs\":{value}}}").as_bytes());
    }
}
