//! Test equipment: a storage conformance suite, faulty and slow storage, source trees, fixtures.
//!
//! Everything random is seeded, so that a failure can be repeated. `unwrap` and `panic!` are the
//! reporting of this crate. The surprise: unit tests inside `kopia-engine` cannot hand their types
//! to this crate (they are compiled twice); tests that use it live in `kopia-engine/tests/`.
#![allow(clippy::unwrap_used)]

pub mod clock;
pub mod conformance;
pub mod data;
pub mod directory;
pub mod faulty;
pub mod filling;
pub mod tree;
pub mod unpack;
