//! One rich error for the engine.
//!
//! Rules: what failed, on what, what to do; lower case; never a secret. `retry` alone decides
//! whether trying again can help. `FormatError` is the cause where bytes were refused.

use kopia_format::error::{FormatError, FormatErrorKind};
use std::fmt;

/// Result of engine operations.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for programs; the binding maps each kind to one Python exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No format blob at this location.
    RepositoryNotFound,
    /// A repository, or foreign data, is already there.
    AlreadyExists,
    /// The password does not open the format blob.
    InvalidPassword,
    /// A version, feature or algorithm that is not known.
    UnsupportedFormat,
    /// Seal, hash or shape does not match: never retried, never hidden.
    Corrupted,
    /// A content that no index names.
    ContentNotFound,
    /// An object that cannot be found.
    ObjectNotFound,
    /// A manifest (snapshot, policy) that cannot be found.
    ManifestNotFound,
    /// A blob that the storage does not have.
    BlobNotFound,
    /// A range outside of a blob.
    InvalidRange,
    /// The storage refuses (permissions, credentials).
    AccessDenied,
    /// The storage fails or cannot be reached.
    Storage,
    /// No room on the storage or the target.
    NoSpace,
    /// A source or target file system operation failed.
    Filesystem,
    /// The request itself makes no sense.
    InvalidArgument,
    /// Canceled as asked for.
    Canceled,
    /// A state that should be impossible.
    Internal,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::RepositoryNotFound,
        Self::AlreadyExists,
        Self::InvalidPassword,
        Self::UnsupportedFormat,
        Self::Corrupted,
        Self::ContentNotFound,
        Self::ObjectNotFound,
        Self::ManifestNotFound,
        Self::BlobNotFound,
        Self::InvalidRange,
        Self::AccessDenied,
        Self::Storage,
        Self::NoSpace,
        Self::Filesystem,
        Self::InvalidArgument,
        Self::Canceled,
        Self::Internal,
    ];
}

/// An engine error.
#[derive(Debug)]
pub struct Error {
    /// The kind.
    pub kind: ErrorKind,
    /// Whether the same call may succeed later.
    pub temporary: bool,
    /// What failed, on what, what to do.
    pub message: String,
    /// Pairs for logs, e.g. `("blob", "p12…")`.
    pub context: Vec<(&'static str, String)>,
    /// The cause.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A permanent error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, temporary: false, message: message.into(), context: Vec::new(), source: None }
    }
    /// Marks it as worth trying again.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }
    /// Adds a pair of context.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((key, value.to_string()));
        self
    }
    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
    /// Puts what was being attempted before the message: `"{what}: {message}"`.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        let kind = match error.kind {
            FormatErrorKind::InvalidPassword => ErrorKind::InvalidPassword,
            FormatErrorKind::Unsupported => ErrorKind::UnsupportedFormat,
            FormatErrorKind::OutOfRange => ErrorKind::InvalidArgument,
            _ => ErrorKind::Corrupted,
        };
        Self::new(kind, error.to_string())
    }
}
