use super::*;
use crate::ids::{ContentHash, ContentId};
use proptest::prelude::*;
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors");

/// `(repository, content ID, text)` of every content that the real Kopia wrote with `prefix`.
fn contents(prefix: char) -> Vec<(String, String, String)> {
    let json = std::fs::read_to_string(format!("{FIXTURES}/metadata/contents.json")).expect("fixture");
    let all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&json).expect("fixture");
    let flat = all.into_iter().flat_map(|(repository, contents)| {
        contents.into_iter().map(move |(id, text)| (repository.clone(), id, text))
    });
    flat.filter(|(_, id, _)| id.starts_with(prefix)).collect()
}

fn encoded(directory: &Directory) -> String {
    let mut out = Vec::new();
    Directory::encode(&directory.entries, directory.summary.as_ref().expect("a summary"), &mut out);
    String::from_utf8(out).expect("utf-8")
}

/// Decodes with one byte at a time coming from the reader.
fn decoded_from_a_reader(json: &[u8]) -> Result<Directory> {
    struct Trickle<'a>(&'a [u8]);
    impl std::io::Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let wanted = buffer.len().min(7);
            self.0.read(&mut buffer[..wanted])
        }
    }
    let mut entries = Vec::new();
    let summary = Directory::decode_each(Trickle(json), &mut |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(Directory { entries, summary })
}

#[test]
fn every_directory_of_kopia_is_encoded_to_the_same_bytes() {
    let all = contents('k');
    assert_eq!(all.len(), 80);
    for (repository, id, text) in all {
        let directory = Directory::decode(text.as_bytes()).expect(&id);
        // Once read, a replaced byte is an ordinary U+FFFD, also for Kopia; the raw names have a test of their own.
        assert_eq!(encoded(&directory), text.replace("\\ufffd", "\u{fffd}"), "{repository} {id}");
        assert_eq!(decoded_from_a_reader(text.as_bytes()).expect(&id), directory, "{repository} {id}");
    }
}

#[test]
fn every_index_object_of_kopia_is_encoded_to_the_same_bytes() {
    let all = contents('x');
    assert_eq!(all.len(), 8);
    for (repository, id, text) in all {
        let entries = crate::indirect::decode(text.as_bytes()).expect(&id);
        let mut json = Vec::new();
        crate::indirect::encode(&entries, &mut json);
        assert_eq!(String::from_utf8(json).expect("utf-8"), text, "{repository} {id}");
    }
}

#[test]
fn every_manifest_content_of_kopia_is_read_and_written_alike() {
    use base64::Engine;
    let mut snapshots = 0;
    for (repository, id, text) in contents('m') {
        let gzip = base64::engine::general_purpose::STANDARD.decode(text).expect("fixture");
        let entries = crate::manifest::decode(&gzip).expect(&id);
        let again = crate::manifest::encode(&entries).expect(&id);
        assert_eq!(inflated(&again), inflated(&gzip), "{repository} {id}");
        for entry in
            entries.iter().filter(|entry| entry.labels.get("type").is_some_and(|kind| kind == "snapshot"))
        {
            let manifest =
                SnapshotManifest::decode(entry.data.get().as_bytes(), entry.id.clone()).expect(&id);
            assert_eq!(
                String::from_utf8(manifest.encode()).expect("utf-8"),
                entry.data.get(),
                "{repository} {id}"
            );
            assert_eq!(manifest.labels().expect("labels"), entry.labels, "{repository} {id}");
            snapshots += 1;
        }
    }
    assert_eq!(snapshots, 17);
}

fn inflated(gzip: &[u8]) -> String {
    std::io::read_to_string(flate2::read::GzDecoder::new(gzip)).expect("gzip of utf-8")
}

#[test]
fn raw_names_are_sorted_before_their_bad_bytes_are_replaced() {
    let (_, _, text) =
        contents('k').into_iter().find(|(_, _, text)| text.contains("bad\\ufffd")).expect("odd-names");
    let mut directory = Directory::decode(text.as_bytes()).expect("valid");
    let raw: [(&str, &[u8]); 3] = [
        ("bad\u{fffd}\u{fffd}", b"bad\xff\xfe"),
        ("\u{fffd}\u{fffd}", b"\xe2\x82"),
        ("\u{fffd}\u{fffd}\u{fffd}", b"\xed\xa0\x80"),
    ];
    for entry in &mut directory.entries {
        if let Some((_, bytes)) = raw.iter().find(|(shown, _)| shown.as_bytes() == entry.name) {
            entry.name = bytes.to_vec();
        }
    }
    directory.entries.reverse();
    Directory::sort(&mut directory.entries);
    assert_eq!(encoded(&directory), text);
}

#[test]
fn go_mode_bits_are_not_those_of_unix() {
    for (unix, go) in
        [(0o100_644, 0o644), (0o4755, 0o40_000_755), (0o2755, 0o20_000_755), (0o1777, 0o4_000_777)]
    {
        assert_eq!(mode_bits::from_unix(unix), go);
        assert_eq!(mode_bits::to_unix(go), unix & 0o7777);
    }
}

#[test]
fn an_empty_directory_has_null_entries_and_modes_parse_in_any_base() {
    let empty = Directory { entries: vec![], summary: Some(DirectorySummary::default()) };
    assert!(
        encoded(&empty).starts_with(r#"{"stream":"kopia:directory","entries":null,"summary":{"size":0,"#)
    );
    assert!(encoded(&empty).ends_with("}}\n"));
    for (text, mode) in
        [("0644", 0o644), ("0x1ff", 0o777), ("0o17", 0o17), ("0b11", 3), ("420", 420), ("0", 0)]
    {
        let json = format!(r#"{{"entries":[{{"mode":"{text}"}}]}}"#);
        assert_eq!(Directory::decode(json.as_bytes()).expect(text).entries[0].mode, mode);
    }
}

#[test]
fn fields_in_any_order_and_unknown_ones_are_fine() {
    let json = br#" {"later":{"a":[1]},"summary":{"dirs":3,"new":"x"},"entries":[{"obj":"k00","new":[{}],"type":"d","NAME":"a\u0062"},null],"stream":"kopia:directory"} "#;
    let directory = Directory::decode(json).expect("valid");
    assert_eq!(directory.entries.len(), 1);
    assert_eq!(directory.entries[0].name, b"ab");
    assert_eq!(directory.summary.as_ref().expect("present").total_directory_count, 3);
    assert_eq!(decoded_from_a_reader(json).expect("valid"), directory);
}

#[test]
fn what_is_no_directory_is_refused() {
    for bad in [
        "",
        "[]",
        "{",
        r#"{"stream":"kopia:indirect"}"#,
        r#"{"entries":{}}"#,
        r#"{"entries":[{"mode":"x"}]}"#,
        r#"{"entries":[{"mtime":"x"}]}"#,
        r#"{"entries":[{"obj":"zz"}]}"#,
        r#"{"entries":[{"size":1.5}]}"#,
        r#"{"entries":[{"uid":-1}]}"#,
        r#"{"entries":[{}}"#,
        "{} x",
    ] {
        assert!(Directory::decode(bad.as_bytes()).is_err(), "{bad}");
        assert!(decoded_from_a_reader(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn errors_of_the_caller_and_of_the_reader_come_through() {
    let refusal = || FormatError::unsupported("caller", "enough");
    let json = br#"{"entries":[{"name":"a"},{"name":"b"}]}"#;
    assert_eq!(Directory::decode_each_slice(json, &mut |_| Err(refusal())), Err(refusal()));
    assert_eq!(Directory::decode_each(&json[..], &mut |_| Err(refusal())), Err(refusal()));
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("gone"))
        }
    }
    let error = Directory::decode_each(Broken, &mut |_| Ok(())).expect_err("broken");
    assert_eq!(error.kind, crate::error::FormatErrorKind::Unreadable);
}

#[test]
fn labels_need_a_whole_source_and_tags_of_their_own() {
    let (_, _, json) =
        ("", "", br#"{"source":{"host":"h","userName":"u","path":"/p"},"tags":{"tag:color":"red"}}"#);
    let mut manifest = SnapshotManifest::decode(json, ManifestId::new("a")).expect("valid");
    let labels = manifest.labels().expect("complete");
    assert_eq!(
        labels.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["hostname=h", "path=/p", "tag:color=red", "type=snapshot", "username=u",]
    );
    manifest.tags.insert("path".into(), "x".into());
    assert!(manifest.labels().is_err());
    manifest.tags.clear();
    manifest.source.host.clear();
    assert!(manifest.labels().is_err());
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(|nanoseconds| Timestamp::from_unix_nanoseconds(nanoseconds.into()))
}

prop_compose! {
    fn any_summary()(
        numbers: [i64; 6], max_mod_time in any_time(), incomplete_reason: String, failed: Vec<(String, String)>,
    ) -> DirectorySummary {
        let [total_file_size, total_file_count, total_symlink_count, total_directory_count, fatal, ignored] = numbers;
        DirectorySummary {
            total_file_size, total_file_count, total_symlink_count, total_directory_count, max_mod_time,
            incomplete_reason, fatal_error_count: fatal, ignored_error_count: ignored,
            failed_entries: failed.into_iter().map(|(path, error)| EntryError { path: path.into(), error }).collect(),
        }
    }
}

prop_compose! {
    fn any_entry()(
        name: String, letter in prop::sample::select(&b"fds\0x"[..]), mode in 0..=i32::MAX as u32, size: i64,
        modified in any_time(), owner: (u32, u32), hash: Option<[u8; 16]>, summary in prop::option::of(any_summary()),
    ) -> DirectoryEntry {
        let content = hash.map(|hash| ContentId::new(Some(b'k'), ContentHash::new(&hash).expect("16")).expect("k"));
        DirectoryEntry {
            name: name.into(), entry_type: EntryType::from_letter(letter), mode, size, modified,
            uid: owner.0, gid: owner.1, object: content.map(ObjectId::direct), summary: summary.map(Box::new),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn directories_survive(entries in prop::collection::vec(any_entry(), 0..6), summary in any_summary()) {
        let directory = Directory { entries, summary: Some(summary) };
        let json = encoded(&directory);
        prop_assert!(serde_json::from_str::<Value>(&json).is_ok());
        prop_assert_eq!(&Directory::decode(json.as_bytes()).expect("own output"), &directory);
        prop_assert_eq!(&decoded_from_a_reader(json.as_bytes()).expect("own output"), &directory);
    }
    #[test]
    fn any_bytes_and_any_damage_are_judged_alike_from_memory_and_from_a_reader(
        entry in any_entry(), at: prop::sample::Index, byte: u8, noise: Vec<u8>,
    ) {
        let mut json = encoded(&Directory { entries: vec![entry], summary: Some(DirectorySummary::default()) }).into_bytes();
        let at = at.index(json.len());
        json[at] = byte;
        for bytes in [&json[..], &json[..at], &noise[..]] {
            let (memory, reader) = (Directory::decode(bytes), decoded_from_a_reader(bytes));
            prop_assert_eq!(memory.ok(), reader.ok());
        }
        let _ = SnapshotManifest::decode(&json, ManifestId::new(""));
        let _ = SnapshotManifest::decode(&noise, ManifestId::new(""));
    }
}

/// Run with `cargo test --release -p kopia-format -- --ignored --nocapture directory_rates`.
#[test]
#[ignore = "a measurement"]
fn directory_rates() {
    let content = ContentId::new(None, ContentHash::new(&[0xab; 16]).expect("16")).expect("plain");
    let entry = |number: u32| DirectoryEntry {
        name: format!("some-file-name-{number:07}.dat").into(),
        entry_type: EntryType::File,
        mode: 0o644,
        size: i64::from(number) * 17,
        modified: Timestamp { seconds: 1_700_000_000 + i64::from(number), nanoseconds: number * 7 },
        uid: 1000,
        gid: 1000,
        object: Some(ObjectId::direct(content)),
        summary: None,
    };
    let entries: Vec<_> = (0..1_000_000).map(entry).collect();
    let mut json = Vec::new();
    let rate = |what: &str, length: usize, work: &mut dyn FnMut()| {
        // The best of five: other work on the machine only slows.
        let seconds = (0..5).map(|_| {
            let start = std::time::Instant::now();
            work();
            start.elapsed().as_secs_f64()
        });
        let seconds = seconds.fold(f64::MAX, f64::min);
        eprintln!("{what}: {:.0} MB/s, {:.0} ns an entry", length as f64 / seconds / 1e6, seconds * 1e3);
    };
    Directory::encode(&entries, &DirectorySummary::default(), &mut json);
    let length = json.len();
    json.clear();
    rate("encode", length, &mut || {
        json.clear();
        Directory::encode(&entries, &DirectorySummary::default(), &mut json);
    });
    let mut seen = 0;
    rate("decode_each_slice", length, &mut || {
        Directory::decode_each_slice(&json, &mut |_| {
            seen += 1;
            Ok(())
        })
        .expect("own output");
    });
    rate("decode_each", length, &mut || {
        Directory::decode_each(&json[..], &mut |_| {
            seen += 1;
            Ok(())
        })
        .expect("own output");
    });
    rate("decode", length, &mut || {
        Directory::decode(&json).expect("own output");
    });
    assert_eq!(seen, 10_000_000);
}
