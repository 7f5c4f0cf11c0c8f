//! Inner loops where speed decides: rolling hashes that find chunk boundaries, and the search for zeros.
//!
//! The only crate of the workspace that may hold `unsafe`, and it holds one call: entering code
//! compiled for AVX2 after the processor said that it has it. No format knowledge lives here
//! beyond the two rolling hashes; sizes and names of splitters are `kopia-format`'s.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod buzhash;
mod buzhash_table;
pub mod rabin_karp;
mod side_by_side;
mod zero;

pub use side_by_side::WINDOW_BYTES;
pub use zero::is_zero;
