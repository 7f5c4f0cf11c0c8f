//! Why bytes were refused, and where.

/// Result of decoding or encoding.
pub type Result<T> = std::result::Result<T, FormatError>;

/// What kind of refusal it is; the engine maps each to one of its own error kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatErrorKind {
    /// Bytes do not have the documented shape.
    Malformed,
    /// A seal (AEAD tag), CRC or hash does not match.
    Corrupted,
    /// An algorithm, version or feature that this program does not know; named in the message.
    Unsupported,
    /// The password does not open the format blob.
    InvalidPassword,
    /// A value cannot be represented in the format (too large, too many).
    OutOfRange,
    /// The reader that was to give the bytes failed: nothing is known of the bytes themselves.
    Unreadable,
}

/// Why bytes were refused, and at which offset where that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}{}", .offset.map(|o| format!(" (at offset {o})")).unwrap_or_default())]
pub struct FormatError {
    /// The kind, for programs.
    pub kind: FormatErrorKind,
    /// What was being read, e.g. `"index v2 header"`.
    pub what: &'static str,
    /// Why it was refused.
    pub why: String,
    /// Byte offset in the input, where it means something.
    pub offset: Option<u64>,
}

impl FormatError {
    /// Builds an error of `kind` about `what`.
    pub fn new(kind: FormatErrorKind, what: &'static str, why: impl Into<String>) -> Self {
        Self { kind, what, why: why.into(), offset: None }
    }
    /// Bytes that do not have the documented shape.
    pub fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::new(FormatErrorKind::Malformed, what, why)
    }
    /// A seal, CRC or hash that does not match.
    pub fn corrupted(what: &'static str, why: impl Into<String>) -> Self {
        Self::new(FormatErrorKind::Corrupted, what, why)
    }
    /// An unknown algorithm, version or feature.
    pub fn unsupported(what: &'static str, why: impl Into<String>) -> Self {
        Self::new(FormatErrorKind::Unsupported, what, why)
    }
    /// The same error with the offset at which it was found.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
}
