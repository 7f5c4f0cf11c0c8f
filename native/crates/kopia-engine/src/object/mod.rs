//! Objects: byte streams of any length made of contents.
