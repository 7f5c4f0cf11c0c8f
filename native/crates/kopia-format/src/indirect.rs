//! Index objects of large objects: `{"stream":"kopia:indirect","entries":[…]}` (format document §5.2).
//!
//! One object holds the entries of one level; following several levels is the reader's work.
//! The surprise: an index object without entries crashes Kopia, so none is ever accepted.

use crate::error::{FormatError, Result};
use crate::ids::ObjectId;
use crate::json::cursor::{Cursor, Fault, Scan, read_all};
use crate::json::window::Window;
use crate::json::{ObjectWriter, write_array, write_object_id};
use std::io::Read;

const WHAT: &str = "index object";
const HEAD: &[u8] = br#"{"stream":"kopia:indirect","entries":"#;
const TAIL: &[u8] = b"}\n";
const FIELDS: [&str; 2] = ["stream", "entries"];

/// One entry: a stretch of the object and the object that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndirectEntry {
    /// Offset in the whole object.
    pub start: u64,
    /// Length of the stretch (plain bytes).
    pub length: u64,
    /// Object that holds it.
    pub object: ObjectId,
}

/// Encodes with the trailing newline, byte-identical to Kopia.
///
/// `entries` must not be empty and must be contiguous from 0, as [`decode`] checks. Offsets of
/// 2⁶³ and more, which Kopia cannot say, are written as the largest it can.
pub fn encode(entries: &[IndirectEntry], out: &mut Vec<u8>) {
    out.extend_from_slice(HEAD);
    write_array(entries, out, write_entry);
    out.extend_from_slice(TAIL);
}

fn write_entry(entry: &IndirectEntry, out: &mut Vec<u8>) {
    let mut json = ObjectWriter::new(out);
    json.nonzero_integer("s", i64::try_from(entry.start).unwrap_or(i64::MAX));
    json.nonzero_integer("l", i64::try_from(entry.length).unwrap_or(i64::MAX));
    write_object_id(Some(&entry.object), json.field("o"));
    json.end();
}

/// Writes an index object entry by entry, for those that are not held in memory; `out` may be drained
/// between the calls. The same rules as for [`encode`].
#[derive(Debug)]
pub struct IndirectWriter {
    empty: bool,
}

impl IndirectWriter {
    /// Appends what comes before the entries.
    pub fn new(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(HEAD);
        Self { empty: true }
    }
    /// Appends the next entry.
    pub fn entry(&mut self, entry: &IndirectEntry, out: &mut Vec<u8>) {
        out.push(if self.empty { b'[' } else { b',' });
        self.empty = false;
        write_entry(entry, out);
    }
    /// Appends what comes after the entries, with the newline.
    ///
    /// # Errors
    /// An index without entries is refused, since it would crash Kopia.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<()> {
        if self.empty {
            return Err(FormatError::malformed(WHAT, "no entries"));
        }
        out.push(b']');
        out.extend_from_slice(TAIL);
        Ok(())
    }
}

/// Decodes and checks that entries are contiguous and not empty.
///
/// # Errors
/// Anything else is malformed.
pub fn decode(json: &[u8]) -> Result<Vec<IndirectEntry>> {
    let entries = read_all(WHAT, json, |cursor| {
        let mut entries = Vec::new();
        cursor.object(&FIELDS, |cursor, name| match name {
            "stream" => read_stream_type(cursor),
            _ => cursor.array(|cursor| read_entry(cursor).map(|entry| entries.push(entry))),
        })?;
        Ok(entries)
    })?;
    check_contiguous(&entries)?;
    Ok(entries)
}

/// Calls `each` for one entry after the other without holding them all (an index of a device of terabytes has
/// millions); gives the end of the last. Checks as [`decode`] does.
///
/// # Errors
/// As [`decode`]; the first error of `each`; unreadable if the reader fails.
pub fn decode_each(json: impl Read, each: &mut dyn FnMut(IndirectEntry) -> Result<()>) -> Result<u64> {
    let mut window = Window::new(WHAT, json);
    let (mut position, mut end) = (0, 0);
    let mut more = window.step(|cursor| Ok(!cursor.null()? && cursor.open(b'{', b'}')?))?;
    while more {
        let field = window.step(|cursor| cursor.field_name(&FIELDS, 0))?;
        more = if field == Some(1) {
            let mut another = window.step(|cursor| Ok(!cursor.null()? && cursor.open(b'[', b']')?))?;
            while another {
                let (entry, follows) = window.step(|cursor| Ok((read_entry(cursor)?, cursor.more(b']')?)))?;
                end = check_follows(position, &entry, end)?;
                position += 1;
                each(entry)?;
                another = follows;
            }
            window.step(|cursor| cursor.more(b'}'))?
        } else {
            window.step(|cursor| {
                if cursor.null()? {
                } else if field.is_some() {
                    read_stream_type(cursor)?;
                } else {
                    cursor.skip()?;
                }
                cursor.more(b'}')
            })?
        };
    }
    window.end()?;
    if position == 0 { Err(FormatError::malformed(WHAT, "no entries")) } else { Ok(end) }
}

fn read_stream_type(cursor: &mut Cursor<'_>) -> Scan<()> {
    match &*cursor.string()? {
        "kopia:indirect" => Ok(()),
        other => Err(Fault::Bad(format!("the stream is {other:.40?}, not an index"))),
    }
}

fn read_entry(cursor: &mut Cursor<'_>) -> Scan<IndirectEntry> {
    let (mut start, mut length, mut object) = (0i64, 0i64, None);
    cursor.object(&["s", "l", "o"], |cursor, name| {
        match name {
            "s" => start = cursor.integer()?,
            "l" => length = cursor.integer()?,
            _ => object = cursor.object_id()?,
        }
        Ok(())
    })?;
    let negative = |_| Fault::Bad("a negative offset or length".into());
    Ok(IndirectEntry {
        start: u64::try_from(start).map_err(negative)?,
        length: u64::try_from(length).map_err(negative)?,
        object: object.ok_or_else(|| Fault::Bad("an entry without an object ID".into()))?,
    })
}

fn check_contiguous(entries: &[IndirectEntry]) -> Result<()> {
    if entries.is_empty() {
        return Err(FormatError::malformed(WHAT, "no entries"));
    }
    entries.iter().enumerate().try_fold(0, |end, (position, entry)| check_follows(position, entry, end))?;
    Ok(())
}

/// The end of an entry that begins where the one before it ends.
fn check_follows(position: usize, entry: &IndirectEntry, end: u64) -> Result<u64> {
    if entry.start != end {
        let why = format!("entry {position} starts at {}, the one before ends at {end}", entry.start);
        return Err(FormatError::malformed(WHAT, why));
    }
    // Both are below 2⁶³, so the sum fits.
    let end = entry.start + entry.length;
    if i64::try_from(end).is_err() {
        return Err(FormatError::malformed(WHAT, format!("entry {position} ends beyond 2^63")));
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(text: &str) -> ObjectId {
        ObjectId::parse(text).expect("valid")
    }

    #[test]
    fn the_json_is_byte_identical_to_kopias() {
        let entries = [
            IndirectEntry { start: 0, length: 131_071, object: object("3eb1") },
            IndirectEntry { start: 131_071, length: 70_000, object: object("Z9a00") },
            IndirectEntry { start: 201_071, length: 0, object: object("Ix0011") },
        ];
        let mut json = Vec::new();
        encode(&entries, &mut json);
        let expected = concat!(
            r#"{"stream":"kopia:indirect","entries":[{"l":131071,"o":"3eb1"},"#,
            r#"{"s":131071,"l":70000,"o":"Z9a00"},{"s":201071,"o":"Ix0011"}]}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(json).expect("ascii"), expected);
        assert_eq!(decode(expected.as_bytes()).expect("own output"), entries);
    }

    #[test]
    fn gaps_negative_numbers_and_empty_lists_are_refused() {
        let with = |entries: &str| {
            decode(format!(r#"{{"stream":"kopia:indirect","entries":{entries}}}"#).as_bytes())
        };
        assert!(with(r#"[{"l":1,"o":"00"},{"s":1,"l":1,"o":"00"}]"#).is_ok());
        for bad in [
            "[]",
            "null",
            "[null]",
            r#"[{"l":1}]"#,
            r#"[{"l":-1,"o":"00"}]"#,
            r#"[{"s":1,"l":1,"o":"00"}]"#,
            r#"[{"l":2,"o":"00"},{"s":1,"l":1,"o":"00"}]"#,
            r#"[{"l":9223372036854775807,"o":"00"},{"s":9223372036854775807,"l":1,"o":"00"}]"#,
        ] {
            assert!(with(bad).is_err(), "{bad}");
            let json = format!(r#"{{"stream":"kopia:indirect","entries":{bad}}}"#);
            assert!(decode_each(json.as_bytes(), &mut |_| Ok(())).is_err(), "{bad}");
        }
        assert!(decode(br#"{"stream":"kopia:directory","entries":[{"l":1,"o":"00"}]}"#).is_err());
    }

    proptest! {
        #[test]
        fn entries_survive(lengths in prop::collection::vec(0u64..1 << 40, 1..20), hash: [u8; 16]) {
            let content = crate::ids::ContentId::new(None, crate::ids::ContentHash::new(&hash).expect("16 bytes"));
            let object = ObjectId::direct(content.expect("no prefix"));
            let mut start = 0;
            let entries: Vec<_> = lengths.iter().map(|&length| {
                let entry = IndirectEntry { start, length, object };
                start += length;
                entry
            }).collect();
            let mut json = Vec::new();
            encode(&entries, &mut json);
            prop_assert_eq!(&decode(&json).expect("own output"), &entries);
            let mut one_by_one = Vec::new();
            let mut writer = IndirectWriter::new(&mut one_by_one);
            entries.iter().for_each(|entry| writer.entry(entry, &mut one_by_one));
            writer.finish(&mut one_by_one).expect("has entries");
            prop_assert_eq!(&one_by_one, &json);
            let mut read = Vec::new();
            let end = decode_each(json.as_slice(), &mut |entry| { read.push(entry); Ok(()) });
            prop_assert_eq!(end.expect("own output"), start);
            prop_assert_eq!(read, entries);
        }
        #[test]
        fn any_bytes_are_judged(bytes: Vec<u8>) {
            let whole = decode(&bytes).is_ok();
            let streamed = decode_each(bytes.as_slice(), &mut |_| Ok(())).is_ok();
            prop_assert_eq!(whole, streamed);
        }
    }
}
