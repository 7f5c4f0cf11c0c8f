//! Contents: hashed, sealed pieces in packs, found through indexes.
//!
//! `manager`, `reading` and `flushing` are the door. Behind it: `pending` and `committed` entries (rows of
//! `location`s over the `catalog` of packs), packs being written (`pack_pool`, `pending_pack`),
//! index blobs (`index_set` reads, `index_cache` keeps merged, `index_writer` writes). Nothing in here knows objects,
//! manifests or snapshots.

mod catalog;
mod committed;
pub(crate) mod compaction;
pub mod context;
pub(crate) mod early_indexes;
mod entry_table;
mod flushing;
pub(crate) mod frozen;
pub mod group;
pub(crate) mod index_cache;
mod index_set;
mod index_writer;
pub mod info;
mod location;
mod lost;
pub mod manager;
mod pack_pool;
pub(crate) mod parallel;
mod pending;
mod pending_pack;
mod reading;
pub(crate) mod recovery;
mod sealed_rows;
mod sealing;
mod session;

pub use context::ContentContext;
pub use group::{GroupReader, ReadTraffic};
pub use info::{ContentInfo, WriteScratch, Written};
pub use manager::ContentManager;
