//! Repositories of the test vectors, and small tools that several tests need.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use kopia_engine::blob::Storage;
use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::repository::{OpenOptions, Repository};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// The vectors in this repository.
pub const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors");

/// A repository of the vectors, unpacked, with what is known of it.
pub struct VectorRepository {
    pub name: String,
    pub expected: Value,
    directory: TempDir,
}

impl VectorRepository {
    pub fn unpack(name: &str) -> Self {
        let json = std::fs::read(format!("{VECTORS}/repos/{name}.expected.json")).expect("expected.json");
        let directory = TempDir::new().expect("temporary directory");
        let file = File::open(format!("{VECTORS}/repos/{name}.tar")).expect("tar");
        let mut archive = tar::Archive::new(file);
        archive.set_preserve_mtime(true);
        archive.unpack(directory.path()).expect("unpacked");
        let expected = serde_json::from_slice(&json).expect("JSON");
        Self { name: name.into(), expected, directory }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }

    pub fn password(&self) -> &str {
        self.expected["password"].as_str().expect("password")
    }

    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(FilesystemStorage::open(&FilesystemOptions::new(self.root())).expect("storage"))
    }

    pub fn open(&self, options: OpenOptions) -> Arc<Repository> {
        Repository::open(self.storage(), self.password(), options).expect("repository opens")
    }
}

/// Names of all repositories of the vectors.
pub fn vector_names() -> Vec<String> {
    let entries = std::fs::read_dir(format!("{VECTORS}/repos")).expect("vectors");
    let files = entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"));
    let mut names: Vec<_> = files.filter_map(|file| file.strip_suffix(".tar").map(str::to_owned)).collect();
    names.sort();
    names
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    kopia_format::ids::encode_hex(digest.as_ref())
}

pub mod far;
pub mod kopia;
pub mod meanwhile;
pub mod recording;
pub mod small_backups;
pub mod ticking;

use kopia_engine::blob::memory::MemoryStorage;
use kopia_engine::clock::SystemClock;
use kopia_engine::repository::CreateOptions;
use kopia_format::BlobId;
use kopia_format::compression::CompressorId;
use kopia_testing::data::splitmix;

pub const PASSWORD: &str = "test-password";
pub fn create_options() -> CreateOptions {
    CreateOptions { owner: Some("tester@here".into()), ..CreateOptions::default() }
}

pub fn create_in(storage: &Arc<dyn Storage>, options: &CreateOptions) {
    Repository::create(Arc::clone(storage), PASSWORD, options, Arc::new(SystemClock)).expect("created");
}

pub fn open(storage: &Arc<dyn Storage>) -> Arc<Repository> {
    Repository::open(Arc::clone(storage), PASSWORD, OpenOptions::default()).expect("opened")
}

/// A repository in memory with Kopia's defaults.
pub fn memory_repository() -> (Arc<dyn Storage>, Arc<Repository>) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create_in(&storage, &create_options());
    let repository = open(&storage);
    (storage, repository)
}

/// Names of the blobs that begin with `prefix`.
pub fn blobs(storage: &Arc<dyn Storage>, prefix: &str) -> Vec<BlobId> {
    let mut found = Vec::new();
    let each = &mut |blob: kopia_engine::blob::BlobMetadata| {
        found.push(blob.id);
        Ok(())
    };
    storage.list(prefix, each).expect("listed");
    found
}

/// Contents to store: prefix, bytes, compressor. Sizes from nothing to more than a write buffer.
pub fn samples() -> Vec<(Option<u8>, Vec<u8>, CompressorId)> {
    let mut all = Vec::new();
    let lengths = [0, 1, 15, 16, 100, 4000, 4096, 70_000, 131_072, 600_000, 3_000_000];
    for (seed, length) in (0u8..).zip(lengths) {
        let short = length.min(50_000);
        all.push((None, splitmix(seed.into(), length), CompressorId::NONE));
        all.push((None, vec![b'a' + seed; length], CompressorId::ZSTD_FASTEST));
        all.push((Some(b'k'), splitmix(u64::from(seed) + 100, short), CompressorId::ZSTD_FASTEST));
        all.push((Some(b'x'), vec![b'A' + seed; short], CompressorId::ZSTD_FASTEST));
    }
    all
}
