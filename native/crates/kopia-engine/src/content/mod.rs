//! Contents: hashed, sealed pieces in packs, found through indexes.
//!
//! `manager` is the door; `info` holds what callers see of one content. Nothing in here knows
//! objects, manifests or snapshots.

pub mod info;
pub mod manager;

pub use info::{ContentInfo, WriteScratch, Written};
pub use manager::ContentManager;
