//! What the operating system says, as an engine error that names the path and what to do.

use crate::error::{Error, ErrorKind};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Turns `error`, met while doing `what` (e.g. `"write blob file"`) on `path`, into an engine error.
///
/// Full disk or quota is `NoSpace`; missing rights and read-only file systems are `AccessDenied`;
/// the rest is `Storage`. Temporary are those that another try can cure (interrupted, out of
/// descriptors or memory, I/O error of a network file system).
pub(super) fn storage_error(what: &str, path: &Path, error: io::Error) -> Error {
    let (kind, advice) = classify(&error);
    let mut message = format!("cannot {what} {}", path.display());
    if !advice.is_empty() {
        message = format!("{message} ({advice})");
    }
    let converted = Error::new(kind, message).with("path", path.display());
    let converted = if is_temporary(&error) { converted.temporary() } else { converted };
    converted.caused_by(error)
}

fn classify(error: &io::Error) -> (ErrorKind, &'static str) {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC) => (ErrorKind::NoSpace, "the disk is full: free some space"),
        Some(Errno::DQUOT) => (ErrorKind::NoSpace, "the quota is used up: free some space"),
        Some(Errno::ACCESS | Errno::PERM) => {
            (ErrorKind::AccessDenied, "check owner and mode of the repository's files")
        }
        Some(Errno::ROFS) => (ErrorKind::AccessDenied, "the file system is mounted read-only"),
        Some(Errno::NOENT) => (ErrorKind::Storage, "the directory is missing: is it mounted?"),
        Some(Errno::MFILE | Errno::NFILE) => (ErrorKind::Storage, "too many open files: raise the limit"),
        _ => (ErrorKind::Storage, ""),
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::INTR
                | Errno::AGAIN
                | Errno::BUSY
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::TIMEDOUT
                | Errno::IO
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(errno: Errno) -> Error {
        storage_error("write blob file", Path::new("/r/p/1.f"), errno.into())
    }

    #[test]
    fn each_error_has_its_kind_and_names_the_path() {
        for (errno, kind, temporary) in [
            (Errno::NOSPC, ErrorKind::NoSpace, false),
            (Errno::DQUOT, ErrorKind::NoSpace, false),
            (Errno::ACCESS, ErrorKind::AccessDenied, false),
            (Errno::ROFS, ErrorKind::AccessDenied, false),
            (Errno::NOENT, ErrorKind::Storage, false),
            (Errno::IO, ErrorKind::Storage, true),
            (Errno::MFILE, ErrorKind::Storage, true),
        ] {
            let error = converted(errno);
            assert_eq!((error.kind, error.temporary), (kind, temporary), "{errno:?}");
            assert!(error.to_string().starts_with("cannot write blob file /r/p/1.f"), "{error}");
        }
    }
}
