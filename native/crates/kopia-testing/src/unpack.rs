//! Fixture repositories out of their tar files.

use crate::directory::temporary_directory;
use std::fs::File;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Directory of the test vectors.
pub fn vectors_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/vectors")
}

/// A fixture repository on disk, removed when dropped.
#[derive(Debug)]
pub struct Unpacked {
    /// Root of the repository's storage.
    pub root: PathBuf,
    _directory: TempDir,
}

/// Unpacks `repos/<name>.tar` of the vectors, modification times included: they are part of the
/// protocol.
///
/// # Panics
/// If the fixture is missing or cannot be unpacked.
pub fn unpack_repository(name: &str) -> Unpacked {
    let directory = temporary_directory();
    unpack(&vectors_directory().join("repos").join(format!("{name}.tar")), directory.path());
    Unpacked { root: directory.path().join(name), _directory: directory }
}

/// Unpacks a tar file into `target`, with modes and modification times but not owners.
///
/// # Panics
/// If it cannot be unpacked.
pub fn unpack(tar: &Path, target: &Path) {
    let file = File::open(tar).unwrap_or_else(|error| panic!("open {}: {error}", tar.display()));
    let mut archive = tar::Archive::new(file);
    archive.set_preserve_mtime(true);
    archive.set_preserve_permissions(true);
    archive.unpack(target).unwrap_or_else(|error| panic!("unpack {}: {error}", tar.display()));
}

/// Names of all fixture repositories, sorted.
///
/// # Panics
/// If the fixtures are missing.
pub fn repository_names() -> Vec<String> {
    let directory = vectors_directory().join("repos");
    let entries =
        std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("list {}: {error}", directory.display()));
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".tar").map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn times_are_those_of_the_archive() {
        let unpacked = unpack_repository("v3-default");
        let tar = File::open(vectors_directory().join("repos/v3-default.tar")).unwrap();
        let mut compared_count = 0;
        for entry in tar::Archive::new(tar).entries().unwrap() {
            let entry = entry.unwrap();
            let path = unpacked.root.parent().unwrap().join(entry.path().unwrap());
            if entry.header().entry_type().is_file() {
                let seconds = std::fs::metadata(&path).unwrap().mtime();
                assert_eq!(seconds as u64, entry.header().mtime().unwrap(), "{}", path.display());
                compared_count += 1;
            }
        }
        assert!(compared_count > 10);
    }
}
