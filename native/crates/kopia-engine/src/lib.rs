//! I/O and concurrency over `kopia-format`: storage, contents, objects, manifests, upload, restore.
//!
//! Arrows run down: upload, restore, verify, maintenance, snapshots → repository → object, manifest → content → blob.

pub mod blob;
pub mod block;
pub mod cancel;
pub mod clock;
pub mod content;
pub mod descriptors;
pub mod error;
pub mod maintenance;
pub mod manifest;
pub mod object;
pub mod progress;
pub mod repair;
pub mod repository;
pub mod restore;
pub mod snapshot_copy;
pub mod snapshots;
pub mod source;
pub mod sync_to;
pub mod tree;
pub mod upload;
pub mod verify;

pub use error::{Error, ErrorKind, Result};
