//! The workers of an upload and what they share.
//!
//! Workers are alike: each takes the most urgent task under one short lock and works without it.
//! Urgency is what keeps memory small and lanes full: store what is hashed, hash what fills the
//! lanes, read what fits in free buffers, walk on. A worker never waits while chunks lie ready;
//! it hashes fewer side by side then, and puts them back when there is something better to do.

use super::directory::{Node, Opening, Unit};
use super::entry::{Destination, Outcome, Totals};
use super::hashing::{self, Chunk, HashedChunk};
use super::large_file::LargeFile;
use super::options::UploadOptions;
use super::output::DirectoryStoring;
use super::pool::Pool;
use super::previous::{PreviousCursor, object_of};
use super::queue::{Task, Work};
use super::racy::Racy;
use super::rules::Rules;
use super::stats::Stats;
use super::storing::Link;
use super::stretch::{Advance, Stretch, Surroundings};
use crate::cancel::CancelToken;
use crate::content::manager::not_found;
use crate::content::{ContentManager, WriteScratch};
use crate::error::{Error, ErrorKind, Result};
use crate::object::for_each_content;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::snapshots::SOURCE_DELETED;
use crate::source::metadata::{Metadata, describe_io};
use hashbrown::HashMap;
use kopia_format::compression::{Compressor, CompressorId};
use kopia_format::snapshot::{DirectoryEntry, EntryError};
use kopia_format::splitter::SplitterAlgorithm;
use kopia_format::{ContentId, ObjectId};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Buffers that must go on circulating when chunks are kept for comparison.
const BUFFERS_CIRCULATING_MIN: usize = 2;
/// Errors that are kept for the caller.
const ERRORS_MAX: usize = 10_000;

/// Buffers of one worker.
#[derive(Default)]
pub(super) struct Scratch {
    /// For storing contents.
    pub(super) write: WriteScratch,
    /// For object-level compression.
    pub(super) compressor: Compressor,
    /// Buffers of small files.
    pub(super) small: Vec<Vec<u8>>,
}

/// Everything the workers share.
pub(super) struct Upload<'a> {
    /// The repository.
    pub(super) repository: &'a Repository,
    /// Its contents.
    pub(super) contents: &'a ContentManager,
    /// What was asked for.
    pub(super) options: &'a UploadOptions,
    /// Counters.
    pub(super) progress: &'a Progress,
    /// Counters of the manifest.
    pub(super) stats: Stats,
    cancel: &'a CancelToken,
    failed_fast: AtomicBool,
    source_deleted: AtomicBool,
    /// The repository's splitter.
    pub(super) splitter: SplitterAlgorithm,
    /// Compression belongs to objects, not contents (index version 1).
    pub(super) object_compression: bool,
    /// What waits to be done.
    pub(super) work: Mutex<Work<'a>>,
    changed: Condvar,
    over: Condvar,
    /// Inodes with several names that were read.
    pub(super) links: Mutex<HashMap<(u64, u64), Link>>,
    /// When files may have been looked at in the tick in which they changed.
    pub(super) racy: Racy,
    /// Whole chunks of zeros by length and compressor.
    pub(super) zeros: Mutex<HashMap<(u64, CompressorId), ObjectId>>,
    /// Whether it was looked which packs are gone, and how many are.
    lost_packs: Mutex<Option<usize>>,
    /// The root that is backed up, if it is a directory.
    pub(super) volume: OnceLock<OwnedFd>,
    /// Compressors of policies that were told to be unusable.
    pub(super) degraded: Mutex<BTreeSet<String>>,
    errors: Mutex<Vec<EntryError>>,
    root: Mutex<Option<DirectoryEntry>>,
    fatal: Mutex<Option<Error>>,
}

impl<'a> Upload<'a> {
    /// An upload that has nothing to do yet.
    pub(super) fn new(
        repository: &'a Repository,
        options: &'a UploadOptions,
        progress: &'a Progress,
        cancel: &'a CancelToken,
        racy: Racy,
    ) -> Result<Self> {
        let config = repository.config();
        let splitter = SplitterAlgorithm::parse(&config.splitter)?;
        let buffers_bytes = options.memory_budget_bytes.min(repository.contents().upload_buffers_bytes_max());
        let pool = Pool::new(buffers_bytes, splitter.chunk_bytes_max());
        Ok(Self {
            repository,
            contents: repository.contents(),
            options,
            progress,
            stats: Stats::default(),
            cancel,
            failed_fast: AtomicBool::new(false),
            source_deleted: AtomicBool::new(false),
            splitter,
            object_compression: config.index_version < 2,
            work: Mutex::new(Work::new(pool)),
            changed: Condvar::new(),
            over: Condvar::new(),
            links: Mutex::default(),
            racy,
            zeros: Mutex::default(),
            lost_packs: Mutex::default(),
            volume: OnceLock::new(),
            degraded: Mutex::default(),
            errors: Mutex::default(),
            root: Mutex::default(),
            fatal: Mutex::default(),
        })
    }

    /// Works until the root is finished or something fails for good.
    pub(super) fn work(&self, scratch: &mut Scratch) {
        while let Some(task) = self.next_task() {
            let done = self.perform(task, scratch);
            if let Err(error) = done {
                self.abort(error);
            }
            self.work.lock().active -= 1;
            self.changed.notify_all();
        }
    }
    fn abort(&self, error: Error) {
        self.fatal.lock().get_or_insert(error);
        self.end();
    }
    /// The root entry, once `work` has returned in all workers.
    pub(super) fn into_root(self) -> Result<(DirectoryEntry, Stats, Vec<EntryError>)> {
        if let Some(error) = self.fatal.into_inner() {
            return Err(error);
        }
        let stalled = || Error::new(ErrorKind::Internal, "the upload ended without a root entry");
        Ok((self.root.into_inner().ok_or_else(stalled)?, self.stats, self.errors.into_inner()))
    }
    /// Takes the root entry: nothing is left to do.
    pub(super) fn finish(&self, entry: DirectoryEntry) {
        *self.root.lock() = Some(entry);
        self.end();
    }
    fn end(&self) {
        self.work.lock().finished = true;
        self.changed.notify_all();
        self.over.notify_all();
    }
    /// Whether the work is over.
    pub(super) fn is_finished(&self) -> bool {
        self.work.lock().finished
    }
    /// Waits until the work is over, at most so long.
    pub(super) fn wait(&self, time: std::time::Duration) {
        let mut work = self.work.lock();
        if !work.finished {
            self.over.wait_for(&mut work, time);
        }
    }

    fn next_task(&self) -> Option<Task<'a>> {
        let mut work = self.work.lock();
        loop {
            if work.finished {
                return None;
            }
            if let Some(task) = work.pick(self.lanes()) {
                work.active += 1;
                return Some(task);
            }
            if work.active == 0 {
                // Nothing to do and nobody who could bring something: a gap was never settled.
                work.finished = true;
                self.over.notify_all();
                return None;
            }
            self.changed.wait(&mut work);
        }
    }

    fn perform(&self, task: Task<'a>, scratch: &mut Scratch) -> Result<()> {
        let (start, progress) = (Instant::now(), self.progress);
        let (time, done) = match task {
            Task::Store(chunk) => (&progress.nanoseconds_storing, self.store(chunk, scratch)),
            Task::Hash(chunks) => {
                self.hash(chunks);
                (&progress.nanoseconds_hashing, Ok(()))
            }
            Task::Read(stretch, buffer) => {
                (&progress.nanoseconds_reading, self.read(stretch, buffer, scratch))
            }
            // Counts its own parts.
            Task::Walk(node) => return self.walk(&node, scratch),
        };
        Progress::add_time(time, start);
        done
    }

    fn lanes(&self) -> usize {
        self.contents.hasher().preferred_lanes().max(1)
    }

    fn hash(&self, mut lanes: Vec<Chunk<'a>>) {
        let preferred = self.lanes();
        while !lanes.is_empty() {
            let finished = hashing::advance(self.contents.hasher(), &mut lanes);
            let notify = !finished.is_empty();
            let mut work = self.work.lock();
            work.hashed.extend(finished);
            while lanes.len() < preferred {
                let Some(chunk) = work.ready.pop() else { break };
                lanes.push(chunk);
            }
            if lanes.len() < preferred && work.has_better_than_few_lanes() {
                work.ready.append(&mut lanes);
            }
            drop(work);
            if notify {
                self.changed.notify_all();
            }
        }
    }

    fn read(&self, mut stretch: Stretch<'a>, buffer: Vec<u8>, scratch: &mut Scratch) -> Result<()> {
        let part = Arc::clone(&stretch.part);
        if self.is_canceled() || part.file.is_settled() {
            stretch.drop_reference(self);
            self.work.lock().pool.give(buffer);
            return self.settle_file(&part.file, Outcome::Skipped, scratch);
        }
        match stretch.advance(buffer, self) {
            Ok(Advance::Chunk { data, piece }) => {
                let (data, compressed) = self.compress_object(data, part.file.storing.compressor, scratch)?;
                let mut work = self.work.lock();
                work.ready.push(Chunk::new(part, piece, data, compressed));
                work.stretches.push_front(stretch);
                Ok(())
            }
            Ok(Advance::Paused(buffer)) => {
                let mut work = self.work.lock();
                work.pool.give(buffer);
                work.stretches.push_front(stretch);
                Ok(())
            }
            Ok(Advance::End(buffer)) => {
                self.work.lock().pool.give(buffer);
                if part.end() { self.finish_part(&part, scratch) } else { Ok(()) }
            }
            Err(failure) => {
                stretch.drop_reference(self);
                self.work.lock().pool.give(failure.buffer);
                let outcome = self.file_failure(&part.file, &failure.error);
                self.settle_file(&part.file, outcome, scratch)
            }
        }
    }

    fn file_failure(&self, file: &LargeFile<'a>, error: &std::io::Error) -> Outcome {
        if self.is_canceled() {
            return Outcome::Skipped;
        }
        let Destination::Directory(place) = &file.destination else {
            let error =
                Error::new(ErrorKind::Filesystem, format!("cannot read the source: {}", describe_io(error)));
            self.abort(error);
            return Outcome::Skipped;
        };
        let ignored = place.node.rules.ignores_file_errors();
        Outcome::Failed(self.failure(place.node.path_of(&file.name), describe_io(error), ignored))
    }

    fn store(&self, chunk: HashedChunk<'a>, scratch: &mut Scratch) -> Result<()> {
        let HashedChunk { part, piece, mut data, compressed, hash } = chunk;
        let compressor = part.file.storing.compressor;
        let object = self.put(hash, &mut data, compressed, compressor, scratch);
        if !compressed {
            self.work.lock().pool.give(data);
            self.changed.notify_all();
        }
        if part.resolve(piece, object?) { self.finish_part(&part, scratch) } else { Ok(()) }
    }

    fn walk(&self, node: &Arc<Node<'a>>, scratch: &mut Scratch) -> Result<()> {
        let unit = node.claim(self.is_canceled())?;
        if node.is_all_claimed() {
            self.work.lock().nodes.retain(|other| !Arc::ptr_eq(node, other));
        }
        match unit {
            Unit::Nothing if self.is_canceled() => {
                let next = node.settle_nothing(self, scratch)?;
                self.deliver_all(next, scratch)
            }
            Unit::Nothing => Ok(()),
            Unit::Run(run) => self.process_run(node, &run, scratch),
            Unit::Directory { index, segment, previous } => {
                let start = Instant::now();
                let child = node.open_child(self, index, segment, previous, scratch)?;
                Progress::add_time(&self.progress.nanoseconds_scanning, start);
                child.map_or(Ok(()), |child| self.add_node(child, scratch))
            }
        }
    }

    /// Takes a directory up; an empty one is finished at once.
    pub(super) fn add_node(&self, node: Arc<Node<'a>>, scratch: &mut Scratch) -> Result<()> {
        if node.is_all_claimed() {
            let next = node.settle_nothing(self, scratch)?;
            return self.deliver_all(next, scratch);
        }
        self.work.lock().nodes.push(node);
        Ok(())
    }
    /// Opens the root directory.
    pub(super) fn add_root(
        &self,
        handle: std::os::fd::OwnedFd,
        metadata: Metadata,
        opening: Opening<'a>,
        scratch: &mut Scratch,
    ) -> Result<Arc<Node<'a>>> {
        let failed = |error: String| Error::new(ErrorKind::Filesystem, error);
        let node = Node::open(self, handle, metadata, opening)?.map_err(failed)?;
        self.add_node(Arc::clone(&node), scratch)?;
        Ok(node)
    }
    /// Queues stretches to read.
    pub(super) fn add_stretches(&self, stretches: impl IntoIterator<Item = Stretch<'a>>) {
        self.work.lock().stretches.extend(stretches);
        self.changed.notify_all();
    }

    /// Delivers an outcome, and what follows from it up the tree.
    pub(super) fn deliver(
        &self,
        destination: Destination<'a>,
        outcome: Outcome,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.deliver_all(Some((destination, outcome)), scratch)
    }
    /// As `deliver`, for what settling something gave.
    pub(super) fn deliver_all(
        &self,
        mut next: Option<(Destination<'a>, Outcome)>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        while let Some((destination, outcome)) = next.take() {
            if let Destination::Directory(place) = destination {
                next = place.node.settle(self, &place, outcome, scratch)?;
            }
        }
        Ok(())
    }

    /// Stops the upload as a cancellation does.
    pub(super) fn stop(&self) {
        self.failed_fast.store(true, Ordering::Relaxed);
    }
    /// Whether to read an unchanged file nevertheless.
    pub(super) fn is_forced_to_hash(&self) -> bool {
        let percent = self.options.force_hash_percent;
        percent > 0.0 && {
            let mut bytes = [0u8; 4];
            // Without random numbers every file is read: slower, never wrong.
            let random = getrandom::fill(&mut bytes).map_or(0, |()| u32::from_le_bytes(bytes));
            100.0 * f64::from(random) / 4_294_967_296.0 < percent
        }
    }
    /// Whether the upload is to stop.
    pub(super) fn is_canceled(&self) -> bool {
        self.failed_fast.load(Ordering::Relaxed) || self.cancel.is_canceled()
    }
    /// As recorded in directories and the manifest.
    pub(super) fn incomplete_reason(&self) -> &'static str {
        match self.is_canceled() {
            true => "canceled",
            false if self.source_deleted.load(Ordering::Relaxed) => SOURCE_DELETED,
            false => "",
        }
    }
    /// Notes that the source, or a directory of it, was deleted while it was read.
    pub(super) fn note_source_deleted(&self) {
        self.source_deleted.store(true, Ordering::Relaxed);
    }
    /// Counts an entry that could not be read; gives its share of the summary.
    pub(super) fn failure(&self, path: Vec<u8>, error: String, ignored: bool) -> Totals {
        self.stats.count_error(ignored);
        Progress::add(&self.progress.entries_failed, 1);
        let mut errors = self.errors.lock();
        if errors.len() < ERRORS_MAX {
            errors.push(EntryError { path: path.clone(), error: error.clone() });
        }
        if self.options.fail_fast && !ignored {
            self.failed_fast.store(true, Ordering::Relaxed);
        }
        let mut totals = Totals::default();
        totals.add_failure(path, error, ignored);
        totals
    }
    /// Counts a finished directory.
    pub(super) fn count_directory(&self) {
        Progress::add(&self.progress.directories_done, 1);
    }

    /// How directory objects under these rules are stored.
    pub(super) fn directory_storing(&self, rules: &Rules) -> DirectoryStoring<'a> {
        let metadata_compressor = self.metadata_compressor(rules);
        let compressor = self.options.directory_compressor.unwrap_or(metadata_compressor);
        DirectoryStoring { contents: self.contents, splitter: self.splitter, compressor, metadata_compressor }
    }
    /// Looks, once, which packs are gone: what was in them is not known then, and is stored again.
    pub(super) fn find_lost_packs(&self) -> Result<()> {
        let mut known = self.lost_packs.lock();
        if known.is_none() {
            let lost = self.contents.find_lost_packs()?;
            if lost > 0 {
                tracing::warn!(
                    lost,
                    "packs are gone: what this backup reads of them is stored again; see repo repair"
                );
            }
            *known = Some(lost);
        }
        Ok(())
    }
    /// The root that is backed up; `directory` if it is that itself.
    pub(super) fn volume_or<'b>(&'b self, directory: BorrowedFd<'b>) -> BorrowedFd<'b> {
        self.volume.get().map_or(directory, OwnedFd::as_fd)
    }
    /// Packs that are known to be gone.
    pub(super) fn lost_packs(&self) -> usize {
        self.lost_packs.lock().unwrap_or(0)
    }
    /// Whether all contents of a parent's entry are there, as far as is known.
    pub(super) fn is_stored(&self, raw: &[u8]) -> bool {
        if !self.contents.has_lost_packs() {
            return true;
        }
        let Some(object) = object_of(raw) else { return false };
        let each = &mut |content: ContentId| match self.contents.contains_live(&content)? {
            true => Ok(()),
            false => Err(not_found(&content)),
        };
        for_each_content(self.contents, object, each).is_ok()
    }
    /// A parent's directory that is not there has company.
    fn note_unread(&self, object: &ObjectId, error: &Error) {
        tracing::warn!(%object, %error, "cannot read the parent's directory");
        if matches!(error.kind, ErrorKind::BlobNotFound | ErrorKind::ContentNotFound)
            && let Err(error) = self.find_lost_packs()
        {
            tracing::warn!(%error, "cannot look which packs are gone");
        }
    }
    /// Cursors over parent directories; one that cannot be read is left out: its files are read again.
    pub(super) fn open_previous(&self, objects: &[ObjectId]) -> Vec<PreviousCursor<'a>> {
        let open = |object: &ObjectId| {
            PreviousCursor::open(self.contents, *object)
                .inspect_err(|error| self.note_unread(object, error))
                .ok()
        };
        objects.iter().filter_map(open).collect()
    }
}

impl Surroundings for Upload<'_> {
    fn lend_buffer(&self) -> Option<Vec<u8>> {
        let mut work = self.work.lock();
        if work.lent + BUFFERS_CIRCULATING_MIN >= work.pool.count() {
            return None;
        }
        let buffer = work.pool.take()?;
        work.lent += 1;
        Some(buffer)
    }
    fn return_buffer(&self, buffer: Vec<u8>) {
        let mut work = self.work.lock();
        work.lent -= 1;
        work.pool.give(buffer);
    }
    fn count_read(&self, bytes: u64) {
        Progress::add(&self.progress.bytes_read, bytes);
        self.stats.count_read(bytes);
    }
    fn is_canceled(&self) -> bool {
        self.is_canceled()
    }
}
