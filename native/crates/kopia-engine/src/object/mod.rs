//! Objects: byte streams of any length made of contents.

pub mod extents;
pub mod reader;
pub mod writer;

pub use extents::{Extent, extents, for_each_content};
pub use reader::{ObjectReader, read_direct, read_whole};
pub use writer::{ObjectWriter, ObjectWriterOptions, concatenate, finish_entries, put_chunk};
