//! Inner loops where speed decides: rolling hashes that find chunk boundaries, the search for zeros,
//! reading without clearing memory first; and the one system call that no safe library has.
//!
//! The only crate of the workspace that may hold `unsafe`, and it holds three calls: entering code
//! compiled for AVX2 after the processor said that it has it, lengthening a buffer by what was read, and closing a
//! file with a look at the answer. No format knowledge lives here
//! beyond the two rolling hashes; sizes and names of splitters are `kopia-format`'s.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod append;
pub mod buzhash;
mod buzhash_table;
mod close;
pub mod rabin_karp;
mod side_by_side;
mod zero;

pub use append::append_at;
pub use close::close;
pub use side_by_side::WINDOW_BYTES;
pub use zero::is_zero;
