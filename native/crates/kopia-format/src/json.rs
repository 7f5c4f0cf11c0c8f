//! JSON exactly as Go's `encoding/json` emits it (format document §0.2): escapes and nothing else.

/// Appends `text` (bytes, maybe not UTF-8) as a Go-escaped JSON string with quotes.
pub fn write_string(_text: &[u8], _out: &mut Vec<u8>) { todo!() }
