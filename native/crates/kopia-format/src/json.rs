//! JSON exactly as Go's `encoding/json` emits it (format document §0.2), and a reader as lenient
//! as Go's: unknown fields skipped, field names matched regardless of case, `null` for "absent".
//!
//! Not serde: directory objects are content-addressed, so bytes must be Go's own, and a directory
//! of a million entries is decoded on the hot path. The reader is in [`cursor`].

pub(crate) mod cursor;
pub(crate) mod window;

use crate::ids::{HASH_LENGTH_MAX, ObjectId};
use crate::time::Timestamp;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whether a byte stands for itself in a JSON string of Go's encoder.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = !matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&');
        byte += 1;
    }
    plain
};

/// Appends `text` (bytes, maybe not UTF-8) as a Go-escaped JSON string with quotes.
///
/// Each byte that is not part of valid UTF-8 becomes the six characters `\ufffd`.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if text.iter().all(|&byte| PLAIN[usize::from(byte)]) {
        out.extend_from_slice(text);
    } else {
        for chunk in text.utf8_chunks() {
            write_escaped(chunk.valid(), out);
            for _ in chunk.invalid() {
                out.extend_from_slice(b"\\ufffd");
            }
        }
    }
    out.push(b'"');
}

/// Appends valid UTF-8 with Go's escapes.
fn write_escaped(text: &str, out: &mut Vec<u8>) {
    for symbol in text.chars() {
        match symbol {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => write_code_point(symbol, out),
            _ => out.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Appends `\uXXXX` of a character below U+10000.
fn write_code_point(symbol: char, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[(u32::from(symbol) >> shift & 15) as usize]);
    }
}

/// Appends a decimal number.
pub(crate) fn write_integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a time as a string.
pub(crate) fn write_time(time: Timestamp, out: &mut Vec<u8>) {
    out.push(b'"');
    time.write_rfc3339(out);
    out.push(b'"');
}

/// Appends an object ID as a string, the empty one for none.
pub(crate) fn write_object_id(object: Option<&ObjectId>, out: &mut Vec<u8>) {
    out.push(b'"');
    if let Some(object) = object {
        out.extend(std::iter::repeat_n(b'I', object.indirection.into()));
        out.extend(object.compressed.then_some(b'Z'));
        out.extend(object.content.prefix());
        let mut text = [0; 2 * HASH_LENGTH_MAX];
        let hash = object.content.hash().as_bytes();
        for (pair, byte) in text.chunks_exact_mut(2).zip(hash) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        out.extend_from_slice(&text[..2 * hash.len()]);
    }
    out.push(b'"');
}

/// Writes one JSON object field by field, in the order of the calls.
pub(crate) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    separator: u8,
}

impl<'a> ObjectWriter<'a> {
    /// Opens the object; [`Self::end`] closes it.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, separator: b'{' }
    }
    /// Appends the field name (plain ASCII); the caller appends the value to what this gives.
    pub(crate) fn field(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.push(self.separator);
        self.separator = b',';
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }
    /// Appends a string field.
    pub(crate) fn string(&mut self, name: &str, value: &[u8]) {
        write_string(value, self.field(name));
    }
    /// Appends a string field unless it is empty.
    pub(crate) fn nonempty_string(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.string(name, value);
        }
    }
    /// Appends a number.
    pub(crate) fn integer(&mut self, name: &str, value: i64) {
        write_integer(value, self.field(name));
    }
    /// Appends a number unless it is 0.
    pub(crate) fn nonzero_integer(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.integer(name, value);
        }
    }
    /// Appends a flag.
    pub(crate) fn boolean(&mut self, name: &str, value: bool) {
        self.field(name).extend_from_slice(if value { b"true" } else { b"false" });
    }
    /// Appends a list of strings unless it is empty.
    pub(crate) fn nonempty_strings(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            write_array(values, self.field(name), |value, out| write_string(value.as_bytes(), out));
        }
    }
    /// Closes the object.
    pub(crate) fn end(self) {
        if self.separator == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

/// Appends an array, each element by `write`.
pub(crate) fn write_array<T>(items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Appends a map of strings, sorted by key as Go does.
pub(crate) fn write_map(map: &std::collections::BTreeMap<String, String>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (position, (key, value)) in map.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write_string(key.as_bytes(), out);
        out.push(b':');
        write_string(value.as_bytes(), out);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
