//! A string that is never shown and wiped when it goes.

use std::fmt;
use zeroize::Zeroizing;

/// A secret of a provider: an account key, a token, a client secret.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::blob::object_store) struct Secret(Zeroizing<String>);

impl Secret {
    pub(in crate::blob::object_store) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself: only for requests.
    pub(in crate::blob::object_store) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}
