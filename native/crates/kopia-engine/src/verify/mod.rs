//! Verify: whether snapshots, or all contents of a repository, can be read back whole.
//!
//! Structure first: every content is in an index and its pack is long enough. Then bytes: contents
//! sorted by pack and offset, opened and hashed side by side. Contents that several files share are read once.
//! Damage is counted and named, never hidden; what follows from it is the caller's decision.

mod bytes;
mod choice;
mod contents;
mod ledger;
mod pack_plan;
mod packs;
mod report;
mod repository;
mod snapshots;

pub(crate) use contents::read_back_rows;
pub use contents::verify_contents;
pub use report::{Damage, VerifyOptions, VerifyResult};
pub use repository::{
    Coverage, RepositoryVerifyOptions, RepositoryVerifyResult, WithinWindow, verify_repository,
};
pub use snapshots::verify_snapshots;
