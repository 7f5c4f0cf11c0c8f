//! Serde values as the bytes that Go's `encoding/json` gives, and back.
//!
//! For small documents whose field order a derived `Serialize` states (format blob, maintenance
//! schedule). Content-addressed documents are written by hand in their own modules. The
//! surprise: Go escapes `<`, `>`, `&`, U+2028 and U+2029, which serde_json does not.

use crate::error::{FormatError, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// Compact JSON.
///
/// # Errors
/// `Malformed` if `value` holds raw JSON that is none.
pub(crate) fn to_vec<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map(escape_as_go)
        .map_err(|error| FormatError::malformed(what, error.to_string()))
}

/// Reads `json`; unknown fields are ignored.
///
/// # Errors
/// `Malformed` if it is not JSON of the shape of `T`.
pub(crate) fn from_slice<T: DeserializeOwned>(what: &'static str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| FormatError::malformed(what, error.to_string()))
}

/// Adds the escapes that serde_json leaves out. These characters occur in JSON only inside of strings.
pub(crate) fn escape_as_go(json: Vec<u8>) -> Vec<u8> {
    let special = |byte: &u8| matches!(byte, b'<' | b'>' | b'&' | 0xe2);
    if !json.iter().any(special) {
        return json;
    }
    let mut out = Vec::with_capacity(json.len() + 16);
    let mut rest = &json[..];
    while let Some((&first, tail)) = rest.split_first() {
        let (escaped, length): (&[u8], usize) = match rest {
            [b'<', ..] => (b"\\u003c", 1),
            [b'>', ..] => (b"\\u003e", 1),
            [b'&', ..] => (b"\\u0026", 1),
            [0xe2, 0x80, 0xa8, ..] => (b"\\u2028", 3),
            [0xe2, 0x80, 0xa9, ..] => (b"\\u2029", 3),
            _ => {
                out.push(first);
                rest = tail;
                continue;
            }
        };
        out.extend_from_slice(escaped);
        rest = &rest[length..];
    }
    out
}

/// For `skip_serializing_if`: Go's `omitempty`.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// For `deserialize_with`: Go reads `null` as "leave it as it is" and writes it for nil maps and slices.
pub(crate) fn null_as_default<'de, T, D>(deserializer: D) -> std::result::Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// For `with`: a byte slice as base64 text.
pub(crate) mod base64_text {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(crate) fn serialize<T: AsRef<[u8]>, S: Serializer>(
        bytes: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(bytes)))
    }

    pub(crate) fn deserialize<'de, T: From<Vec<u8>>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = Zeroizing::new(Option::<String>::deserialize(deserializer)?.unwrap_or_default());
        // The text may be a key: the error must not carry it.
        let bytes =
            STANDARD.decode(text.as_bytes()).map_err(|_| D::Error::custom("a field is not base64"))?;
        Ok(bytes.into())
    }
}

/// For `with`: a time as RFC 3339 text.
pub(crate) mod time_text {
    use crate::time::Timestamp;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Vec::new();
        time.write_rfc3339(&mut text);
        serializer.serialize_str(std::str::from_utf8(&text).map_err(S::Error::custom)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        let text = "a<b>&\u{2028}\u{2029}\u{20ac}\u{7f}/\"\\\u{8}\u{c}\n\r\t\u{1}";
        let json = to_vec("test", &text).unwrap();
        let expected =
            "\"a\\u003cb\\u003e\\u0026\\u2028\\u2029\u{20ac}\u{7f}/\\\"\\\\\\b\\f\\n\\r\\t\\u0001\"";
        assert_eq!(String::from_utf8(json.clone()).unwrap(), expected);
        assert_eq!(from_slice::<String>("test", &json).unwrap(), text);
    }
}
