//! The real Kopia reads, verifies, extends and recovers what is written here.
//!
//! Needs the pinned binary (`tests/programs.py` builds it); without it the tests say so and pass,
//! except in CI, where that is an error.

mod support;

use kopia_engine::blob::Storage;
use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::content::WriteScratch;
use kopia_engine::manifest::Labels;
use kopia_engine::object::{self, ObjectWriter, ObjectWriterOptions};
use kopia_engine::repository::{CreateOptions, Repository};
use kopia_format::compression::CompressorId;
use kopia_testing::data::splitmix;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use support::{PASSWORD, create_in, create_options, open, samples};
use tempfile::TempDir;

fn kopia() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?;
    let entries = std::fs::read_dir(cache.join("kopia-data-mover/bin")).ok();
    let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let name = |path: &PathBuf| path.file_name()?.to_str().map(str::to_owned);
    let found = paths.filter(|path| name(path).is_some_and(|name| name.starts_with("kopia-0.22.3"))).max();
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no pinned kopia: run tests/programs.py");
        eprintln!("SKIPPED: no pinned kopia in {}: run tests/programs.py", cache.display());
    }
    found
}

/// A repository directory, and kopia connected to it as another user.
struct Connected {
    directory: TempDir,
    kopia: PathBuf,
}

impl Connected {
    fn new(options: &CreateOptions) -> Option<Self> {
        let kopia = kopia()?;
        let directory = TempDir::new().expect("temporary directory");
        let connected = Self { directory, kopia };
        // Format 1 has another default of sharding in Kopia's own command.
        let shards = (options.format_version == 1).then(|| vec![3, 3]);
        let place = FilesystemOptions { shards, ..FilesystemOptions::new(connected.root()) };
        let storage: Arc<dyn Storage> = Arc::new(FilesystemStorage::initialize(&place).expect("directory"));
        create_in(&storage, options);
        let root = connected.root();
        let identity = ["--override-username", "tester", "--override-hostname", "here"];
        let place = ["repository", "connect", "filesystem", "--path", root.to_str().expect("UTF-8")];
        connected.run(&[&place[..], &identity].concat());
        Some(connected)
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    fn open(&self) -> Arc<Repository> {
        let storage = FilesystemStorage::open(&FilesystemOptions::new(self.root())).expect("directory");
        open(&(Arc::new(storage) as Arc<dyn Storage>))
    }

    /// Runs kopia without the listings that it remembers for half a minute.
    fn run(&self, arguments: &[&str]) -> String {
        if self.directory.path().join("repository.config").exists() {
            self.run_remembering(&["cache", "clear"]);
        }
        self.run_remembering(arguments)
    }

    fn run_remembering(&self, arguments: &[&str]) -> String {
        let home: &Path = self.directory.path();
        let done = Command::new(&self.kopia)
            .args(arguments)
            .env("KOPIA_PASSWORD", PASSWORD)
            .env("KOPIA_CHECK_FOR_UPDATES", "false")
            .env("KOPIA_CONFIG_PATH", home.join("repository.config"))
            .env("KOPIA_CACHE_DIRECTORY", home.join("cache"))
            .env("KOPIA_LOG_DIR", home.join("log"))
            .output()
            .expect("kopia runs");
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "kopia {arguments:?}: {error}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

fn combinations() -> Vec<CreateOptions> {
    let (gcm, chacha) = ("AES256-GCM-HMAC-SHA256", "CHACHA20-POLY1305-HMAC-SHA256");
    let rows = [
        (1, "BLAKE2B-256-128", chacha, 0),
        (1, "HMAC-SHA3-224", gcm, 0),
        (2, "BLAKE2S-128", gcm, 5),
        (2, "HMAC-SHA224", chacha, 0),
        (3, "BLAKE3-256", chacha, 10),
        (3, "BLAKE2B-256-128", gcm, 0),
    ];
    rows.map(|(format_version, hash, encryption, ecc_overhead_percent)| CreateOptions {
        format_version,
        hash: hash.into(),
        encryption: encryption.into(),
        ecc_overhead_percent,
        ..create_options()
    })
    .into()
}

/// Writes contents of all kinds in three sessions, deletes one, leaves manifests.
fn write_everything(repository: &Repository) -> usize {
    let scratch = &mut WriteScratch::default();
    for (number, (prefix, data, compressor)) in samples().into_iter().enumerate() {
        let id = repository.contents().write(prefix, data, compressor, scratch).expect("written");
        if number % 20 == 19 {
            repository.flush().expect("flushed");
            repository.contents().delete(&id).expect("deleted");
        }
    }
    let labels: Labels = [("type".into(), "test".into()), ("number".into(), "1".into())].into();
    repository.manifests().put(labels, br#"{"hello":"world"}"#).expect("put");
    repository.flush().expect("flushed");
    let mut live = 0;
    repository
        .contents()
        .for_each(false, &mut |_| {
            live += 1;
            Ok(())
        })
        .expect("listed");
    live
}

fn listed_by_kopia(connected: &Connected) -> BTreeMap<String, String> {
    let lines = connected.run(&["content", "list", "--deleted", "--long"]);
    let line = |line: &str| line.split_once(' ').map(|(id, rest)| (id.to_owned(), rest.trim().to_owned()));
    lines.lines().filter_map(line).collect()
}

fn listed_here(repository: &Repository) -> Vec<String> {
    let mut ids = Vec::new();
    repository
        .contents()
        .for_each(true, &mut |info| {
            ids.push(info.id.to_string());
            Ok(())
        })
        .expect("listed");
    ids.sort();
    ids
}

#[test]
fn kopia_verifies_every_content_of_every_format() {
    for options in combinations() {
        let Some(connected) = Connected::new(&options) else { return };
        let repository = connected.open();
        write_everything(&repository);
        connected.run(&["content", "verify", "--full"]);
        let by_kopia: Vec<_> = listed_by_kopia(&connected).into_keys().collect();
        assert_eq!(by_kopia, listed_here(&repository), "{options:?}");
        let manifests = connected.run(&["manifest", "list"]);
        assert!(manifests.contains("type:test") && manifests.contains("type:maintenance"), "{manifests}");
    }
}

#[test]
fn kopia_shows_objects_as_they_were_written() {
    for format_version in [1, 3] {
        let Some(connected) = Connected::new(&CreateOptions { format_version, ..create_options() }) else {
            return;
        };
        let repository = connected.open();
        let text = "all the same words ".repeat(60_000);
        let compressor = CompressorId::ZSTD_FASTEST;
        let splitter =
            kopia_format::splitter::SplitterAlgorithm::parse("DYNAMIC-128K-BUZHASH").expect("splitter");
        let options = ObjectWriterOptions {
            prefix: None,
            splitter: Some(splitter),
            compressor,
            metadata_compressor: compressor,
        };
        let mut writer = ObjectWriter::new(repository.contents(), options);
        writer.write(text.as_bytes()).expect("written");
        let object = writer.finish().expect("finished");
        let joined =
            object::concatenate(repository.contents(), &[object, object], compressor).expect("joined");
        repository.flush().expect("flushed");
        assert_eq!(connected.run(&["show", &object.to_string()]), text);
        assert_eq!(connected.run(&["show", &joined.to_string()]), text.repeat(2));
    }
}

#[test]
fn kopia_recovers_the_indexes_from_the_packs() {
    for options in [combinations()[0].clone(), combinations()[2].clone(), create_options()] {
        let Some(connected) = Connected::new(&options) else { return };
        let repository = connected.open();
        let scratch = &mut WriteScratch::default();
        for (prefix, data, compressor) in samples() {
            repository.contents().write(prefix, data, compressor, scratch).expect("written");
        }
        repository.flush().expect("flushed");
        let before = listed_here(&repository);
        for prefix in ["x", "n"] {
            for blob in support::blobs(repository.storage(), prefix) {
                repository.storage().delete(&blob).expect("deleted");
            }
        }
        assert_eq!(listed_here(&connected.open()), Vec::<String>::new());
        connected.run(&["index", "recover", "--commit", "--dangerous-commands=enabled"]);
        assert_eq!(listed_here(&connected.open()), before, "{options:?}");
        connected.run(&["content", "verify", "--full"]);
    }
}

#[test]
fn both_write_to_one_repository_and_see_each_other() {
    for format_version in [1, 2, 3] {
        let Some(connected) = Connected::new(&CreateOptions { format_version, ..create_options() }) else {
            return;
        };
        let source = connected.directory.path().join("source");
        std::fs::create_dir(&source).expect("directory");
        std::fs::write(source.join("file"), splitmix(5, 300_000)).expect("file");
        let repository = connected.open();
        write_everything(&repository);
        connected.run(&["snapshot", "create", source.to_str().expect("UTF-8")]);
        let id =
            kopia_format::ContentId::new(None, repository.contents().hasher().hash(&splitmix(5, 300_000)));
        let id = id.expect("content ID");
        assert!(!repository.contents().contains_live(&id).expect("looked up"));
        repository.refresh().expect("refreshed");
        let mut bytes = Vec::new();
        repository.contents().read(&id, &mut bytes).expect("read");
        assert!(bytes == splitmix(5, 300_000));
        assert_eq!(
            repository.manifests().find(&[("type".into(), "snapshot".into())].into()).expect("found").len(),
            1
        );
        connected.run(&["maintenance", "run", "--full", "--safety=none"]);
        connected.run(&["content", "verify", "--full"]);
        repository.refresh().expect("refreshed");
        repository.contents().read(&id, &mut bytes).expect("read after maintenance");
    }
}
