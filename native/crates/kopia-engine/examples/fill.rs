//! Fills a new repository for `bench/care.py` and `bench/mass.py`.
//!
//! `fill REPO [NAME=VALUE]…`; the names are those of `kopia_testing::filling::Plan` (`spread=1` for yes), the password
//! is `KOPIA_PASSWORD`, the owner `bench@here`.

use kopia_engine::Result;
use kopia_engine::blob::Storage;
use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::clock::SystemClock;
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_testing::filling::{Plan, fill};
use std::collections::HashMap;
use std::sync::Arc;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [place, rest @ ..] = arguments.as_slice() else {
        return Err("usage: fill REPO [NAME=VALUE]…".into());
    };
    let given: HashMap<&str, &str> = rest.iter().filter_map(|option| option.split_once('=')).collect();
    let number = |name: &str, default: u64| given.get(name).map_or(Ok(default), |value| value.parse());
    let plan = Plan {
        files: number("files", 1000)?,
        unused: number("unused", 0)?,
        directory: number("directory", 1000)?.max(1),
        flush: number("flush", 0)?,
        bytes: number("bytes", 1000)?.max(16),
        spread: number("spread", 0)? > 0,
    };
    let repository = create(place, &std::env::var("KOPIA_PASSWORD")?)?;
    fill(&repository, &plan)?;
    Ok(())
}

fn create(place: &str, password: &str) -> Result<Arc<Repository>> {
    let storage: Arc<dyn Storage> = Arc::new(FilesystemStorage::initialize(&FilesystemOptions::new(place))?);
    let options = CreateOptions { owner: Some("bench@here".into()), ..CreateOptions::default() };
    Repository::create(Arc::clone(&storage), password, &options, Arc::new(SystemClock))?;
    let (username, hostname) = ("bench".to_owned(), "here".to_owned());
    let memory_limit_bytes = Some(1 << 30);
    Repository::open(
        storage,
        password,
        OpenOptions { username, hostname, memory_limit_bytes, ..OpenOptions::default() },
    )
}
