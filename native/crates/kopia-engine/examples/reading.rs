//! A small driver of what reads a repository, for profiling and for comparing with `kopia` by hand.
//!
//! `reading restore REPO ID[/PATH] TARGET [NAME=VALUE]…`, `reading ls|cat|tar REPO ID[/PATH]`,
//! `reading diff REPO ID ID`, `reading verify REPO ID|all|contents [percent=100]`; the password is `KOPIA_PASSWORD`.
//! Options: `parallel`, `memory` (bytes), `overwrite=always|skip|never`, `sparse=false`, `sync=true`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::cancel::CancelToken;
use kopia_engine::progress::Progress;
use kopia_engine::repository::{OpenOptions, Repository};
use kopia_engine::restore::{Overwrite, RestoreOptions, RestoreSource, RestoreTarget, restore};
use kopia_engine::tree;
use kopia_engine::verify::{VerifyOptions, verify_contents, verify_snapshots};
use kopia_format::ManifestId;
use std::sync::Arc;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [command, path, id, rest @ ..] = arguments.as_slice() else {
        return Err("usage: reading restore|ls|cat|tar|diff REPO ID …".into());
    };
    let started = Instant::now();
    let storage = Arc::new(FilesystemStorage::open(&FilesystemOptions::new(*path))?);
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let repository = Repository::open(storage, &std::env::var("KOPIA_PASSWORD")?, options)?;
    let opened = started.elapsed().as_secs_f64();
    // The peak without the key derivation is what is looked at.
    std::fs::write("/proc/self/clear_refs", "5").ok();
    match *command {
        "restore" => {
            let [target, rest @ ..] = rest else { return Err("restore needs a target".into()) };
            run_restore(&repository, id, RestoreTarget::Path((*target).into()), rest)?;
        }
        "tar" => run_restore(&repository, id, RestoreTarget::Tar(&mut std::io::stdout()), rest)?,
        "cat" => run_restore(&repository, id, RestoreTarget::Stream(&mut std::io::stdout()), rest)?,
        "verify" => run_verify(&repository, id, rest)?,
        "ls" => list(&repository, id)?,
        "diff" => differences(&repository, id, rest.first().ok_or("diff needs two IDs")?)?,
        other => return Err(format!("unknown command {other}").into()),
    }
    let total = started.elapsed().as_secs_f64();
    eprintln!("{total:.3} s, {:.3} s without opening", total - opened);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| eprintln!("{line}"));
    Ok(())
}

fn run_restore(
    repository: &Repository,
    id: &str,
    target: RestoreTarget<'_>,
    rest: &[&str],
) -> Result<(), Failure> {
    let mut options = RestoreOptions::default();
    for (name, value) in rest.iter().filter_map(|option| option.split_once('=')) {
        match name {
            "parallel" => options.parallelism = Some(value.parse()?),
            "memory" => options.memory_budget_bytes = value.parse()?,
            "sparse" => options.sparse = value.parse()?,
            "sync" => options.sync = value.parse()?,
            "delete" => options.delete_extra = value.parse()?,
            "overwrite" => {
                options.overwrite = match value {
                    "skip" => Overwrite::Skip,
                    "never" => Overwrite::Never,
                    _ => Overwrite::Always,
                };
            }
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let what = RestoreSource::Named(id.to_owned());
    let result = restore(repository, what, target, &options, &Progress::default(), &CancelToken::new())?;
    eprintln!("{result:?}");
    Ok(())
}

fn run_verify(repository: &Repository, id: &str, rest: &[&str]) -> Result<(), Failure> {
    let percent = rest.iter().find_map(|option| option.strip_prefix("percent="));
    let percent = percent.map_or(Ok(100.0), str::parse)?;
    let options = VerifyOptions { percent, ..VerifyOptions::default() };
    let (progress, cancel) = (Progress::default(), CancelToken::new());
    let result = match id {
        "contents" => verify_contents(repository, &options, &progress, &cancel)?,
        "all" => verify_snapshots(repository, &[], &options, &progress, &cancel)?,
        id => verify_snapshots(repository, &[ManifestId::new(id)], &options, &progress, &cancel)?,
    };
    eprintln!("{result:?}");
    Ok(())
}

fn list(repository: &Repository, id: &str) -> Result<(), Failure> {
    let root = tree::resolve(repository, id)?;
    tree::walk(repository.contents(), root, &mut |path, entry| {
        println!("{:?} {:o} {} {}", entry.entry_type, entry.mode, entry.size, String::from_utf8_lossy(path));
        Ok(())
    })?;
    Ok(())
}

fn differences(repository: &Repository, before: &str, after: &str) -> Result<(), Failure> {
    let (before, after) = (tree::resolve(repository, before)?, tree::resolve(repository, after)?);
    tree::diff(repository.contents(), before, after, &mut |difference| {
        println!("{:?} {}", difference.change, String::from_utf8_lossy(&difference.path));
        Ok(())
    })?;
    Ok(())
}
