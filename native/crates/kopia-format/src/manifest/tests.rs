use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("valid")
}

fn snapshot(id: &str, modified: &str) -> ManifestEntry {
    let labels = [("type", "snapshot"), ("path", "/a<b"), ("hostname", "h")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    ManifestEntry::put(ManifestId::new(id), labels, at(modified), br#"{"id":""}"#.to_vec()).expect("valid")
}

fn gzip(json: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(json).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn the_json_is_kopias() {
    let deletion = ManifestEntry::deletion(ManifestId::new("02"), at("2026-11-21T02:00:00Z"));
    let content = encode(&[snapshot("01", "2026-11-21T01:38:25.58832239Z"), deletion]).expect("encodes");
    let expected = concat!(
        r#"{"entries":[{"id":"01","labels":{"hostname":"h","path":"/a\u003cb","type":"snapshot"},"#,
        r#""modified":"2026-11-21T01:38:25.58832239Z","data":{"id":""}},"#,
        r#"{"id":"02","labels":null,"modified":"2026-11-21T02:00:00Z","deleted":true,"data":null}]}"#,
        "\n"
    );
    assert_eq!(
        String::from_utf8(gunzip(&content, PLAIN_LENGTH_MAX_BYTES).expect("gzip")).expect("utf-8"),
        expected
    );
    let read = decode(&content).expect("own output");
    assert_eq!(read[0].labels["path"], "/a<b");
    assert_eq!(read[0].data.get(), r#"{"id":""}"#);
    assert!(read[1].deleted && read[1].labels.is_empty());
}

#[test]
fn the_newest_entry_decides_between_put_and_delete() {
    let delete = |id: &str, time: &str| ManifestEntry::deletion(ManifestId::new(id), at(time));
    let entries = [
        delete("a", "2026-01-02T00:00:00Z"),
        snapshot("a", "2026-01-01T00:00:00Z"),
        snapshot("b", "2026-01-03T00:00:00Z"),
        delete("b", "2026-01-02T00:00:00Z"),
        snapshot("c", "2026-01-01T00:00:00Z"),
        snapshot("d", "2026-01-01T00:00:00Z"),
        delete("d", "2026-01-01T00:00:00Z"),
    ];
    let ids =
        |entries: Vec<ManifestEntry>| -> Vec<String> { entries.iter().map(|e| e.id.to_string()).collect() };
    assert_eq!(ids(newest(entries.clone())), ["c", "b"]);
    assert_eq!(ids(newest(entries.into_iter().rev())), ["c", "b"]);
}

#[test]
fn bytes_that_are_no_manifests_are_refused() {
    for bad in [&b""[..], b"{", b"[]", br#"{"entries":[{"data":}]}"#, br#"{"entries":[{"data":01x}]}"#] {
        assert!(decode(&gzip(bad)).is_err(), "{bad:?}");
    }
    assert!(decode(b"not gzip").is_err());
    assert!(decode(&gzip(br#"{"entries":null}"#)).expect("valid").is_empty());
    assert!(decode(&gzip(br#"{"entries":[null],"x":1}"#)).expect("valid").is_empty());
    let no_type =
        ManifestEntry::put(ManifestId::new("a"), BTreeMap::new(), Timestamp::default(), b"{}".to_vec());
    assert!(no_type.is_err());
}

#[test]
fn a_bomb_is_refused() {
    let spaces = gzip(&vec![b' '; 1 << 20]);
    assert_eq!(gunzip(&spaces, 1 << 20).expect("at the limit").len(), 1 << 20);
    let error = gunzip(&spaces, (1 << 20) - 1).expect_err("above the limit");
    assert_eq!(error.kind, FormatErrorKind::OutOfRange);
}

proptest! {
    #[test]
    fn entries_survive(labels: BTreeMap<String, String>, seconds in 0i64..4_000_000_000, payload: String) {
        let mut labels = labels;
        labels.insert("type".into(), "x".into());
        let data = serde_json::to_vec(&payload).expect("a string");
        let entry = ManifestEntry::put(ManifestId::new("a"), labels, Timestamp::from_unix_seconds(seconds), data);
        let entry = entry.expect("valid");
        let read = decode(&encode(std::slice::from_ref(&entry)).expect("encodes")).expect("own output");
        prop_assert_eq!(&read[0].labels, &entry.labels);
        prop_assert_eq!(read[0].modified, entry.modified);
        prop_assert_eq!(read[0].data.get(), entry.data.get());
    }
    #[test]
    fn any_bytes_are_judged(bytes: Vec<u8>) {
        let _ = decode(&bytes);
        let _ = decode(&gzip(&bytes));
    }
}
