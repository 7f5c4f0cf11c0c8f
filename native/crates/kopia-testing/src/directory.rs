//! Temporary directories for tests.

use std::path::Path;
use tempfile::TempDir;

/// A temporary directory in memory where the machine has one (`/dev/shm`), else in the usual
/// place: ten thousand small files are a second there, and a minute on some disks.
///
/// # Panics
/// If no directory can be made.
pub fn temporary_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(directory) = TempDir::new_in(memory)
    {
        return directory;
    }
    TempDir::new().expect("temporary directory")
}
