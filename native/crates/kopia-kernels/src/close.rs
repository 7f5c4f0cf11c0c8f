//! Closing a file with a look at what the system says to it.

use rustix::io::{Errno, try_close};
use std::os::fd::{IntoRawFd, OwnedFd};

/// Closes a file. Network and FUSE file systems tell only now that what was written could not be kept; who just
/// drops the file never hears of it. The file is closed whatever this says.
///
/// # Errors
/// What the system says, but for `EINTR`: Linux has closed the file then.
#[allow(unsafe_code)]
pub fn close(file: impl Into<OwnedFd>) -> Result<(), Errno> {
    let descriptor = file.into().into_raw_fd();
    // SAFETY: `into_raw_fd` gave the descriptor away, so that nothing else closes or uses it.
    match unsafe { try_close(descriptor) } {
        Err(Errno::INTR) => Ok(()),
        closed => closed,
    }
}

#[cfg(test)]
mod tests {
    use super::close;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    #[test]
    fn a_closed_file_is_no_longer_open() {
        let file = File::open("/proc/self/status").expect("opened");
        let entry = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        assert!(entry.exists());
        assert_eq!(close(file), Ok(()));
        assert!(entry.read_link().map_or(true, |path| !path.ends_with("status")));
    }
}
