//! Block devices in the layout of Velero's block uploader (`velero-block`, Velero 1.19).
//!
//! A device is cut into pieces of 1 MiB, each an object of its own; a list names them in order, a directory of one
//! entry names the list (`layout`). A backup reads what may have changed (`changed`: all of it, or what
//! changed-block tracking says), takes the rest from the parent's list, and writes the list as pieces become known
//! (`backup`, `order`). A restore writes every byte of the device: zeroes by deallocating where the device then
//! reads zeroes (`restore`, `target`). Neither ever holds a list in memory: a device of terabytes has millions of
//! pieces.
//!
//! Source: Velero `pkg/uploader/block`, `pkg/repository/udmrepo/kopialib`.

mod backup;
mod changed;
mod device;
mod layout;
mod options;
mod order;
mod pieces;
mod restore;
mod target;
mod tracking;
mod zero;

pub use backup::backup;
pub use changed::ChangedBlocks;
pub use layout::PIECE_BYTES;
pub use options::{BlockBackupOptions, BlockBackupResult, BlockRestoreOptions, BlockRestoreResult};
pub use restore::restore;
pub use tracking::{ChangedBlocksAnswer, ChangedBlocksQuery, ask_changed_blocks};
