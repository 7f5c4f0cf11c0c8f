//! Objects: byte streams of any length made of contents.

pub mod extents;
mod list;
pub mod reader;
pub mod writer;

pub use extents::{Extent, extents, for_each_content, read_direct, read_whole};
pub use reader::ObjectReader;
pub use writer::{ObjectWriter, ObjectWriterOptions, concatenate, finish_entries, put_chunk};
