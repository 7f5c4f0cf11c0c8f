//! Copying snapshots into another repository: objects are read here, and cut, hashed and sealed anew there.
//! Source: Kopia `cli/command_snapshot_migrate.go`.
//!
//! Hashes of repositories have different keys, so nothing tells what the target has before it was read; but whatever
//! it has is not stored twice, and an object that several snapshots share is read once. The target may be cut
//! differently: the tree is the same, IDs are others. `sync_to` copies a whole repository as it is.

use crate::cancel::CancelToken;
use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Labels;
use crate::object::{ObjectWriter, ObjectWriterOptions, extents, read_direct};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::{snapshots, tree};
use kopia_format::compression::CompressorId;
use kopia_format::snapshot::{
    DirectoryEntry, DirectorySummary, DirectoryWriter, EntryType, SnapshotManifest, SourceInfo,
};
use kopia_format::{ContentId, ManifestId, ObjectId};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Entries of a directory that are copied together.
const CHUNK_ENTRIES: usize = 256;
/// Fewer entries than this are not worth another thread.
const SHARED_ENTRIES_MIN: usize = 4;
/// Objects whose copies are remembered, directories and others apart: about 100 bytes each.
const REMEMBERED_MAX: usize = 128 << 10;
/// Bytes of a directory gathered before they are written.
const DIRECTORY_BYTES: usize = 128 << 10;
/// Prefix of contents that hold directories.
const DIRECTORY_PREFIX: u8 = b'k';

/// What to copy.
#[derive(Debug, Clone, Default)]
pub struct SnapshotCopyOptions {
    /// These snapshots; all if empty.
    pub snapshots: Vec<ManifestId>,
    /// Of all snapshots, incomplete ones too.
    pub incomplete: bool,
    /// Change nothing: say which would be copied.
    pub dry_run: bool,
    /// Asks for the end; a later call goes on.
    pub cancel: CancelToken,
}

/// A snapshot and its copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopiedSnapshot {
    /// `user@host:path`.
    pub source: String,
    /// In the repository that was read.
    pub id: String,
    /// In the target; empty in a dry run.
    pub copy: String,
}

/// What was found and done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotCopyReport {
    /// Copied, or to be copied.
    pub copied: Vec<CopiedSnapshot>,
    /// Snapshots that the target has already: the same source, start and end.
    pub present: u64,
    /// Files, symlinks and directories that were read; those shared by snapshots once.
    pub objects: u64,
    /// Their plain bytes.
    pub bytes: u64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Copies snapshots that `target` does not have; each is visible there as soon as it is whole.
///
/// # Errors
/// `InvalidArgument` if both are the same repository; `ManifestNotFound` for an unknown snapshot; those of reading
/// and storing contents.
pub fn copy(
    source: &Repository,
    target: &Repository,
    options: &SnapshotCopyOptions,
    progress: &Progress,
) -> Result<SnapshotCopyReport> {
    if source.unique_id() == target.unique_id() {
        let message = "source and target are the same repository, or copies of each other";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let wanted = wanted(source, options)?;
    let present = snapshots::list(target, None, &Labels::new())?;
    let (there, missing): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|one| present.iter().any(|other| is_same(one, other)));
    let mut report = SnapshotCopyReport {
        present: there.len() as u64,
        dry_run: options.dry_run,
        ..SnapshotCopyReport::default()
    };
    progress.bytes_total.store(missing.iter().map(total_bytes).sum(), Ordering::Relaxed);
    let copying = Copying::new(source.contents(), target.contents(), options, progress);
    for snapshot in missing {
        let SourceInfo { host, user_name, path } = &snapshot.source;
        let (name, id) = (format!("{user_name}@{host}:{path}"), snapshot.id.clone());
        let copy = if options.dry_run { None } else { Some(copying.snapshot(target, snapshot)?) };
        let text = |id: Option<ManifestId>| id.map_or_else(String::new, |id| id.to_string());
        report.copied.push(CopiedSnapshot { source: name, id: text(id), copy: text(copy) });
    }
    report.objects = copying.objects.load(Ordering::Relaxed) as u64;
    report.bytes = copying.bytes.load(Ordering::Relaxed) as u64;
    Ok(report)
}

fn wanted(source: &Repository, options: &SnapshotCopyOptions) -> Result<Vec<SnapshotManifest>> {
    if !options.snapshots.is_empty() {
        return options.snapshots.iter().map(|id| snapshots::load(source, id)).collect();
    }
    let mut all = snapshots::list(source, None, &Labels::new())?;
    all.retain(|snapshot| options.incomplete || snapshot.incomplete_reason.is_empty());
    Ok(all)
}

fn is_same(one: &SnapshotManifest, other: &SnapshotManifest) -> bool {
    one.source == other.source && one.start_time == other.start_time && one.end_time == other.end_time
}

fn total_bytes(snapshot: &SnapshotManifest) -> u64 {
    let root = snapshot.root_entry.as_ref();
    let summary = root.and_then(|root| root.summary.as_ref());
    let bytes = summary.map_or_else(|| root.map_or(0, |root| root.size), |summary| summary.total_file_size);
    u64::try_from(bytes).unwrap_or(0)
}

/// Source object → its copy.
type Copies = Mutex<HashMap<ObjectId, ObjectId>>;

struct Copying<'a> {
    source: &'a ContentManager,
    target: &'a ContentManager,
    options: &'a SnapshotCopyOptions,
    progress: &'a Progress,
    directories: Copies,
    others: Copies,
    /// Threads that may still be started.
    idle: AtomicUsize,
    objects: AtomicUsize,
    bytes: AtomicUsize,
}

impl<'a> Copying<'a> {
    fn new(
        source: &'a ContentManager,
        target: &'a ContentManager,
        options: &'a SnapshotCopyOptions,
        progress: &'a Progress,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            source,
            target,
            options,
            progress,
            directories: Copies::default(),
            others: Copies::default(),
            idle: AtomicUsize::new(cores - 1),
            objects: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    /// The copy's manifest ID. Nothing of it is visible if this fails.
    fn snapshot(&self, target: &Repository, snapshot: SnapshotManifest) -> Result<ManifestId> {
        let id = snapshot.id.as_ref().map_or_else(String::new, ToString::to_string);
        let root = snapshot.root_entry.clone().ok_or_else(|| {
            Error::new(ErrorKind::Corrupted, format!("snapshot {id} has no root")).with("snapshot", &id)
        })?;
        let copied = self.deep(&root).map_err(|error| error.while_doing(format!("snapshot {id}")))?;
        let root_entry = Some(DirectoryEntry { object: Some(copied), ..root });
        let copy = snapshots::save(target, &SnapshotManifest { id: None, root_entry, ..snapshot })?;
        target.flush()?;
        Ok(copy)
    }

    /// [`Self::entry`] on a stack that is large enough for any tree.
    fn deep(&self, root: &DirectoryEntry) -> Result<ObjectId> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(tree::WALK_STACK_BYTES);
            let started = thread.spawn_scoped(scope, || self.entry(root, &mut Vec::new()));
            let failed = |_| Error::new(ErrorKind::Internal, "cannot run a thread for the copy");
            started.map_err(failed)?.join().map_err(|_| failed(std::io::Error::other("it panicked")))?
        })
    }

    fn entry(&self, entry: &DirectoryEntry, buffer: &mut Vec<u8>) -> Result<ObjectId> {
        self.options.cancel.check()?;
        let object = tree::object_of(entry)?;
        let is_directory = entry.entry_type == EntryType::Directory;
        let known = if is_directory { &self.directories } else { &self.others };
        if let Some(copy) = known.lock().get(&object) {
            return Ok(*copy);
        }
        let copy = if is_directory { self.directory(object)? } else { self.bytes_of(object, buffer)? };
        self.objects.fetch_add(1, Ordering::Relaxed);
        Progress::add(&self.progress.files_done, 1);
        let mut known = known.lock();
        if known.len() < REMEMBERED_MAX {
            known.insert(object, copy);
        }
        Ok(copy)
    }

    /// Copies a file, or the target of a symlink.
    fn bytes_of(&self, object: ObjectId, buffer: &mut Vec<u8>) -> Result<ObjectId> {
        let mut writer = None;
        extents(self.source, object, &mut |extent| {
            self.options.cancel.check()?;
            read_direct(self.source, extent.object, buffer)?;
            let compressor = match extent.object.compressed {
                true => CompressorId::ZSTD_FASTEST,
                false => self.compressor_of(&extent.object.content)?,
            };
            writer.get_or_insert_with(|| self.writer(None, compressor)).write(buffer)?;
            self.bytes.fetch_add(buffer.len(), Ordering::Relaxed);
            Progress::add(&self.progress.bytes_uploaded, buffer.len() as u64);
            Ok(())
        })?;
        writer.unwrap_or_else(|| self.writer(None, CompressorId::NONE)).finish()
    }

    /// What is compressed here is compressed there, by the same compressor where it can be written.
    fn compressor_of(&self, content: &ContentId) -> Result<CompressorId> {
        let found = self.source.info(content)?.map_or(CompressorId::NONE, |info| info.compressor);
        let writable = found == CompressorId::NONE || CompressorId::writable().contains(&found);
        Ok(if writable { found } else { CompressorId::ZSTD_FASTEST })
    }

    fn writer(&self, prefix: Option<u8>, compressor: CompressorId) -> ObjectWriter<'_> {
        let metadata_compressor = CompressorId::ZSTD_FASTEST;
        let options = ObjectWriterOptions { prefix, splitter: None, compressor, metadata_compressor };
        ObjectWriter::new(self.target, options)
    }

    fn directory(&self, object: ObjectId) -> Result<ObjectId> {
        let compressor = self.compressor_of(&object.content)?;
        let mut json = Vec::new();
        let mut directory = DirectoryCopy {
            copying: self,
            chunk: Vec::new(),
            encoder: DirectoryWriter::new(&mut json),
            json,
            writer: self.writer(Some(DIRECTORY_PREFIX), compressor),
        };
        let summary = tree::for_each_entry(self.source, object, &mut |entry| directory.add(entry))?;
        directory.finish(&summary.unwrap_or_default())
    }

    /// Copies entries with the help of threads that have nothing to do; their copies in order.
    fn entries(&self, chunk: &[DirectoryEntry]) -> Result<Vec<ObjectId>> {
        let next = AtomicUsize::new(0);
        let copies = Mutex::new(vec![None; chunk.len()]);
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let work = || {
            let mut buffer = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(entry) = chunk.get(index) else { return };
                match self.entry(entry, &mut buffer) {
                    Ok(copy) => copies.lock()[index] = Some(copy),
                    Err(error) => {
                        let name = String::from_utf8_lossy(&entry.name).into_owned();
                        failed.lock().get_or_insert_with(|| error.while_doing(name));
                        next.store(chunk.len(), Ordering::Relaxed);
                        return;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            while chunk.len() >= SHARED_ENTRIES_MIN && self.take_idle() {
                let thread = std::thread::Builder::new().stack_size(tree::WALK_STACK_BYTES);
                let helped = thread.spawn_scoped(scope, || {
                    work();
                    self.idle.fetch_add(1, Ordering::Relaxed);
                });
                if helped.is_err() {
                    break; // without it, it only takes longer
                }
            }
            work();
        });
        match failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(copies.into_inner().into_iter().flatten().collect()),
        }
    }

    fn take_idle(&self) -> bool {
        let one_less = |idle: usize| idle.checked_sub(1);
        self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// A directory that is being copied, a chunk of entries at a time.
struct DirectoryCopy<'a> {
    copying: &'a Copying<'a>,
    chunk: Vec<DirectoryEntry>,
    encoder: DirectoryWriter,
    json: Vec<u8>,
    writer: ObjectWriter<'a>,
}

impl DirectoryCopy<'_> {
    fn add(&mut self, entry: DirectoryEntry) -> Result<()> {
        self.chunk.push(entry);
        if self.chunk.len() < CHUNK_ENTRIES { Ok(()) } else { self.copy_chunk() }
    }

    fn copy_chunk(&mut self) -> Result<()> {
        let copies = self.copying.entries(&self.chunk)?;
        for (entry, copy) in self.chunk.drain(..).zip(copies) {
            self.encoder.entry(&DirectoryEntry { object: Some(copy), ..entry }, &mut self.json);
        }
        if self.json.len() >= DIRECTORY_BYTES {
            self.writer.write(&self.json)?;
            self.json.clear();
        }
        Ok(())
    }

    fn finish(mut self, summary: &DirectorySummary) -> Result<ObjectId> {
        self.copy_chunk()?;
        self.encoder.finish(summary, &mut self.json);
        self.writer.write(&self.json)?;
        self.writer.finish()
    }
}
