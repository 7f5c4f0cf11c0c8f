//! The manifest store: labelled JSON in `m` contents.
