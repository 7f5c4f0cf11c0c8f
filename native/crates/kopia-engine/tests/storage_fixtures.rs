//! Repositories that Kopia wrote: the filesystem storage lists exactly their blobs.
#![allow(clippy::unwrap_used)]

use kopia_engine::blob::Storage;
use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_testing::unpack::{repository_names, unpack_repository, vectors_directory};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Name, length and time of each blob, from the paths alone: what `find -name '*.f'` shows.
fn blobs_on_disk(root: &Path, name: &str, out: &mut BTreeMap<String, (u64, i64)>) {
    for entry in fs::read_dir(root).unwrap() {
        let (path, found) = {
            let entry = entry.unwrap();
            (entry.path(), entry.metadata().unwrap())
        };
        let joined = format!("{name}{}", path.file_name().unwrap().to_str().unwrap());
        if found.is_dir() {
            blobs_on_disk(&path, &joined, out);
        } else if let Some(id) = joined.strip_suffix(".f") {
            out.insert(id.to_owned(), (found.len(), found.mtime()));
        }
    }
}

fn check(name: &str) {
    let repository = unpack_repository(name);
    let storage = FilesystemStorage::open(&FilesystemOptions::new(&repository.root)).unwrap();
    let mut on_disk = BTreeMap::new();
    blobs_on_disk(&repository.root, "", &mut on_disk);
    let mut listed = BTreeMap::new();
    storage
        .list("", &mut |blob| {
            assert_eq!(storage.metadata(&blob.id)?, blob, "{name}: found again by its name");
            listed.insert(blob.id.to_string(), (blob.length, blob.timestamp.seconds));
            Ok(())
        })
        .unwrap();
    assert_eq!(listed, on_disk, "{name}");
    assert_eq!(packs_of(&listed), expected_packs(name), "{name}");
}

fn packs_of(listed: &BTreeMap<String, (u64, i64)>) -> BTreeSet<(String, u64)> {
    let is_pack = |id: &str| id.starts_with('p') || id.starts_with('q');
    listed.iter().filter(|(id, _)| is_pack(id)).map(|(id, (length, _))| (id.clone(), *length)).collect()
}

fn expected_packs(name: &str) -> BTreeSet<(String, u64)> {
    let path = vectors_directory().join("repos").join(format!("{name}.expected.json"));
    let expected: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let packs = expected["packs"].as_object().unwrap();
    packs.iter().map(|(id, pack)| (id.clone(), pack["size"].as_u64().unwrap())).collect()
}

#[test]
fn each_fixture_lists_exactly_its_blobs() {
    let names = repository_names();
    assert!(names.len() >= 24, "fixtures are missing: {names:?}");
    for name in names {
        check(&name);
    }
}
