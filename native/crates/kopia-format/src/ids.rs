//! Names of things: blobs, contents, objects, manifests, sessions.
//!
//! Content IDs are small `Copy` values whose `Ord` is the byte order of index keys
//! (unprefixed first), which differs from the order of their text form.

use crate::error::{FormatError, Result};
use std::fmt;
use std::sync::Arc;

/// Longest hash that a repository can use, in bytes.
pub const HASH_LENGTH_MAX: usize = 32;

/// Output of the repository's keyed hash: 16, 28 or 32 bytes in practice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ContentHash {
    bytes: [u8; HASH_LENGTH_MAX],
    length: u8,
}

impl ContentHash {
    /// Wraps `bytes` (1..=32 of them).
    ///
    /// # Errors
    /// Any other length is malformed.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() || bytes.len() > HASH_LENGTH_MAX {
            return Err(FormatError::malformed("content hash", format!("length {}", bytes.len())));
        }
        let mut hash = Self { bytes: [0; HASH_LENGTH_MAX], length: bytes.len() as u8 };
        hash.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(hash)
    }
    /// The bytes of the hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
    /// The last 16 bytes (all, if shorter): the initialization vector of contents and whole blobs.
    pub fn iv(&self) -> &[u8] {
        let bytes = self.as_bytes();
        &bytes[bytes.len().saturating_sub(16)..]
    }
    /// Lower-case hex.
    pub fn to_hex(self) -> String {
        encode_hex(self.as_bytes())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// Name of a content: an optional prefix letter `g`..=`z` and the keyed hash of its plain bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId {
    prefix: u8,
    hash: ContentHash,
}

impl ContentId {
    /// Builds an ID; `prefix` is `None` for file data or a letter `b'g'..=b'z'`.
    ///
    /// # Errors
    /// Any other prefix is malformed.
    pub fn new(prefix: Option<u8>, hash: ContentHash) -> Result<Self> {
        match prefix {
            None => Ok(Self { prefix: 0, hash }),
            Some(letter @ b'g'..=b'z') => Ok(Self { prefix: letter, hash }),
            Some(other) => Err(FormatError::malformed("content ID", format!("prefix byte {other:#04x}"))),
        }
    }
    /// The prefix letter, if any.
    pub fn prefix(&self) -> Option<u8> {
        (self.prefix != 0).then_some(self.prefix)
    }
    /// The hash part.
    pub fn hash(&self) -> &ContentHash {
        &self.hash
    }
    /// Whether the content belongs in a metadata (`q`) pack.
    pub fn is_metadata(&self) -> bool {
        self.prefix != 0
    }
    /// Appends the index key: one prefix byte (0 if none) and the hash.
    pub fn write_key(&self, out: &mut Vec<u8>) {
        out.push(self.prefix);
        out.extend_from_slice(self.hash.as_bytes());
    }
    /// Reads an index key written by [`Self::write_key`].
    ///
    /// # Errors
    /// A bad prefix or length is malformed.
    pub fn from_key(key: &[u8]) -> Result<Self> {
        let (&prefix, hash) =
            key.split_first().ok_or_else(|| FormatError::malformed("index key", "empty"))?;
        Self::new((prefix != 0).then_some(prefix), ContentHash::new(hash)?)
    }
    /// Parses the text form.
    ///
    /// # Errors
    /// Anything that is not `[g-z]?hex` is malformed.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let (prefix, hex) = if bytes.len() % 2 == 1 { (Some(bytes[0]), &bytes[1..]) } else { (None, bytes) };
        let mut hash = [0u8; HASH_LENGTH_MAX];
        let length = decode_hex_into(hex, &mut hash)
            .ok_or_else(|| FormatError::malformed("content ID", format!("not hex: {text:?}")))?;
        Self::new(prefix, ContentHash::new(&hash[..length])?)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 1 + 2 * HASH_LENGTH_MAX];
        let mut length = 0;
        if self.prefix != 0 {
            text[0] = self.prefix;
            length = 1;
        }
        for byte in self.hash.as_bytes() {
            text[length] = HEX[usize::from(byte >> 4)];
            text[length + 1] = HEX[usize::from(byte & 15)];
            length += 2;
        }
        f.write_str(std::str::from_utf8(&text[..length]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Name of an object: `I`* `Z`? content ID. See format document §5.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// How many index objects stand before the data (the leading `I`s).
    pub indirection: u8,
    /// Object-level compression (`Z`): the content is header and compressed bytes.
    pub compressed: bool,
    /// The content that the rest of the ID names.
    pub content: ContentId,
}

impl ObjectId {
    /// A direct, uncompressed object: exactly one content.
    pub fn direct(content: ContentId) -> Self {
        Self { indirection: 0, compressed: false, content }
    }
    /// Parses the text form; a legacy `D` is accepted and ignored.
    ///
    /// # Errors
    /// `I` together with `Z`, or a bad content ID, is malformed.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.trim_start_matches('I');
        let indirection = u8::try_from(text.len() - rest.len())
            .map_err(|_| FormatError::malformed("object ID", "too many levels of indirection"))?;
        let (compressed, rest) = match rest.strip_prefix('Z') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if compressed && indirection > 0 {
            return Err(FormatError::malformed("object ID", format!("both I and Z: {text:?}")));
        }
        let rest = rest.strip_prefix('D').unwrap_or(rest);
        Ok(Self { indirection, compressed, content: ContentId::parse(rest)? })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for _ in 0..self.indirection {
            f.write_str("I")?;
        }
        if self.compressed {
            f.write_str("Z")?;
        }
        fmt::Display::fmt(&self.content, f)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);
        impl $name {
            /// Wraps a name as it is.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

text_id!(
    /// Name of a blob in the storage, e.g. `p5f…-s…147` or `kopia.repository`.
    BlobId
);
text_id!(
    /// ID of a manifest: 32 hex digits.
    ManifestId
);
text_id!(
    /// Session that wrote packs and indexes: `s` + 16 hex digits + month number in hex.
    SessionId
);

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hex of `bytes`.
pub fn encode_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// Decodes lower- or upper-case hex into `out`; the number of bytes, or `None` if it is not hex
/// or does not fit.
pub fn decode_hex_into(hex: &[u8], out: &mut [u8]) -> Option<usize> {
    if !hex.len().is_multiple_of(2) || hex.len() / 2 > out.len() {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    };
    for (pair, byte) in hex.chunks_exact(2).zip(out.iter_mut()) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hex.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_they_parse() {
        for text in ["fbb9c873", "k1676cf83", "m00"] {
            assert_eq!(ContentId::parse(text).expect("valid").to_string(), text);
        }
        for text in ["Ix57c8d685", "Ik2e60ef00", "IIx0011", "Z14452391"] {
            assert_eq!(ObjectId::parse(text).expect("valid").to_string(), text);
        }
        assert!(ObjectId::parse("IZ00").is_err());
        assert!(ContentId::parse("a00").is_err());
        assert!(ContentId::parse("").is_err());
    }

    #[test]
    fn unprefixed_keys_sort_first() {
        let plain = ContentId::parse("ff").expect("valid");
        let directory = ContentId::parse("k00").expect("valid");
        assert!(plain < directory);
        let mut key = Vec::new();
        directory.write_key(&mut key);
        assert_eq!(ContentId::from_key(&key).expect("valid"), directory);
    }
}
