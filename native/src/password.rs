//! A password as Python gives it.

use pyo3::prelude::*;

/// Bytes, since a password need not be text; text is its UTF-8.
#[derive(FromPyObject)]
pub(crate) enum Password {
    Text(String),
    Bytes(Vec<u8>),
}

impl AsRef<[u8]> for Password {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}
