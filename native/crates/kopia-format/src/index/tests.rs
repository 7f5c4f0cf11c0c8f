//! Index bytes against what Kopia itself wrote, and against any bytes at all.

use super::*;
use crate::error::FormatErrorKind;
use crate::ids::ContentHash;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn vectors() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors"))
}

fn read_json(path: PathBuf) -> Value {
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("vectors are JSON")
}

fn unhex(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; text.len() / 2];
    crate::ids::decode_hex_into(text.as_bytes(), &mut bytes).expect("vectors are hex");
    bytes
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap_or(0).try_into().expect("fits")
}

fn content(text: &str) -> ContentId {
    ContentId::parse(text).expect("valid")
}

fn handmade_entry(json: &Value) -> IndexEntry {
    IndexEntry {
        content: content(json["contentID"].as_str().expect("text")),
        pack: json["packFile"].as_str().expect("text").into(),
        pack_offset: number(&json["packOffset"]),
        packed_length: number(&json["length"]),
        original_length: number(&json["originalLength"]),
        timestamp_seconds: json["time"].as_i64().expect("number"),
        compressor: CompressorId(number(&json["compression"])),
        format_version: number(&json["formatVersion"]) as u8,
        encryption_key_id: 0,
        deleted: json["deleted"].as_bool().expect("bool"),
    }
}

/// What a reader of `version` makes of an entry.
fn as_read(mut entry: IndexEntry, version: u32) -> IndexEntry {
    if version == 1 {
        entry.original_length = entry.packed_length.saturating_sub(28);
    }
    entry
}

fn all_entries<B: AsRef<[u8]>>(reader: &IndexReader<B>) -> Vec<IndexEntry> {
    reader.entries().map(|entry| reader.name(&entry.expect("entry")).expect("name")).collect()
}

#[test]
fn handmade_indexes_are_byte_identical_both_ways() {
    let cases = read_json(vectors().join("index/handmade.json"));
    for case in cases.as_array().expect("array") {
        let version = number(&case["version"]);
        let mut entries: Vec<_> =
            case["entries"].as_array().expect("array").iter().map(handmade_entry).collect();
        let encoded = encode(version, entries.clone(), None);
        let Some(hex) = case["hex"].as_str() else {
            assert_eq!(encoded.expect_err("Kopia refuses too").kind, FormatErrorKind::OutOfRange);
            continue;
        };
        let encoded = encoded.expect("encodes");
        assert_eq!(crate::ids::encode_hex(&encoded), hex, "{} v{version}", case["name"]);
        let reader = IndexReader::open(encoded).expect("opens");
        entries.sort_by_key(|entry| entry.content);
        let expected: Vec<_> = entries.into_iter().map(|entry| as_read(entry, version)).collect();
        assert_eq!(all_entries(&reader), expected);
        for entry in expected {
            assert_eq!(reader.find(&entry.content).expect("searches"), Some(entry));
        }
    }
}

#[test]
fn sharded_index_is_byte_identical() {
    let case = read_json(vectors().join("index/sharded.json"));
    let expected: Vec<&str> =
        case["shards_hex"].as_array().expect("array").iter().filter_map(Value::as_str).collect();
    let mut shards = vec![Vec::new(); 3];
    for hex in &expected {
        for entry in all_entries(&IndexReader::open(unhex(hex)).expect("opens")) {
            shards[shard_of(&entry.content, 3) as usize].push(entry);
        }
    }
    assert_eq!(shards.iter().map(Vec::len).sum::<usize>(), 40);
    for (shard, hex) in shards.into_iter().zip(expected) {
        assert_eq!(crate::ids::encode_hex(&encode(2, shard, None).expect("encodes")), hex);
    }
}

#[test]
fn shards_begin_above_sixteen_million_entries() {
    assert_eq!([0, 1, 16_000_000, 16_000_001, 48_000_000].map(shard_count), [1, 1, 1, 2, 3]);
}

/// Names and contents of all `repos/*.expected.json`.
fn repositories() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(vectors().join("repos")).expect("vectors");
    let paths = files.map(|file| file.expect("file").path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.display().to_string(), read_json(path)))
        .collect()
}

/// An entry as `expected.json` tells it; the ID is apart.
fn expected_entry(id: &str, json: &Value) -> IndexEntry {
    IndexEntry {
        content: content(id),
        pack: json["pack"].as_str().expect("text").into(),
        pack_offset: number(&json["off"]),
        packed_length: number(&json["plen"]),
        original_length: number(&json["olen"]),
        timestamp_seconds: json["ts"].as_i64().expect("number"),
        compressor: CompressorId(number(&json["comp"])),
        format_version: number(&json["fv"]) as u8,
        encryption_key_id: 0,
        deleted: json["deleted"].as_bool().expect("bool"),
    }
}

#[test]
fn indexes_of_real_repositories_read_and_encode_to_the_same_bytes() {
    let mut indexes = 0;
    for (name, repository) in repositories() {
        for blob in repository["activeIndexBlobs"].as_array().expect("array") {
            let Some(hex) = blob["plainHex"].as_str() else {
                continue;
            };
            let plain = unhex(hex);
            let reader = IndexReader::open(&plain).expect("opens");
            let entries = all_entries(&reader);
            assert_eq!(entries.len(), number(&blob["entryCount"]) as usize, "{name}");
            for (entry, json) in entries.iter().zip(blob["entries"].as_array().expect("array")) {
                let id = json["id"].as_str().or(json["contentID"].as_str()).expect("text");
                assert_eq!(*entry, expected_entry(id, json), "{name}");
            }
            let encoded = encode(reader.version(), entries, None).expect("encodes");
            assert_eq!(encoded, plain[..encoded.len()], "{name}");
            // Legacy compactions have 32 random bytes more, everything else nothing.
            assert!([0, 32].contains(&(plain.len() - encoded.len())), "{name}");
            indexes += 1;
        }
    }
    assert!(indexes > 40, "only {indexes} indexes");
}

#[test]
fn merged_indexes_of_real_repositories_give_their_contents() {
    for (name, repository) in repositories() {
        let blobs = repository["activeIndexBlobs"].as_array().expect("array");
        let plain: Option<Vec<_>> = blobs.iter().map(|blob| blob["plainHex"].as_str().map(unhex)).collect();
        let Some(plain) = plain else { continue };
        let watermark = repository["deletionWatermark"].as_i64().expect("number");
        let readers: Vec<_> = plain.iter().map(|bytes| IndexReader::open(bytes).expect("opens")).collect();
        let merged: BTreeMap<_, _> = Merge::new(&readers)
            .map(|entry| entry.expect("merges"))
            .filter(|merged| !merged.entry.is_masked(watermark))
            .map(|merged| (merged.entry.content, merged.reader.name(&merged.entry).expect("name")))
            .collect();
        let contents = repository["contents"].as_object().expect("object");
        let expected = contents.iter().map(|(id, json)| (content(id), expected_entry(id, json))).collect();
        assert_eq!(merged, expected, "{name}");
    }
}

fn entry(id: &str, pack: &str, timestamp_seconds: i64, deleted: bool) -> IndexEntry {
    IndexEntry {
        content: content(id),
        pack: pack.into(),
        pack_offset: 32,
        packed_length: 128,
        original_length: 100,
        timestamp_seconds,
        compressor: CompressorId::NONE,
        format_version: 3,
        encryption_key_id: 0,
        deleted,
    }
}

#[test]
fn later_then_live_then_greater_pack_name_wins() {
    let rising = [
        entry("00", "pz", 1, true),
        entry("00", "pa", 1, false),
        entry("00", "pb", 1, false),
        entry("00", "pa", 2, true),
        entry("00", "pb", 2, true),
        entry("00", "pa", 2, false),
    ];
    for (i, winner) in rising.iter().enumerate() {
        for (j, loser) in rising.iter().enumerate() {
            assert_eq!(winner.supersedes(loser), i > j, "{i} against {j}");
        }
    }
}

#[test]
fn watermark_masks_deleted_entries_up_to_its_own_second() {
    assert!(entry("00", "p", 10, true).is_masked(10));
    assert!(!entry("00", "p", 11, true).is_masked(10));
    assert!(!entry("00", "p", 10, false).is_masked(10));
}

#[test]
fn encode_keeps_the_winner_of_each_content() {
    let entries = vec![entry("00", "pa", 1, false), entry("00", "pb", 2, true), entry("00", "pc", 1, false)];
    let reader = IndexReader::open(encode(2, entries, None).expect("encodes")).expect("opens");
    assert_eq!(all_entries(&reader), [entry("00", "pb", 2, true)]);
}

#[test]
fn prefixes_are_found_and_merged_apart() {
    let ids = ["00", "ff", "k00", "k01", "m00", "mff", "x10"];
    let all: Vec<_> = ids.iter().map(|id| entry(id, "p", 1, false)).collect();
    let readers: Vec<_> = all
        .chunks(3)
        .map(|chunk| IndexReader::open(encode(2, chunk.to_vec(), None).expect("encodes")).expect("opens"))
        .collect();
    let merged = |prefix| -> Vec<String> {
        Merge::with_prefix(&readers, prefix)
            .map(|merged| merged.expect("merges").entry.content.to_string())
            .collect()
    };
    assert_eq!(merged(None), ["00", "ff"]);
    assert_eq!(merged(Some(b'k')), ["k00", "k01"]);
    assert_eq!(merged(Some(b'm')), ["m00", "mff"]);
    assert_eq!(merged(Some(b'g')), [""; 0]);
    assert_eq!(readers[1].entries_with_prefix(Some(b'm')).expect("opens").len(), 2);
}

#[test]
fn merge_refuses_an_index_out_of_order() {
    let mut bytes =
        encode(2, vec![entry("00", "p", 1, false), entry("01", "p", 1, false)], None).expect("encodes");
    bytes[18] = 2;
    let readers = [IndexReader::open(bytes).expect("opens")];
    let mut merge = Merge::new(&readers);
    assert!(merge.next().expect("an answer").is_err());
    assert!(merge.next().is_none());
}

#[test]
fn values_outside_the_layout_are_refused() {
    type Change = fn(&mut IndexEntry);
    let changes: [(u32, Change); 9] = [
        (1, |entry| entry.encryption_key_id = 1),
        (1, |entry| entry.pack_offset = 1 << 31),
        (1, |entry| entry.timestamp_seconds = 1 << 48),
        (1, |entry| entry.timestamp_seconds = -1),
        (2, |entry| entry.pack_offset = 1 << 30),
        (2, |entry| entry.packed_length = 1 << 28),
        (2, |entry| entry.original_length = 1 << 28),
        (2, |entry| entry.timestamp_seconds = 1 << 32),
        (2, |entry| entry.pack = BlobId::new("p".repeat(256))),
    ];
    for (version, change) in changes {
        let mut changed = entry("00", "p", 1, false);
        change(&mut changed);
        assert_eq!(
            encode(version, vec![changed], None).expect_err("refused").kind,
            FormatErrorKind::OutOfRange
        );
    }
    assert_eq!(encode(2, Vec::new(), None).expect_err("refused").kind, FormatErrorKind::OutOfRange);
    assert_eq!(encode(3, Vec::new(), None).expect_err("refused").kind, FormatErrorKind::Unsupported);
    let mixed = vec![entry("00", "p", 1, false), entry("0000", "p", 1, false)];
    assert!(encode(2, mixed, None).is_err());
}

#[test]
fn more_than_65536_packs_widen_the_entries() {
    let entries: Vec<_> =
        (0..65_537u32).map(|i| entry(&format!("{i:08x}"), &format!("p{i}"), 1, false)).collect();
    let bytes = encode(2, entries.clone(), None).expect("encodes");
    assert_eq!(bytes[2..4], [0, 18]);
    let reader = IndexReader::open(bytes).expect("opens");
    assert_eq!(reader.pack_count(), 65_537);
    for position in [0, 65_535, 65_536] {
        assert_eq!(reader.entry(position).expect("entry"), entries[position]);
    }
}

#[test]
fn counts_in_a_header_are_checked_against_the_bytes() {
    for (version, length) in [(1u8, 8), (2, 17)] {
        let mut header = vec![0xff; length];
        header[..4].copy_from_slice(&[version, 17, 0, if version == 1 { 20 } else { 16 }]);
        assert_eq!(IndexReader::open(&header).expect_err("too short").kind, FormatErrorKind::Malformed);
    }
}

#[test]
fn pack_and_format_numbers_beyond_their_tables_are_malformed() {
    let mut two = vec![entry("00", "pa", 1, false), entry("01", "pb", 1, false)];
    two[1].format_version = 2;
    let bytes = encode(2, two, None).expect("encodes");
    for at in [17 + 2 + 15, 17 + 2 + 16] {
        let mut changed = bytes.clone();
        changed[at] = 2;
        let reader = IndexReader::open(changed).expect("opens");
        assert_eq!(reader.entry(0).expect_err("refused").kind, FormatErrorKind::Malformed);
        assert!(reader.entry(1).is_ok());
    }
}

#[test]
fn an_empty_index_of_version_1_opens() {
    let reader = IndexReader::open([1, 255, 0, 20, 0, 0, 0, 0]).expect("opens");
    assert!(reader.is_empty());
    assert_eq!(reader.find(&content("00")).expect("searches"), None);
}

#[test]
fn second_pass_refuses_what_the_first_did_not_see() {
    let seen = entry("00", "pa", 1, false);
    let mut survey = IndexSurvey::new(2).expect("known");
    survey.add(&seen.raw(0), "pa").expect("adds");
    let mut writer = survey.finish().expect("finishes");
    let mut out = Vec::new();
    writer.write_header(&mut out);
    assert!(writer.write_entry(&seen.raw(0), "pb", &mut out).is_err());
    let mut long = seen.clone();
    long.packed_length = 1 << 24;
    assert!(writer.write_entry(&long.raw(0), "pa", &mut out).is_err());
    writer.write_entry(&seen.raw(0), "pa", &mut out).expect("writes");
    assert_eq!(writer.length(), out.len() as u64 + 5 + 6 + 2);
    writer.write_tables(None, &mut out).expect("finishes");
    assert_eq!(out, encode(2, vec![seen], None).expect("encodes"));
}

prop_compose! {
    fn any_entry()(
        prefix in prop::option::of(b'g'..=b'z'), hash in prop::array::uniform4(0u8..4), pack in 0u8..20,
        pack_offset in 0u32..1 << 30, packed_length in 0u32..1 << 28, original_length in 0u32..1 << 28,
        timestamp in 0u32..4, compressor in 0u32..3, deleted: bool,
    ) -> IndexEntry {
        let hash = ContentHash::new(&hash).expect("valid");
        IndexEntry {
            content: ContentId::new(prefix, hash).expect("valid"),
            pack: BlobId::new(format!("p{pack}")),
            pack_offset, packed_length, original_length,
            timestamp_seconds: i64::from(timestamp),
            compressor: CompressorId(compressor),
            format_version: 3,
            encryption_key_id: 0,
            deleted,
        }
    }
}

fn winners(entries: &[IndexEntry]) -> Vec<IndexEntry> {
    let mut kept: BTreeMap<ContentId, IndexEntry> = BTreeMap::new();
    for entry in entries {
        if kept.get(&entry.content).is_none_or(|other| entry.supersedes(other)) {
            kept.insert(entry.content, entry.clone());
        }
    }
    kept.into_values().collect()
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(
        entries in prop::collection::vec(any_entry(), 1..60), v1: bool, suffix: Option<[u8; 32]>
    ) {
        let version = if v1 { 1 } else { 2 };
        let entries: Vec<_> = entries.into_iter().map(|mut entry| {
            if v1 { entry.compressor = CompressorId::NONE; }
            as_read(entry, version)
        }).collect();
        let expected = winners(&entries);
        let reader = IndexReader::open(encode(version, entries, suffix).expect("encodes")).expect("opens");
        prop_assert_eq!(all_entries(&reader), expected);
    }

    #[test]
    fn merging_equals_merging_in_memory_and_on_a_tie_the_first_wins(
        sets in prop::collection::vec(prop::collection::vec(any_entry(), 1..30), 0..6)
    ) {
        let readers: Vec<_> = sets.iter()
            .map(|set| IndexReader::open(encode(2, set.clone(), None).expect("encodes")).expect("opens"))
            .collect();
        let merged: Vec<_> = Merge::new(&readers)
            .map(|merged| { let merged = merged.expect("merges"); merged.reader.name(&merged.entry).expect("name") })
            .collect();
        prop_assert_eq!(merged, winners(&sets.concat()));
    }

    #[test]
    fn any_bytes_are_safe(mut bytes in prop::collection::vec(any::<u8>(), 0..300), shape in 0u8..3) {
        // Two of three times a plausible header, so that more than the version check is tried.
        if shape > 0 && bytes.len() >= 17 {
            let (entries, packs) = (bytes[7] % 8, bytes[11] % 4);
            bytes[..8].copy_from_slice(&[shape, 3, 0, if shape == 1 { 20 } else { 19 }, 0, 0, 0, entries]);
            bytes[8..12].copy_from_slice(&[0, 0, 0, packs]);
            bytes[12] %= 3;
        }
        if let Ok(reader) = IndexReader::open(&bytes) {
            let _ = reader.find(&content("k0000"));
            let _ = reader.entries_with_prefix(Some(b'k')).map(Iterator::count);
            for position in 0..reader.len() + 1 {
                let _ = reader.entry(position);
            }
            let readers = [reader];
            let _ = Merge::new(&readers).take(10_000).count();
        }
    }

    #[test]
    fn damaged_indexes_are_safe(entries in prop::collection::vec(any_entry(), 1..10), at: prop::sample::Index, to: u8) {
        let mut bytes = encode(2, entries, None).expect("encodes");
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(reader) = IndexReader::open(&bytes) {
            for entry in reader.entries().flatten() {
                let _ = reader.name(&entry).expect("numbers of packs are checked with the entry");
            }
        }
    }
}
