//! The Kopia repository format as bytes: encode, decode, hash, seal, split.
//!
//! Nothing here does I/O, reads a clock or starts a thread; bytes from storage are never
//! trusted and give a [`FormatError`], never a panic. The folder and file names are the
//! words of Kopia's own architecture page. See `docs/format/`.
#![forbid(unsafe_code)]

pub mod compression;
pub mod ecc;
pub mod encryption;
pub mod epoch;
pub mod error;
pub mod format_blob;
mod go_json;
pub mod hashing;
pub mod ids;
pub mod ignore;
pub mod index;
pub mod index_blob;
pub mod indirect;
pub mod json;
pub mod maintenance;
pub mod manifest;
pub mod pack;
pub mod policy;
pub mod retention;
pub mod session;
pub mod snapshot;
pub mod splitter;
pub mod time;
#[cfg(test)]
pub(crate) mod vectors;

pub use error::{FormatError, Result};
pub use ids::{BlobId, ContentHash, ContentId, ManifestId, ObjectId, SessionId};
pub use time::Timestamp;
