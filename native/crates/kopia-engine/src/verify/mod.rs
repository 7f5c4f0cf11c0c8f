//! Verify: whether snapshots, or all contents of a repository, can be read back whole.
//!
//! Structure first: every content is in an index and its pack is long enough. Then bytes: contents
//! sorted by pack and offset, opened and hashed side by side. Contents that several files share are read once.
//! Damage is counted and named, never hidden; what follows from it is the caller's decision.

mod bytes;
mod choice;
mod contents;
mod packs;
mod report;
mod snapshots;

pub use contents::verify_contents;
pub use report::{Damage, VerifyOptions, VerifyResult};
pub use snapshots::verify_snapshots;
