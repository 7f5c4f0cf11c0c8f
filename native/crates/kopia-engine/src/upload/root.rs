//! One upload from beginning to end: parents, root, workers, manifest.

use super::checkpoint::Root;
use super::completion::VIRTUAL_MODE;
use super::directory::Opening;
use super::engine::{Scratch, Upload};
use super::entry::Destination;
use super::input::Input;
use super::large_file::{LargeFile, Part};
use super::options::{Parents, UploadOptions, UploadResult};
use super::racy::Racy;
use super::rules::Rules;
use super::stretch::Stretch;
use crate::cancel::CancelToken;
use crate::content::parallel::workers;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::snapshots;
use crate::source::Source;
use crate::source::metadata::{Metadata, describe_io};
use kopia_format::ObjectId;
use kopia_format::Timestamp;
use kopia_format::snapshot::{EntryType, SnapshotManifest, SnapshotStats, SourceInfo};
use parking_lot::Mutex;
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

/// Uploads `source` and saves its manifest.
///
/// Entries that cannot be read do not fail the upload (unless `fail_fast`): they are recorded and
/// told in the result. After cancellation the manifest is saved as incomplete ("canceled"), so that
/// the next upload goes on from it.
///
/// # Errors
/// `Filesystem` if the root cannot be read, and whatever the repository says. What was stored by then
/// stays stored.
pub fn upload(
    repository: &Repository,
    source: Source,
    options: &UploadOptions,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<UploadResult> {
    let info = source_info(repository, &source, options)?;
    let parents = find_parents(repository, &info, options)?;
    let rules = Rules::of_source(repository, &info)?;
    let ignore_identical = options.ignore_identical.unwrap_or_else(|| rules.ignores_identical());
    let parallelism = workers(options.parallelism.or_else(|| rules.parallelism()), processors());
    let seen = options.ahead.as_ref().map(|ahead| ahead.stop());
    let prototype = prototype(repository, info, seen);
    let upload = Upload::new(repository, options, progress, cancel, Racy::begin(&parents))?;
    // Who reads everything wants everything stored, whatever indexes say of packs that are gone.
    if options.parents == Parents::None || options.force_hash_percent > 0.0 {
        upload.find_lost_packs()?;
    }
    let root = start(&upload, source, &parents, rules, &mut Scratch::default())?;
    if options.save_manifest {
        repository.contents().expect_contents()?;
    }
    run(&upload, &root, &prototype, parallelism)?;
    drop(root);
    let incomplete_reason = upload.incomplete_reason().to_owned();
    let lost_pack_count = upload.lost_packs() as u64;
    let (entry, stats, errors) = upload.into_root()?;
    let end_time = repository.clock().now();
    let mut manifest = SnapshotManifest {
        end_time,
        stats: stats.of_manifest(),
        incomplete_reason,
        root_entry: Some(entry),
        ..finished(prototype, options)
    };
    override_start(&mut manifest, options.start_time);
    let identical = ignore_identical
        && parents.first().is_some_and(|parent| root_object(parent) == root_object(&manifest));
    let saved = options.save_manifest && !identical;
    let time = Instant::now();
    if saved {
        manifest.id = Some(snapshots::save(repository, &manifest)?);
        snapshots::apply_retention(repository, &manifest.source, false)?;
    }
    if options.save_manifest {
        repository.flush()?;
    }
    Progress::add_time(&progress.nanoseconds_flushing, time);
    let parents = parents.into_iter().filter_map(|parent| parent.id).collect();
    Ok(UploadResult {
        manifest,
        saved,
        parents,
        errors,
        vanished_count: stats.listed().1,
        not_utf8_count: stats.not_utf8(),
        lost_pack_count,
        incremental: stats.incremental(),
    })
}

/// The prototype with what only the last manifest has.
fn finished(prototype: SnapshotManifest, options: &UploadOptions) -> SnapshotManifest {
    SnapshotManifest {
        description: options.description.clone(),
        tags: options.tags.clone(),
        pins: options.pins.clone(),
        ..prototype
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs the workers, and the checkpoints beside them.
fn run<'a>(
    upload: &Upload<'a>,
    root: &Root<'a>,
    prototype: &SnapshotManifest,
    parallelism: usize,
) -> Result<()> {
    std::thread::scope(|scope| {
        let checkpoints = scope.spawn(|| {
            upload.checkpoint_regularly(root, prototype).inspect_err(|error| {
                tracing::error!(%error, "cannot save a checkpoint");
                upload.stop();
            })
        });
        for _ in 1..parallelism {
            scope.spawn(|| upload.work(&mut Scratch::default()));
        }
        upload.work(&mut Scratch::default());
        checkpoints.join().map_err(|_| Error::new(ErrorKind::Internal, "the checkpoint thread panicked"))?
    })
}

/// Moves start and end to a given start.
fn override_start(manifest: &mut SnapshotManifest, start: Option<Timestamp>) {
    if let Some(start) = start {
        let (from, to) = (manifest.start_time, manifest.end_time);
        let nanoseconds = (to.seconds - from.seconds) * 1_000_000_000 + i64::from(to.nanoseconds)
            - i64::from(from.nanoseconds);
        let end = i64::from(start.nanoseconds) + nanoseconds;
        manifest.start_time = start;
        manifest.end_time = Timestamp {
            seconds: start.seconds + end.div_euclid(1_000_000_000),
            nanoseconds: end.rem_euclid(1_000_000_000) as u32,
        };
    }
}

fn root_object(manifest: &SnapshotManifest) -> Option<ObjectId> {
    manifest.root_entry.as_ref()?.object
}

/// The recorded source.
fn source_info(repository: &Repository, source: &Source, options: &UploadOptions) -> Result<SourceInfo> {
    if let Some(info) = &options.source {
        return Ok(info.clone());
    }
    let path = match source {
        Source::Path(path) | Source::BlockDevice(path) => absolute(path)?,
        Source::Stream { directory_name, .. } => PathBuf::from(std::ffi::OsStr::from_bytes(directory_name)),
    };
    Ok(SourceInfo {
        host: repository.hostname().to_owned(),
        user_name: repository.username().to_owned(),
        path: path.to_string_lossy().into_owned(),
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
    // `absolute` keeps a trailing slash, Kopia does not.
    Ok(absolute.components().collect())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Filesystem,
        format!("cannot read the source {}: {}", path.display(), describe_io(error)),
    )
}

fn find_parents(
    repository: &Repository,
    info: &SourceInfo,
    options: &UploadOptions,
) -> Result<Vec<SnapshotManifest>> {
    match &options.parents {
        Parents::None => Ok(Vec::new()),
        Parents::Automatic => snapshots::find_previous(repository, info, None),
        Parents::Explicit(ids) => ids.iter().map(|id| snapshots::load(repository, id)).collect(),
    }
}

/// A manifest that began now, or when the source was `seen` first.
fn prototype(repository: &Repository, source: SourceInfo, seen: Option<Timestamp>) -> SnapshotManifest {
    let start_time = seen.unwrap_or_else(|| repository.clock().now());
    SnapshotManifest {
        id: None,
        source,
        description: String::new(),
        start_time,
        end_time: start_time,
        stats: SnapshotStats::default(),
        incomplete_reason: String::new(),
        root_entry: None,
        tags: std::collections::BTreeMap::new(),
        pins: Vec::new(),
    }
}

/// Opens the root and queues the first work.
fn start<'a>(
    upload: &Upload<'a>,
    source: Source,
    parents: &[SnapshotManifest],
    rules: Rules,
    scratch: &mut Scratch,
) -> Result<Root<'a>> {
    match source {
        Source::Path(path) => start_path(upload, &path, parents, rules, scratch),
        Source::Stream { directory_name, file_name, reader } => {
            let input = Input::Stream { reader, tail: Vec::new() };
            Ok(start_virtual(upload, directory_name, file_name, input, &rules))
        }
        Source::BlockDevice(path) => {
            let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
            let name = absolute(&path)?.as_os_str().as_bytes().to_vec();
            let holes = super::input::Holes::none();
            let input = Input::File { file: Arc::new(file), offset: 0, end: None, holes };
            Ok(start_virtual(upload, name.clone(), name, input, &rules))
        }
    }
}

fn start_path<'a>(
    upload: &Upload<'a>,
    path: &Path,
    parents: &[SnapshotManifest],
    rules: Rules,
    scratch: &mut Scratch,
) -> Result<Root<'a>> {
    let path = absolute(path)?;
    let failed = |error: rustix::io::Errno| unreadable(&path, &error.into());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let handle = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed)?;
    let metadata = Metadata::of_handle(handle.as_fd()).map_err(failed)?;
    let name = path.file_name().map_or_else(|| b"/".to_vec(), |name| name.as_bytes().to_vec());
    match metadata.file_type {
        FileType::Directory => {
            let is_directory = |parent: &SnapshotManifest| {
                let entry = parent.root_entry.as_ref()?;
                (entry.entry_type == EntryType::Directory).then_some(entry.object)?
            };
            let previous = parents.iter().filter_map(is_directory).collect();
            let opening = Opening { place: None, name, path: Vec::new(), previous, rules };
            let volume = handle.try_clone().map_err(|error| unreadable(&path, &error))?;
            upload.volume.get_or_init(|| volume);
            upload.add_root(handle, metadata, opening, scratch).map(Root::Directory)
        }
        FileType::RegularFile => Ok(start_file(upload, name, metadata, File::from(handle), &rules)),
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{} is neither a directory nor a file", path.display()),
        )),
    }
}

fn start_file<'a>(
    upload: &Upload<'a>,
    name: Vec<u8>,
    metadata: Metadata,
    file: File,
    rules: &Rules,
) -> Root<'a> {
    upload.count_scanned(std::iter::once(metadata.size));
    let storing = upload.storing(rules, &name, metadata.size);
    let above = upload.parallel_above(rules, &name);
    let destination = Destination::Root { directory_name: None };
    let stretches = upload.stretches_of(destination, name, metadata, storing, above, file);
    let parts = stretches.iter().map(|stretch| Arc::clone(&stretch.part)).collect();
    upload.add_stretches(stretches);
    Root::File(parts)
}

fn start_virtual<'a>(
    upload: &Upload<'a>,
    directory_name: Vec<u8>,
    name: Vec<u8>,
    input: Input,
    rules: &Rules,
) -> Root<'a> {
    upload.stats.count_entered();
    upload.stats.count_started(1);
    Progress::add(&upload.progress.files_scanned, 1);
    let metadata = Metadata {
        file_type: FileType::RegularFile,
        mode: VIRTUAL_MODE,
        size: 0,
        modified: upload.repository.clock().now(),
        changed: Timestamp::default(),
        uid: 0,
        gid: 0,
        device: 0,
        inode: 0,
        links: 1,
    };
    let storing = upload.storing(rules, &name, 0);
    let file = Arc::new(LargeFile {
        destination: Destination::Root { directory_name: Some(directory_name) },
        name,
        metadata,
        storing,
        parts: Mutex::new(vec![None]),
        parts_left: AtomicUsize::new(1),
        settled: AtomicBool::new(false),
    });
    let part = Part::new(file, 0);
    upload.add_stretches([Stretch::new(Arc::clone(&part), input, storing.splitter)]);
    Root::File(vec![part])
}
