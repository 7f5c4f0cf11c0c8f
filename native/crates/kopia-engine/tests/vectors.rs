//! Every repository of the vectors (written by the real Kopia) is read in whole.

mod support;

use kopia_engine::content::ContentInfo;
use kopia_engine::manifest::Labels;
use kopia_engine::repository::{OpenOptions, Repository};
use kopia_format::{ContentId, ManifestId};
use serde_json::Value;
use std::collections::BTreeMap;
use support::{VectorRepository, sha256, vector_names};

fn read_only() -> OpenOptions {
    OpenOptions { read_only: true, ..OpenOptions::default() }
}

/// Whether the deletion watermark makes an expected entry absent.
fn is_masked(repository: &VectorRepository, content: &Value) -> bool {
    let watermark = repository.expected["deletionWatermark"].as_i64().unwrap_or(0);
    content["deleted"] == true && content["ts"].as_i64().expect("ts") <= watermark
}

fn check_info(id: &str, info: &ContentInfo, expected: &Value) {
    assert_eq!(info.pack.as_str(), expected["pack"], "{id}");
    assert_eq!(info.offset, expected["off"], "{id}");
    assert_eq!(info.packed_length, expected["plen"], "{id}");
    assert_eq!(info.original_length, expected["olen"], "{id}");
    assert_eq!(info.timestamp_seconds, expected["ts"].as_i64().expect("ts"), "{id}");
    assert_eq!(info.compressor.0, expected["comp"], "{id}");
    assert_eq!(info.format_version, expected["fv"], "{id}");
    assert_eq!(info.deleted, expected["deleted"], "{id}");
}

fn check_contents(vector: &VectorRepository, repository: &Repository) {
    let contents = repository.contents();
    let mut listed = BTreeMap::new();
    contents
        .for_each(true, &mut |info| {
            listed.insert(info.id.to_string(), info);
            Ok(())
        })
        .expect("listed");
    let mut bytes = Vec::new();
    for (id, expected) in vector.expected["contents"].as_object().expect("contents") {
        let content = ContentId::parse(id).expect("content ID");
        if is_masked(vector, expected) {
            assert_eq!(contents.info(&content).expect("looked up"), None, "{id} is below the watermark");
            continue;
        }
        let info = listed.remove(id).unwrap_or_else(|| panic!("{}: {id} not listed", vector.name));
        check_info(id, &info, expected);
        assert_eq!(contents.info(&content).expect("looked up").as_ref(), Some(&info));
        assert_eq!(contents.contains_live(&content).expect("looked up"), !info.deleted);
        contents.read(&content, &mut bytes).unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        if let Some(hash) = expected["sha256"].as_str() {
            assert_eq!(sha256(&bytes), hash, "{}: {id}", vector.name);
        }
    }
    assert!(listed.is_empty(), "{}: more contents than expected: {listed:?}", vector.name);
}

fn check_manifests(vector: &VectorRepository, repository: &Repository) {
    let manifests = repository.manifests();
    let expected = vector.expected["manifests"].as_array().expect("manifests");
    assert_eq!(manifests.find(&Labels::new()).expect("found").len(), expected.len(), "{}", vector.name);
    for entry in expected {
        let id = ManifestId::new(entry["id"].as_str().expect("id"));
        let (metadata, data) = manifests.get(&id).expect("manifest");
        let labels: Labels = serde_json::from_value(entry["labels"].clone()).expect("labels");
        assert_eq!(metadata.labels, labels);
        let data: Value = serde_json::from_str(data.get()).expect("payload");
        assert_eq!(data, entry["data"]);
    }
}

#[test]
fn every_content_of_every_repository_reads_and_has_its_hash() {
    for name in vector_names() {
        let vector = VectorRepository::unpack(&name);
        check_contents(&vector, &vector.open(read_only()));
    }
}

#[test]
fn manifests_of_every_repository_are_those_that_kopia_wrote() {
    for name in vector_names() {
        let vector = VectorRepository::unpack(&name);
        check_manifests(&vector, &vector.open(read_only()));
    }
}

#[test]
fn a_large_index_in_a_temporary_file_reads_like_one_in_memory() {
    for name in ["v3-epochs", "v1-compacted", "v3-deleted"] {
        let vector = VectorRepository::unpack(name);
        // Tables of more than 64 bytes go to files then.
        let options = OpenOptions { memory_limit_bytes: Some(512), ..read_only() };
        check_contents(&vector, &vector.open(options));
    }
}

#[test]
fn flipped_bytes_are_repaired_by_error_correction() {
    let sound = VectorRepository::unpack("v3-ecc10");
    let damaged = VectorRepository::unpack("v3-ecc10-corrupted");
    let repository = damaged.open(read_only());
    let mut bytes = Vec::new();
    let mut compared = 0;
    for (id, expected) in sound.expected["contents"].as_object().expect("contents") {
        let content = ContentId::parse(id).expect("content ID");
        if repository.contents().info(&content).expect("looked up").is_some() {
            repository.contents().read(&content, &mut bytes).expect("repaired");
            assert_eq!(sha256(&bytes), expected["sha256"], "{id}");
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} contents are in both");
}
