//! Uploading a source: the tree is listed, read, split, hashed and stored; the manifest saved.
//!
//! `engine` has the workers and their queues; `directory`, `run` and `output` the tree; `stretch`,
//! `large_file` and `hashing` the data of large files; `previous` what earlier snapshots know.
//! Nothing here knows how contents are sealed or indexed. The surprise: nothing is kept per file;
//! a directory of a million entries costs its names.

mod checkpoint;
mod completion;
mod directory;
mod engine;
mod entry;
mod hashing;
mod input;
mod large_file;
mod options;
mod output;
mod placeholder;
mod pool;
mod previous;
mod queue;
mod racy;
mod root;
mod rules;
mod run;
mod stats;
mod storing;
mod stretch;
mod vanished;

pub use options::{CHECKPOINT_INTERVAL_MAX, IncrementalInfo, Parents, UploadOptions, UploadResult};
pub use root::upload;
