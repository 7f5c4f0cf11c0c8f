//! Blobs: named immutable byte strings in a storage.

pub mod storage;

pub use storage::{BlobMetadata, BlobWriter, PutOptions, Storage};
