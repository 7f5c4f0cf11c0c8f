use super::cursor::{Cursor, Fault, read_all};
use super::*;
use proptest::prelude::*;

fn written(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_string(text, &mut out);
    out
}

fn read(json: &[u8]) -> crate::Result<String> {
    read_all("test", json, |cursor| Ok(cursor.string()?.into_owned()))
}

#[test]
fn strings_are_escaped_as_go_does() {
    let cases: [(&[u8], &[u8]); 8] = [
        (b"plain-name_1.txt", br#""plain-name_1.txt""#),
        (b"a\"b\\c/d", br#""a\"b\\c/d""#),
        (b"\x08\x0c\n\r\t\x00\x1f\x7f", b"\"\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\""),
        (b"<a&b>", br#""\u003ca\u0026b\u003e""#),
        ("\u{2028}\u{2029}\u{e9}\u{1f600}".as_bytes(), "\"\\u2028\\u2029\u{e9}\u{1f600}\"".as_bytes()),
        (b"bad\xff\xfename", br#""bad\ufffd\ufffdname""#),
        (b"\xe2\x82", br#""\ufffd\ufffd""#),
        (b"\xed\xa0\x80", br#""\ufffd\ufffd\ufffd""#),
    ];
    for (text, json) in cases {
        assert_eq!(written(text), json);
    }
}

#[test]
fn strings_are_read_as_go_does() {
    assert_eq!(read(br#" "a\/b\u0041\ud83d\ude00" "#).expect("valid"), "a/bA\u{1f600}");
    assert_eq!(read(br#""\ud83dx\udc00\ud800\u0041""#).expect("valid"), "\u{fffd}x\u{fffd}\u{fffd}A");
    assert_eq!(read(b"\"\xff\xe2\x82\"").expect("valid"), "\u{fffd}\u{fffd}\u{fffd}");
    for bad in [&b"\"a"[..], b"\"\n\"", br#""\x""#, br#""\u12""#, br#""\u12g4""#, b"\"\" x", b"", b"1"] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn numbers_must_be_whole_and_fit() {
    let number =
        |json: &str| read_all("test", format!("{json} ").as_bytes(), |cursor| cursor.integer::<i64>());
    assert_eq!(number("-9223372036854775808").expect("fits"), i64::MIN);
    assert_eq!(number("9223372036854775807").expect("fits"), i64::MAX);
    for bad in ["9223372036854775808", "1.0", "1e3", "-", "01", "x", ""] {
        assert!(number(bad).is_err(), "{bad}");
    }
    assert!(read_all("test", b"4294967296 ", |cursor| cursor.integer::<u32>()).is_err());
}

#[test]
fn unknown_fields_are_skipped_and_names_match_in_any_case() {
    let json = br#"{"x":{"y":[1,{"z":null},"]"],"e":-1.5e3},"SIZE":7,"name":null,"size2":[]}"#;
    let mut size = 0;
    let object = |cursor: &mut Cursor<'_>| {
        cursor.object(&["name", "size"], |cursor, name| {
            assert_eq!(name, "size", "null counts as absent");
            size = cursor.integer()?;
            Ok(())
        })
    };
    assert!(read_all("test", json, object).expect("valid"));
    assert_eq!(size, 7);
}

#[test]
fn deep_nesting_is_refused_without_using_the_stack() {
    let json = vec![b'['; 1_000_000];
    assert!(read_all("test", &json, |cursor| cursor.skip().map(|_| ())).is_err());
}

proptest! {
    #[test]
    fn what_is_written_reads_back(text: String) {
        prop_assert_eq!(read(&written(text.as_bytes())).expect("own output"), text);
    }
    #[test]
    fn any_bytes_are_written_as_json_that_serde_reads(bytes: Vec<u8>) {
        let json = written(&bytes);
        let by_serde: String = serde_json::from_slice(&json).expect("valid json");
        prop_assert_eq!(read(&json).expect("own output"), by_serde);
    }
    #[test]
    fn skipping_accepts_what_serde_accepts(json in "[\\[\\]{}:,\"a1 ]{0,12}") {
        let text = format!("{json} ");
        let ours = read_all("test", text.as_bytes(), |cursor| cursor.skip().map(|_| ()));
        let serde = serde_json::from_str::<serde::de::IgnoredAny>(&text);
        // Numbers are skipped leniently; everything that serde accepts must pass.
        prop_assert!(ours.is_ok() || serde.is_err(), "{text}");
    }
    #[test]
    fn a_cut_text_asks_for_more_rather_than_being_refused(text: String, cut: prop::sample::Index) {
        let json = written(text.as_bytes());
        let mut cursor = Cursor::new(&json[..cut.index(json.len())]);
        prop_assert!(matches!(cursor.string(), Err(Fault::End)));
    }
}
