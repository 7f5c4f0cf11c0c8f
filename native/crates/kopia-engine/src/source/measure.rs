//! How much a tree holds, counted beside its first upload: what a display of progress calls the total.
//!
//! Names are read one by one and never kept, so the largest directory costs no memory. It is an estimate:
//! what ignore rules exclude is counted too, and what cannot be read is not.

use super::metadata::{Metadata, open_directory};
use crate::cancel::CancelToken;
use crate::progress::Progress;
use rustix::fs::{Dir, FileType, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Directories within each other; each holds a handle. Deeper ones are not counted.
const DEPTH_MAX: usize = 64;

/// Counts the files below `path` and their bytes into `files_total` and `bytes_total`, unless canceled before.
pub fn measure(path: &Path, progress: &Progress, cancel: &CancelToken) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(path, flags, Mode::empty()) else { return };
    let mut measured = Measured { files: 0, bytes: 0, cancel };
    if measured.count(root, 0).is_some() {
        progress.files_total.store(measured.files, Ordering::Relaxed);
        progress.bytes_total.store(measured.bytes, Ordering::Relaxed);
    }
}

struct Measured<'a> {
    files: u64,
    bytes: u64,
    cancel: &'a CancelToken,
}

impl Measured<'_> {
    /// Counts a directory and those below it; `None` once canceled.
    fn count(&mut self, directory: OwnedFd, depth: usize) -> Option<()> {
        let Ok(mut entries) = Dir::new(directory) else { return Some(()) };
        while let Some(Ok(entry)) = entries.read() {
            if self.cancel.is_canceled() {
                return None;
            }
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(handle) = entries.fd() else { return Some(()) };
            match entry.file_type() {
                FileType::Directory if depth < DEPTH_MAX => {
                    if let Ok(child) = open_directory(handle, name) {
                        self.count(child, depth + 1)?;
                    }
                }
                FileType::RegularFile | FileType::Unknown => {
                    let metadata = Metadata::of_name(handle, name).ok();
                    let file = metadata.filter(|file| file.file_type == FileType::RegularFile);
                    self.files += u64::from(file.is_some());
                    self.bytes += file.map_or(0, |file| file.size);
                }
                _ => {}
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn measured(path: &Path, cancel: &CancelToken) -> (u64, u64) {
        let progress = Progress::default();
        measure(path, &progress, cancel);
        let read = progress.read();
        (read.files_total, read.bytes_total)
    }

    #[test]
    fn files_of_all_directories_are_counted_and_links_are_not() {
        let place = tempfile::tempdir().expect("directory");
        fs::create_dir_all(place.path().join("a/b")).expect("made");
        for (name, length) in [("one", 5), ("a/two", 7), ("a/b/three", 0)] {
            fs::write(place.path().join(name), vec![b'x'; length]).expect("written");
        }
        std::os::unix::fs::symlink("one", place.path().join("link")).expect("linked");
        std::os::unix::fs::symlink("/", place.path().join("a/root")).expect("linked");
        assert_eq!(measured(place.path(), &CancelToken::default()), (3, 12));
    }

    #[test]
    fn nothing_is_told_of_what_was_not_counted_to_its_end() {
        let place = tempfile::tempdir().expect("directory");
        fs::write(place.path().join("file"), b"x").expect("written");
        let canceled = CancelToken::default();
        canceled.cancel();
        assert_eq!(measured(place.path(), &canceled), (0, 0));
        assert_eq!(measured(Path::new("/nonexistent"), &CancelToken::default()), (0, 0));
    }
}
