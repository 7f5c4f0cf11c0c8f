//! A small driver of the engine, for profiling and for comparing with `kopia` by hand.
//!
//! `engine create REPO`, `engine backup REPO PATH [NAME=VALUE]…`, `engine list REPO`; the password
//! is `KOPIA_PASSWORD`. Options of a backup: `parallel`, `above` (multipart threshold in bytes),
//! `memory` (bytes), `parents=none`, `checkpoint` (seconds), `compression` (a name), `stdin` (file name).
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use kopia_engine::blob::Storage;
use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::cancel::CancelToken;
use kopia_engine::clock::SystemClock;
use kopia_engine::progress::Progress;
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_engine::snapshots;
use kopia_engine::source::Source;
use kopia_engine::upload::{Parents, UploadOptions, upload};
use kopia_format::compression::CompressorId;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, repository, rest @ ..] = arguments.as_slice() else {
        return Err("usage: engine create|backup|list REPO …".into());
    };
    let password = std::env::var("KOPIA_PASSWORD")?;
    match command.as_str() {
        "create" => create(repository, &password, rest),
        "backup" => backup(repository, &password, rest),
        "list" => list(repository, &password),
        other => Err(format!("unknown command {other}").into()),
    }
}

fn open(path: &str, password: &str) -> Result<Arc<Repository>, Failure> {
    let storage: Arc<dyn Storage> = Arc::new(FilesystemStorage::open(&FilesystemOptions::new(path))?);
    let (username, hostname) = ("me".to_owned(), "here".to_owned());
    Ok(Repository::open(storage, password, OpenOptions { username, hostname, ..OpenOptions::default() })?)
}

fn create(path: &str, password: &str, rest: &[String]) -> Result<(), Failure> {
    let storage: Arc<dyn Storage> = Arc::new(FilesystemStorage::initialize(&FilesystemOptions::new(path))?);
    let mut options = CreateOptions::default();
    for (name, value) in rest.iter().filter_map(|option| option.split_once('=')) {
        match name {
            "splitter" => options.splitter = value.into(),
            "hash" => options.hash = value.into(),
            "format" => options.format_version = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(Repository::create(storage, password, &options, Arc::new(SystemClock))?)
}

fn options(rest: &[String]) -> Result<(UploadOptions, Option<String>), Failure> {
    let mut options = UploadOptions::default();
    let mut stdin = None;
    for (name, value) in rest.iter().filter_map(|option| option.split_once('=')) {
        match name {
            "parallel" => options.parallelism = Some(value.parse()?),
            "above" => options.parallel_upload_above_bytes = Some(value.parse()?),
            "memory" => options.memory_budget_bytes = value.parse()?,
            "parents" => options.parents = Parents::None,
            "checkpoint" => options.checkpoint_interval = Duration::from_secs_f64(value.parse()?),
            "compression" => options.compressor = Some(CompressorId::parse(value)?),
            "stdin" => stdin = Some(value.to_owned()),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok((options, stdin))
}

fn backup(path: &str, password: &str, rest: &[String]) -> Result<(), Failure> {
    let [source, rest @ ..] = rest else { return Err("backup needs a path".into()) };
    let (options, stdin) = options(rest)?;
    let started = Instant::now();
    let repository = open(path, password)?;
    let opened = started.elapsed();
    let source = match stdin {
        Some(name) => Source::Stream {
            directory_name: source.clone().into_bytes(),
            file_name: name.into_bytes(),
            reader: Box::new(std::io::stdin()),
        },
        None => Source::Path(source.into()),
    };
    let result = upload(&repository, source, &options, &Progress::default(), &CancelToken::new())?;
    let total = started.elapsed();
    let root = result.manifest.root_entry.as_ref();
    println!(
        "root {} in {:.3} s, {:.3} s without opening",
        root.and_then(|entry| entry.object).map_or_else(String::new, |object| object.to_string()),
        total.as_secs_f64(),
        (total - opened).as_secs_f64(),
    );
    println!("{:?}\n{:?}", result.manifest.stats, result.incremental);
    for error in result.errors.iter().take(10) {
        println!("failed: {}: {}", String::from_utf8_lossy(&error.path), error.error);
    }
    print_memory();
    Ok(())
}

fn print_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("RssAnon")) {
        println!("{line}");
    }
}

fn list(path: &str, password: &str) -> Result<(), Failure> {
    let repository = open(path, password)?;
    for snapshot in snapshots::list(&repository, None, &std::collections::BTreeMap::new())? {
        let root = snapshot.root_entry.and_then(|entry| entry.object);
        println!("{:?} {} {root:?} {}", snapshot.id, snapshot.source.path, snapshot.incomplete_reason);
    }
    Ok(())
}
