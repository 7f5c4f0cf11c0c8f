//! The real Kopia beside this engine, on one repository in a temporary directory.
//!
//! Needs the pinned binary (`tests/programs.py` builds it); without it the tests say so and pass,
//! except in CI, where that is an error.

use super::{PASSWORD, create_in, open};
use kopia_engine::blob::Storage;
use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::progress::Progress;
use kopia_engine::repository::{CreateOptions, Repository};
use kopia_engine::sync_to::{SyncToOptions, sync_to};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

const PINNED: &str = "kopia-0.23.1";

fn pinned() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?;
    let entries = std::fs::read_dir(cache.join("kopia-data-mover/bin")).ok();
    let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let name = |path: &PathBuf| path.file_name()?.to_str().map(str::to_owned);
    let found = paths.filter(|path| name(path).is_some_and(|name| name.starts_with(PINNED))).max();
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no pinned kopia: run tests/programs.py");
        eprintln!("SKIPPED: no pinned kopia in {}: run tests/programs.py", cache.display());
    }
    found
}

/// A repository made here, and kopia connected to it.
pub struct RealKopia {
    directory: TempDir,
    binary: PathBuf,
}

impl RealKopia {
    /// `None` without the pinned binary. `user` and `host` are kopia's.
    pub fn new(options: &CreateOptions, user: &str, host: &str) -> Option<Self> {
        Self::with(options.format_version, user, host, &|storage| create_in(storage, options))
    }

    /// A copy of the repository in `original`, and kopia connected to it as `tester@here`.
    pub fn on_copy_of(original: &dyn Storage, format_version: u32) -> Option<Self> {
        Self::with(format_version, "tester", "here", &|storage| {
            let options = SyncToOptions::default();
            sync_to(original, storage.as_ref(), &options, &Progress::default()).expect("copied");
        })
    }

    fn with(format_version: u32, user: &str, host: &str, make: &dyn Fn(&Arc<dyn Storage>)) -> Option<Self> {
        let kopia = Self { binary: pinned()?, directory: TempDir::new().expect("temporary directory") };
        // Format 1 has another default of sharding in Kopia's own command.
        let shards = (format_version == 1).then(|| vec![3, 3]);
        let place = FilesystemOptions { shards, ..FilesystemOptions::new(kopia.repository()) };
        let storage: Arc<dyn Storage> = Arc::new(FilesystemStorage::initialize(&place).expect("directory"));
        make(&storage);
        let root = kopia.repository();
        let place = ["repository", "connect", "filesystem", "--path", root.to_str().expect("UTF-8")];
        let identity = ["--override-username", user, "--override-hostname", host];
        kopia.run_remembering(&[&place[..], &identity].concat(), Stdio::null());
        Some(kopia)
    }

    /// A path beside the repository.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn repository(&self) -> PathBuf {
        self.beside("repository")
    }

    /// This engine, on the same repository.
    pub fn open(&self) -> Arc<Repository> {
        let storage = FilesystemStorage::open(&FilesystemOptions::new(self.repository())).expect("directory");
        open(&(Arc::new(storage) as Arc<dyn Storage>))
    }

    /// Runs kopia without the listings that it remembers for half a minute.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, Stdio::null())
    }

    /// As `run`, with something to read.
    pub fn run_with(&self, arguments: &[&str], stdin: impl Into<Stdio>) -> String {
        self.run_remembering(&["cache", "clear"], Stdio::null());
        self.run_remembering(arguments, stdin)
    }

    fn run_remembering(&self, arguments: &[&str], stdin: impl Into<Stdio>) -> String {
        let home: &Path = self.directory.path();
        let done = Command::new(&self.binary)
            .args(arguments)
            .env("KOPIA_PASSWORD", PASSWORD)
            .env("KOPIA_CHECK_FOR_UPDATES", "false")
            .env("KOPIA_CONFIG_PATH", home.join("repository.config"))
            .env("KOPIA_CACHE_DIRECTORY", home.join("cache"))
            .env("KOPIA_LOG_DIR", home.join("log"))
            .stdin(stdin)
            .output()
            .expect("kopia runs");
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "kopia {arguments:?}: {error}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}
