//! Reading from a file onto the end of a buffer without clearing the room first.
//!
//! Clearing costs a pass over memory for every byte read; the standard library has no stable way
//! around it for reads of a bounded length at an offset.

use rustix::fd::AsFd;
use rustix::io::Errno;

/// Appends up to `want` bytes of `file` from `offset` to `buffer`, with one system call; says how
/// many, 0 at the end of the file.
///
/// # Errors
/// What the system says; the buffer is as before.
pub fn append_at(file: impl AsFd, offset: u64, want: usize, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    buffer.reserve(want);
    let room = &mut buffer.spare_capacity_mut()[..want];
    let (read, _) = rustix::io::pread(file, room, offset)?;
    let filled = read.len();
    let length = buffer.len() + filled;
    // SAFETY: the system call initialised the `filled` bytes behind the old length, and `filled` is
    // at most `want`, for which capacity was reserved.
    unsafe { buffer.set_len(length) };
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn bytes_are_appended_up_to_the_end_of_the_file() {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(b"0123456789").expect("written");
        let mut buffer = b"ab".to_vec();
        assert_eq!(append_at(&file, 3, 4, &mut buffer), Ok(4));
        assert_eq!(buffer, b"ab3456");
        assert_eq!(append_at(&file, 8, 100, &mut buffer), Ok(2));
        assert_eq!(append_at(&file, 10, 100, &mut buffer), Ok(0));
        assert_eq!(buffer, b"ab345689");
    }
}
