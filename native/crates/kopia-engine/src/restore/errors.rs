//! What the target's file system says, as an engine error.

use crate::error::{Error, ErrorKind};
use rustix::io::Errno;
use std::io;

/// `message` says what failed on what; the cause is added.
pub(super) fn target_error(message: String, error: io::Error) -> Error {
    let kind = match Errno::from_io_error(&error) {
        Some(Errno::NOSPC | Errno::DQUOT) => ErrorKind::NoSpace,
        _ => ErrorKind::Filesystem,
    };
    Error::new(kind, message).caused_by(error)
}
