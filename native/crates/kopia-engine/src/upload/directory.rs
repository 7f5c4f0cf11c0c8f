//! One directory that is being uploaded: its sorted listing is handed out in runs, its object
//! grows from what comes back.
//!
//! Workers claim the next run of files or the next child directory; the parents' entries are
//! merged in at that moment, in order. Locks: `claim` before `output`; a parent's `output` before a
//! child's (checkpoints); nothing is locked while files are opened or read.

use super::engine::{Scratch, Upload};
use super::entry::{Destination, Outcome, Place, Totals};
use super::large_file::Part;
use super::output::{DirectoryStoring, Output, Segment};
use super::previous::{PreviousCursor, WholeDirectory, object_of};
use super::rules::Rules;
use super::vanished;
use crate::error::{Error, ErrorKind, Result};
use crate::source::listing::Listing;
use crate::source::metadata::{Metadata, describe, is_deleted, open_directory};
use crate::tree::LEVELS_MAX;
use kopia_format::ObjectId;
use kopia_format::snapshot::{DirectoryEntry, DirectorySummary, EntryType};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Entries of a run.
const RUN_ENTRIES: usize = 128;
/// Segments that may wait for an earlier one.
const SEGMENTS_OUTSTANDING_MAX: usize = 32;

/// A directory that is being uploaded.
pub(super) struct Node<'a> {
    /// Where its entry goes; `None` for the root.
    place: Option<Place<'a>>,
    /// Path relative to the root, without a leading slash; empty for the root.
    pub(super) path: Vec<u8>,
    /// Recorded name.
    name: Vec<u8>,
    /// Metadata as of opening.
    pub(super) metadata: Metadata,
    /// Names are opened relative to this.
    pub(super) handle: OwnedFd,
    /// Its entries.
    pub(super) listing: Listing,
    /// Policies and ignore rules in force here.
    pub(super) rules: Rules,
    /// The same directory in the parents, as far as it is held whole.
    known: Vec<WholeDirectory>,
    claim: Mutex<Claim<'a>>,
    output: Mutex<Output>,
    outstanding: AtomicUsize,
    /// Entries that were listed and gone when their turn came.
    vanished: AtomicU64,
    all_claimed: AtomicBool,
    in_progress: Mutex<InProgress<'a>>,
    final_outcome: Mutex<Option<(Vec<u8>, Totals)>>,
}

/// What was not handed out yet.
struct Claim<'a> {
    next: usize,
    previous: Vec<PreviousCursor<'a>>,
}

/// What a checkpoint looks into, by segment. Weak: nothing here keeps anything alive.
#[derive(Default)]
struct InProgress<'a> {
    directories: Vec<(u64, Weak<Node<'a>>)>,
    parts: Vec<(u64, Weak<Part<'a>>)>,
}

/// A piece of work of a directory.
pub(super) enum Unit {
    /// Entries other than directories.
    Run(Run),
    /// One child directory.
    Directory {
        /// Its place in the listing.
        index: usize,
        /// Segment that waits for it.
        segment: u64,
        /// The same directory in the parents.
        previous: Vec<ObjectId>,
    },
    /// Nothing now.
    Nothing,
}

/// Entries to process together.
pub(super) struct Run {
    /// Which entries of the listing.
    pub(super) entries: Range<usize>,
    /// Segment to fill.
    pub(super) segment: u64,
    /// Raw entries of the parents.
    raw: Vec<u8>,
    /// For each parent and entry where in `raw` it is.
    found: Vec<Range<u32>>,
}

impl Run {
    /// Raw entries of the parents with this name.
    pub(super) fn previous(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        let of_one_parent = self.found.chunks_exact(self.entries.len().max(1));
        let ranges = of_one_parent.map(move |found| &found[index - self.entries.start]);
        ranges
            .filter(|range| !range.is_empty())
            .map(|range| &self.raw[range.start as usize..range.end as usize])
    }
}

/// A directory about to be opened.
pub(super) struct Opening<'a> {
    /// Where its entry goes; `None` for the root.
    pub(super) place: Option<Place<'a>>,
    /// Recorded name.
    pub(super) name: Vec<u8>,
    /// Path relative to the root.
    pub(super) path: Vec<u8>,
    /// The same directory in the parents.
    pub(super) previous: Vec<ObjectId>,
    /// Policies in force in it, not yet its own ignore files.
    pub(super) rules: Rules,
}

impl<'a> Node<'a> {
    /// Lists an open directory. The inner error is one of the source.
    pub(super) fn open(
        upload: &Upload<'a>,
        handle: OwnedFd,
        metadata: Metadata,
        opening: Opening<'a>,
    ) -> Result<std::result::Result<Arc<Self>, String>> {
        let Opening { place, name, path, mut previous, rules } = opening;
        upload.stats.count_entered();
        let seen = upload.options.ahead.as_ref().and_then(|ahead| ahead.take(&metadata));
        let mut listing = match seen.map_or_else(|| Listing::read(handle.as_fd()), Ok) {
            Ok(listing) => listing,
            Err(error) => return Ok(Err(format!("unable to read directory: {}", describe(error)))),
        };
        let vanished = listing.vanished();
        let mut rules = rules;
        if !upload.options.disable_ignore_rules {
            match rules.enter((upload.volume_or(handle.as_fd()), handle.as_fd()), &path, &listing) {
                Ok(Some(entered)) => {
                    rules = entered;
                    upload.exclude(&mut listing, handle.as_fd(), &path, &rules);
                }
                Ok(None) => listing = Listing::default(),
                Err(error) => return Ok(Err(error)),
            }
        }
        previous.sort_unstable();
        previous.dedup();
        let previous = if listing.is_empty() { Vec::new() } else { upload.open_previous(&previous) };
        let all_claimed = AtomicBool::new(listing.is_empty());
        let mut output = Output::default();
        if listing.is_empty() {
            output.close();
        }
        Ok(Ok(Arc::new(Self {
            place,
            path,
            name,
            metadata,
            handle,
            listing,
            rules,
            known: previous.iter().filter_map(PreviousCursor::whole).cloned().collect(),
            claim: Mutex::new(Claim { next: 0, previous }),
            output: Mutex::new(output),
            outstanding: AtomicUsize::new(0),
            vanished: AtomicU64::new(vanished),
            all_claimed,
            in_progress: Mutex::default(),
            final_outcome: Mutex::default(),
        })))
    }

    /// Whether everything was handed out.
    pub(super) fn is_all_claimed(&self) -> bool {
        self.all_claimed.load(Ordering::Acquire)
    }
    /// Whether a claim may give something now.
    pub(super) fn can_claim(&self) -> bool {
        !self.is_all_claimed() && self.outstanding.load(Ordering::Relaxed) < SEGMENTS_OUTSTANDING_MAX
    }
    /// Whether this is the root of the source.
    pub(super) fn is_root(&self) -> bool {
        self.place.is_none()
    }
    /// Path of an entry relative to the root.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }

    /// Whether size or device exclude an entry.
    pub(super) fn excludes(&self, path: &[u8], entry: &Metadata) -> bool {
        self.rules.excludes(|| path.to_vec(), entry, &self.metadata)
    }

    /// Hands out the next piece of work.
    pub(super) fn claim(&self, canceled: bool) -> Result<Unit> {
        let mut claim = self.claim.lock();
        let left = self.listing.len() - claim.next;
        if left == 0 || !self.can_claim() {
            return Ok(Unit::Nothing);
        }
        if canceled {
            claim.next = self.listing.len();
            self.close(&mut self.output.lock());
            return Ok(Unit::Nothing);
        }
        let unit = if self.listing.kind(claim.next) == crate::source::metadata::Kind::Directory {
            self.claim_directory(&mut claim)?
        } else {
            self.claim_run(&mut claim)?
        };
        Ok(unit)
    }

    fn claim_directory(&self, claim: &mut Claim<'a>) -> Result<Unit> {
        let index = claim.next;
        let mut previous = Vec::new();
        for cursor in &mut claim.previous {
            previous.extend(cursor.find(self.listing.name(index), true)?.and_then(object_of));
        }
        let segment = self.open_segment(claim, index + 1, Segment::one_gap());
        Ok(Unit::Directory { index, segment, previous })
    }

    fn claim_run(&self, claim: &mut Claim<'a>) -> Result<Unit> {
        let start = claim.next;
        let is_run = |&index: &usize| self.listing.kind(index) != crate::source::metadata::Kind::Directory;
        let limit = self.listing.len().min(start + RUN_ENTRIES);
        let end = start + (start..limit).take_while(is_run).count();
        let mut run = Run { entries: start..end, segment: 0, raw: Vec::new(), found: Vec::new() };
        for cursor in &mut claim.previous {
            for index in start..end {
                let directory = self.listing.kind(index).sorts_as_directory();
                let before = run.raw.len() as u32;
                if let Some(raw) = cursor.find(self.listing.name(index), directory)? {
                    run.raw.extend_from_slice(raw);
                }
                run.found.push(before..run.raw.len() as u32);
            }
        }
        run.segment = self.open_segment(claim, end, Segment::new());
        Ok(Unit::Run(run))
    }

    fn open_segment(&self, claim: &mut Claim<'a>, next: usize, segment: Segment) -> u64 {
        claim.next = next;
        let mut output = self.output.lock();
        let number = output.open(segment);
        self.outstanding.store(output.outstanding(), Ordering::Relaxed);
        if next == self.listing.len() {
            self.close(&mut output);
        }
        number
    }
    fn close(&self, output: &mut Output) {
        output.close();
        self.all_claimed.store(true, Ordering::Release);
    }

    /// Opens a child directory; its failure or absence is told to this directory at once.
    pub(super) fn open_child(
        self: &Arc<Self>,
        upload: &Upload<'a>,
        index: usize,
        segment: u64,
        previous: Vec<ObjectId>,
        scratch: &mut Scratch,
    ) -> Result<Option<Arc<Self>>> {
        let name = self.listing.name(index).to_vec();
        let path = self.path_of(&name);
        let rules = self.rules.child(&name);
        let place = Place { node: Arc::clone(self), segment, gap: 0 };
        let ignored = rules.ignores_directory_errors();
        let failed = |error: String| Outcome::Failed(upload.failure(path.clone(), error, ignored));
        // The root is the first level, what is in it the second.
        if 2 + path.iter().filter(|byte| **byte == b'/').count() > LEVELS_MAX {
            let outcome = failed(format!("directories are nested more than {LEVELS_MAX} levels deep"));
            upload.deliver(Destination::Directory(place), outcome, scratch)?;
            return Ok(None);
        }
        let opened = open_directory(&self.handle, self.listing.file_name(index))
            .and_then(|handle| Metadata::of_handle(handle.as_fd()).map(|metadata| (handle, metadata)));
        let outcome = match opened {
            Err(error) => {
                if matches!(error, Errno::NOENT | Errno::STALE) && !ignored {
                    upload.note_source_deleted();
                }
                failed(format!("unable to read directory: {}", describe(error)))
            }
            Ok((_, metadata)) if self.excludes(&path, &metadata) => Outcome::Skipped,
            Ok((handle, metadata)) => {
                let opening =
                    Opening { place: Some(place.clone()), name, path: path.clone(), previous, rules };
                match Self::open(upload, handle, metadata, opening)? {
                    Ok(node) => {
                        self.in_progress.lock().add_directory(segment, &node);
                        return Ok(Some(node));
                    }
                    Err(error) => failed(error),
                }
            }
        };
        upload.deliver(Destination::Directory(place), outcome, scratch)?;
        Ok(None)
    }

    /// Notes a part whose chunks a checkpoint may record.
    pub(super) fn note_part(&self, segment: u64, part: &Arc<Part<'a>>) {
        self.in_progress.lock().add_part(segment, part);
    }
    /// Counts entries that were listed and are gone.
    pub(super) fn count_vanished(&self, entries: u64) {
        self.vanished.fetch_add(entries, Ordering::Relaxed);
    }
    /// Notes that the directory as a whole cannot be recorded.
    pub(super) fn fail(&self, error: String) {
        self.output.lock().failure.get_or_insert(error);
    }
    /// Fills a segment. Gives what is to be delivered to the parent, if this was the last missing piece.
    pub(super) fn fill(
        &self,
        upload: &Upload<'a>,
        segment: u64,
        filling: Segment,
        scratch: &mut Scratch,
    ) -> Next<'a> {
        let mut output = self.output.lock();
        output.fill(segment, filling);
        self.drain(upload, &mut output, scratch)
    }
    /// Settles a gap. As `fill`.
    pub(super) fn settle(
        &self,
        upload: &Upload<'a>,
        place: &Place<'a>,
        outcome: Outcome,
        scratch: &mut Scratch,
    ) -> Next<'a> {
        let mut output = self.output.lock();
        output.settle(place.segment, place.gap, outcome);
        self.drain(upload, &mut output, scratch)
    }
    /// For a directory without entries, and after cancellation. As `fill`.
    pub(super) fn settle_nothing(&self, upload: &Upload<'a>, scratch: &mut Scratch) -> Next<'a> {
        self.drain(upload, &mut self.output.lock(), scratch)
    }

    fn drain(&self, upload: &Upload<'a>, output: &mut Output, scratch: &mut Scratch) -> Next<'a> {
        let storing = self.storing(upload);
        let ready = output.drain(&storing, &mut scratch.write)?;
        self.outstanding.store(output.outstanding(), Ordering::Relaxed);
        if !ready {
            return Ok(None);
        }
        if let Some(error) = output.failure.take() {
            return self.finish_failed(upload, error).map(Some);
        }
        output.add(&self.loss(upload));
        let reason = upload.incomplete_reason();
        let (object, summary) =
            output.finish(self.metadata.modified, reason, &self.known, &storing, &mut scratch.write)?;
        upload.count_directory();
        let entry = self.entry(object, summary);
        let Some(place) = &self.place else {
            upload.finish(entry);
            return Ok(None);
        };
        let (json, totals) = encode(&entry);
        *self.final_outcome.lock() = Some((json.clone(), totals.clone()));
        Ok(Some((Destination::Directory(place.clone()), Outcome::Entry { json, totals })))
    }

    /// Failure of a directory that was deleted while it was read, or that lost too much: what was read of it is
    /// kept, but it is not what a later backup or a restore may take for the whole.
    fn loss(&self, upload: &Upload<'a>) -> Totals {
        let (listed, vanished) = (self.listing.len() as u64, self.vanished.load(Ordering::Relaxed));
        upload.stats.count_listed(listed, vanished);
        upload.stats.count_not_utf8(self.listing.not_utf8() as u64);
        let is_root = self.is_root();
        let (listed, vanished) = if is_root { upload.stats.listed() } else { (listed, vanished) };
        let error = vanished::loss(is_deleted(self.handle.as_fd()), listed, vanished);
        let Some(error) = error else { return Totals::default() };
        let ignored = !is_root && self.rules.ignores_directory_errors();
        if !ignored {
            upload.note_source_deleted();
        }
        let path = if is_root { b".".to_vec() } else { self.path.clone() };
        upload.failure(path, error, ignored)
    }

    fn finish_failed(&self, upload: &Upload<'a>, error: String) -> Result<(Destination<'a>, Outcome)> {
        let Some(place) = &self.place else {
            return Err(Error::new(ErrorKind::Filesystem, error));
        };
        let totals = upload.failure(self.path.clone(), error, self.rules.ignores_directory_errors());
        Ok((Destination::Directory(place.clone()), Outcome::Failed(totals)))
    }

    fn storing(&self, upload: &Upload<'a>) -> DirectoryStoring<'a> {
        upload.directory_storing(&self.rules)
    }
    fn entry(&self, object: ObjectId, summary: DirectorySummary) -> DirectoryEntry {
        DirectoryEntry {
            name: self.name.clone(),
            entry_type: EntryType::Directory,
            mode: self.metadata.mode,
            size: 0,
            modified: self.metadata.modified,
            uid: self.metadata.uid,
            gid: self.metadata.gid,
            object: Some(object),
            summary: Some(Box::new(summary)),
        }
    }

    /// Stores the directory as far as it is known; gives its entry.
    pub(super) fn checkpoint(&self, upload: &Upload<'a>, scratch: &mut Scratch) -> Result<DirectoryEntry> {
        self.checkpoint_of(&self.output.lock(), upload, scratch)
    }

    fn checkpoint_of(
        &self,
        output: &Output,
        upload: &Upload<'a>,
        scratch: &mut Scratch,
    ) -> Result<DirectoryEntry> {
        let storing = self.storing(upload);
        let (mut directories, mut parts) = self.in_progress.lock().alive();
        let mut failed = None;
        let mut write = std::mem::take(&mut scratch.write);
        let more = |segment: u64| -> Option<Outcome> {
            let outcome = if let Some(at) = directories.iter().position(|(number, _)| *number == segment) {
                directories.swap_remove(at).1.checkpoint_outcome(upload, scratch)
            } else {
                let at = parts.iter().position(|(number, _)| *number == segment)?;
                upload.checkpoint_part(&parts.swap_remove(at).1)
            };
            outcome
                .unwrap_or_else(|error| {
                    failed = Some(error);
                    None
                })
                .or(Some(Outcome::Skipped))
        };
        let (object, summary) = output.checkpoint(self.metadata.modified, more, &storing, &mut write)?;
        scratch.write = write;
        failed.map_or_else(|| Ok(self.entry(object, summary)), Err)
    }

    fn checkpoint_outcome(&self, upload: &Upload<'a>, scratch: &mut Scratch) -> Result<Option<Outcome>> {
        // Locked first: a directory that ends between the two looks would be recorded without what it gave away.
        let output = self.output.lock();
        if let Some((json, totals)) = self.final_outcome.lock().clone() {
            return Ok(Some(Outcome::Entry { json, totals }));
        }
        let (json, totals) = encode(&self.checkpoint_of(&output, upload, scratch)?);
        Ok(Some(Outcome::Entry { json, totals }))
    }
}

/// What follows from settling something.
pub(super) type Next<'a> = Result<Option<(Destination<'a>, Outcome)>>;

impl<'a> InProgress<'a> {
    fn add_directory(&mut self, segment: u64, node: &Arc<Node<'a>>) {
        if self.directories.len() >= 2 * SEGMENTS_OUTSTANDING_MAX {
            self.directories.retain(|(_, node)| node.strong_count() > 0);
        }
        self.directories.push((segment, Arc::downgrade(node)));
    }
    fn add_part(&mut self, segment: u64, part: &Arc<Part<'a>>) {
        if self.parts.len() >= 2 * RUN_ENTRIES && self.parts.len().is_multiple_of(RUN_ENTRIES) {
            self.parts.retain(|(_, part)| part.strong_count() > 0);
        }
        self.parts.push((segment, Arc::downgrade(part)));
    }
    #[allow(clippy::type_complexity, reason = "two lists of the same shape, used once")]
    fn alive(&self) -> (Vec<(u64, Arc<Node<'a>>)>, Vec<(u64, Arc<Part<'a>>)>) {
        let directories = self.directories.iter().filter_map(|(at, node)| Some((*at, node.upgrade()?)));
        let parts = self.parts.iter().filter_map(|(at, part)| Some((*at, part.upgrade()?)));
        (directories.collect(), parts.collect())
    }
}

/// JSON of a directory entry and what it adds to its parent.
pub(super) fn encode(entry: &DirectoryEntry) -> (Vec<u8>, Totals) {
    let mut json = Vec::new();
    entry.encode(&mut json);
    let mut totals = Totals::default();
    if let Some(summary) = &entry.summary {
        totals.add_directory(entry.modified, summary);
    }
    (json, totals)
}

/// `directory/name`, or `name` in the root.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
