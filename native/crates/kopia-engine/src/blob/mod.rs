//! Blobs: named immutable byte strings in a storage.
//!
//! `storage` is the seam; providers (`filesystem`, `memory`, `object_store`) implement it; `layers` wrap it, one
//! concern each. What blobs mean (packs, indexes) is not known here, but for one rule of
//! durability in `filesystem::durability`.

pub mod cache;
pub mod collecting;
pub mod connection;
pub(crate) mod exclusive;
pub mod filesystem;
pub mod layers;
pub mod memory;
pub mod object_store;
pub mod retention;
pub mod sharding;
pub mod storage;
pub mod url;

pub use storage::{BlobMetadata, BlobWriter, BucketProtection, PutOptions, RetentionMode, Storage};
