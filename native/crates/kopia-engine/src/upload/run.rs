//! A run of entries of one directory: what is unchanged is taken over, small files are read and
//! hashed side by side, large files are queued, links and oddities recorded.
//!
//! A regular file without a namesake in the parents costs four system calls: open, stat of the
//! handle, read, close. With one it costs a stat, and the others only if it changed.

use super::directory::{Node, Run};
use super::engine::{Scratch, Upload};
use super::entry::{Destination, Place, is_unchanged, write_head, write_object};
use super::input::{Holes, Input};
use super::large_file::{LargeFile, Part, Storing};
use super::output::Segment;
use super::stretch::Stretch;
use crate::error::Result;
use crate::progress::Progress;
use crate::source::metadata::{Kind, Metadata, describe, describe_io, open_file};
use kopia_format::snapshot::EntryType;
use kopia_format::{ContentHash, ObjectId};
use parking_lot::Mutex;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

/// Small files are hashed together from this many on, once they have `BATCH_BYTES`.
const BATCH_FILES_MIN: usize = 4;
/// Files of a batch.
const BATCH_FILES_MAX: usize = 64;
/// Bytes of a batch.
const BATCH_BYTES: usize = 1 << 20;
/// Buffers above this size are not kept from run to run.
const SMALL_BUFFER_KEPT_BYTES: usize = 256 << 10;

/// What is known of one entry of a run.
enum Slot<'u> {
    /// Left out.
    Nothing,
    /// The parent's entry, with this size and time.
    Unchanged { raw: &'u [u8], metadata: Metadata, letter: u8 },
    /// Stored.
    Stored { metadata: Metadata, letter: u8, object: ObjectId, size: u64 },
    /// A placeholder's entry, as it is.
    Placeholder(Box<kopia_format::snapshot::DirectoryEntry>),
    /// A small file that waits for its hash.
    Waiting,
    /// To be read as a large file.
    Large { metadata: Metadata, file: File },
    /// Could not be read.
    Failed { error: String, ignored: bool },
}

/// A small file that was read.
struct SmallFile {
    slot: usize,
    metadata: Metadata,
    data: Vec<u8>,
    letter: u8,
    storing: Option<Storing>,
}

/// A run being processed.
struct Processing<'u, 'a> {
    upload: &'u Upload<'a>,
    node: &'u Arc<Node<'a>>,
    run: &'u Run,
    scratch: &'u mut Scratch,
    slots: Vec<Slot<'u>>,
    batch: Vec<SmallFile>,
    batch_bytes: usize,
    head: Vec<u8>,
    /// Whether anything of it was read.
    has_read: bool,
}

/// Parts of one file: a policy's threshold of one byte must not make one of each byte.
const FILE_PARTS_MAX: u64 = 1 << 16;

impl<'a> Upload<'a> {
    /// Processes a run and fills its segment.
    pub(super) fn process_run(&self, node: &Arc<Node<'a>>, run: &Run, scratch: &mut Scratch) -> Result<()> {
        let mut processing = Processing {
            upload: self,
            node,
            run,
            scratch,
            slots: Vec::with_capacity(run.entries.len()),
            batch: Vec::new(),
            batch_bytes: 0,
            head: Vec::new(),
            has_read: false,
        };
        let mut time = Instant::now();
        for index in run.entries.clone() {
            if self.is_canceled() {
                break;
            }
            let slot = processing.entry(index);
            processing.slots.push(slot);
            if processing.batch_is_full() {
                processing.count_time(time);
                time = processing.store_batch()?;
            }
        }
        processing.count_time(time);
        let time = processing.store_batch()?;
        processing.finish()?;
        Progress::add_time(&self.progress.nanoseconds_storing, time);
        Ok(())
    }
}

impl Slot<'_> {
    /// Bytes of a file whose metadata was seen.
    fn file_bytes(&self) -> Option<u64> {
        match self {
            Self::Unchanged { metadata, letter: b'f', .. } | Self::Large { metadata, .. } => {
                Some(metadata.size)
            }
            Self::Stored { letter: b'f', size, .. } => Some(*size),
            _ => None,
        }
    }
}

impl<'u, 'a> Processing<'u, 'a> {
    /// Looks at one entry.
    fn entry(&mut self, index: usize) -> Slot<'u> {
        let kind = self.node.listing.kind(index);
        match kind {
            Kind::File | Kind::Symlink => self.file_or_link(index, kind),
            Kind::PlaceholderFile | Kind::PlaceholderDirectory => self.placeholder(index),
            Kind::Directory | Kind::Other | Kind::Unknown => self.unknown(),
        }
    }

    fn unknown(&self) -> Slot<'u> {
        if self.node.rules.ignores_unknown_types() {
            return Slot::Nothing;
        }
        Slot::Failed { error: "unknown or unsupported entry type".into(), ignored: false }
    }

    fn failed(&self, what: &str, error: &str) -> Slot<'u> {
        Slot::Failed { error: format!("{what}: {error}"), ignored: self.node.rules.ignores_file_errors() }
    }

    fn file_or_link(&mut self, index: usize, kind: Kind) -> Slot<'u> {
        let has_previous = self.run.previous(index).next().is_some();
        if kind == Kind::File && !has_previous {
            return self.open_and_read(index);
        }
        if let Some(slot) = self.unchanged_when_seen(index) {
            return slot;
        }
        let metadata = match Metadata::of_name(self.node.handle.as_fd(), self.node.listing.file_name(index)) {
            Ok(metadata) => metadata,
            Err(Errno::NOENT) => return self.vanished(),
            Err(error) => return self.fail_directory(error),
        };
        let Some(letter) = letter_of(metadata.file_type) else { return self.unknown() };
        if self.is_excluded(index, &metadata) {
            return Slot::Nothing;
        }
        if let Some(raw) = self.unchanged(index, letter, &metadata) {
            return Slot::Unchanged { raw, metadata, letter };
        }
        if letter == b's' { self.read_link(index, metadata) } else { self.open_and_read(index) }
    }

    /// An entry that was listed and is gone: passed over and counted. Whether too many are is asked in the end.
    fn vanished(&self) -> Slot<'u> {
        self.node.count_vanished(1);
        Slot::Nothing
    }

    /// An entry whose metadata cannot be read fails its whole directory, as Kopia's listing does; but for the
    /// root, where that would be the end of the backup.
    fn fail_directory(&self, error: Errno) -> Slot<'u> {
        if self.node.is_root() {
            self.upload.stats.count_started(1);
            return self.failed("unable to read entry", &describe(error));
        }
        self.node.fail(format!("error reading directory: {}", describe(error)));
        Slot::Nothing
    }

    fn is_excluded(&self, index: usize, metadata: &Metadata) -> bool {
        let path = || self.node.path_of(self.node.listing.name(index));
        self.node.rules.excludes(path, metadata, &self.node.metadata)
    }

    /// The parent's entry, if it was so when somebody looked ahead.
    fn unchanged_when_seen(&mut self, index: usize) -> Option<Slot<'u>> {
        let metadata = self.node.listing.seen(index)?;
        let letter = letter_of(metadata.file_type)?;
        if self.is_excluded(index, &metadata) {
            return None;
        }
        self.unchanged(index, letter, &metadata).map(|raw| Slot::Unchanged { raw, metadata, letter })
    }

    /// The parent's entry, if name, type, mode, size, time and owner are equal.
    fn unchanged(&mut self, index: usize, letter: u8, metadata: &Metadata) -> Option<&'u [u8]> {
        self.head.clear();
        write_head(self.node.listing.name(index), letter, metadata, metadata.size, &mut self.head);
        let run = self.run;
        let upload = self.upload;
        let same = |raw: &&[u8]| is_unchanged(raw, &self.head) && upload.is_stored(raw);
        let raw = run.previous(index).find(same)?;
        let believed = !self.upload.racy.concerns_parents(metadata.modified);
        (believed && !self.upload.is_forced_to_hash()).then_some(raw)
    }

    fn open_and_read(&mut self, index: usize) -> Slot<'u> {
        let handle = match open_file(self.node.handle.as_fd(), self.node.listing.file_name(index)) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return self.vanished(),
            Err(error) => return self.unopened(index, error),
        };
        let metadata = match Metadata::of_handle(handle.as_fd()) {
            Ok(metadata) => metadata,
            Err(error) => return self.failed("unable to open file", &describe(error)),
        };
        if metadata.file_type != FileType::RegularFile {
            return self.unknown();
        }
        if self.is_excluded(index, &metadata) {
            return Slot::Nothing;
        }
        self.upload.stats.count_started(1);
        if let Some((object, size)) = self.upload.linked(&metadata) {
            self.upload.stats.count_uploaded(1, size);
            return Slot::Stored { metadata, letter: b'f', object, size };
        }
        self.read_small(index, metadata, File::from(handle))
    }

    /// A file that cannot be opened: an error, unless it is excluded anyway.
    fn unopened(&self, index: usize, error: Errno) -> Slot<'u> {
        match Metadata::of_name(self.node.handle.as_fd(), self.node.listing.file_name(index)) {
            Err(Errno::NOENT) => return self.vanished(),
            Err(error) => return self.fail_directory(error),
            Ok(metadata) if self.is_excluded(index, &metadata) => return Slot::Nothing,
            Ok(metadata) if metadata.file_type != FileType::RegularFile => return self.unknown(),
            Ok(_) => {}
        }
        self.upload.stats.count_started(1);
        self.failed("unable to open file", &describe(error))
    }

    /// Reads a file that is one chunk whatever its bytes; leaves others to be read in chunks.
    fn read_small(&mut self, index: usize, metadata: Metadata, file: File) -> Slot<'u> {
        let storing = self.upload.storing(&self.node.rules, self.node.listing.name(index), metadata.size);
        let limit = storing.splitter.chunk_bytes_min();
        let above = self.upload.parallel_above(&self.node.rules, self.node.listing.name(index));
        self.has_read = true;
        if metadata.size >= limit as u64 || above.is_some_and(|above| metadata.size > above) {
            return Slot::Large { metadata, file };
        }
        let mut data = self.scratch.small.pop().unwrap_or_default();
        match read_to_end(&file, &mut data, metadata.size as usize, limit) {
            Ok(true) => self.add_to_batch(metadata, data, b'f', Some(storing)),
            Ok(false) => Slot::Large { metadata, file },
            Err(error) => self.failed("unable to read file", &describe_io(&error)),
        }
    }

    fn read_link(&mut self, index: usize, metadata: Metadata) -> Slot<'u> {
        match rustix::fs::readlinkat(&self.node.handle, self.node.listing.file_name(index), Vec::new()) {
            Ok(target) => self.add_to_batch(metadata, target.into_bytes(), b's', None),
            Err(Errno::NOENT) => self.vanished(),
            Err(error) => self.failed("unable to read symlink", &describe(error)),
        }
    }

    fn add_to_batch(
        &mut self,
        metadata: Metadata,
        data: Vec<u8>,
        letter: u8,
        storing: Option<Storing>,
    ) -> Slot<'u> {
        self.batch_bytes += data.len();
        self.batch.push(SmallFile { slot: self.slots.len(), metadata, data, letter, storing });
        Slot::Waiting
    }

    fn batch_is_full(&self) -> bool {
        let files = self.batch.len();
        files >= BATCH_FILES_MAX
            || (files >= BATCH_FILES_MIN && self.batch_bytes >= BATCH_BYTES)
            || self.batch_bytes >= 4 * BATCH_BYTES
    }

    /// Counts the time since `start` as reading, or as scanning if nothing was read yet.
    fn count_time(&self, start: Instant) {
        let progress = self.upload.progress;
        let time = if self.has_read { &progress.nanoseconds_reading } else { &progress.nanoseconds_scanning };
        Progress::add_time(time, start);
    }

    /// Hashes and stores the small files that were read; gives the time when that was done.
    fn store_batch(&mut self) -> Result<Instant> {
        let start = Instant::now();
        if self.batch.is_empty() {
            return Ok(start);
        }
        let hasher = self.upload.contents.hasher();
        let inputs: Vec<&[u8]> = self.batch.iter().map(|small| small.data.as_slice()).collect();
        let hashes = hasher.hash_many(&inputs);
        let start = Progress::add_time(&self.upload.progress.nanoseconds_hashing, start);
        for (small, hash) in std::mem::take(&mut self.batch).into_iter().zip(hashes) {
            let slot = small.slot;
            self.slots[slot] = self.store_small(small, hash)?;
        }
        self.batch_bytes = 0;
        Ok(Progress::add_time(&self.upload.progress.nanoseconds_storing, start))
    }

    fn store_small(&mut self, small: SmallFile, hash: ContentHash) -> Result<Slot<'u>> {
        let SmallFile { metadata, mut data, letter, storing, .. } = small;
        let size = data.len() as u64;
        let compressor =
            storing.map_or(kopia_format::compression::CompressorId::NONE, |storing| storing.compressor);
        let object = self.upload.put_small(hash, &mut data, compressor, self.scratch)?;
        if data.capacity() <= SMALL_BUFFER_KEPT_BYTES {
            data.clear();
            self.scratch.small.push(data);
        }
        if letter == b'f' {
            self.upload.stats.count_uploaded(1, size);
            self.upload.stats.count_read(size);
            self.upload.remember_link(&metadata, object, size);
            Progress::add(&self.upload.progress.bytes_read, size);
        }
        Ok(Slot::Stored { metadata, letter, object, size })
    }

    /// Puts the entries into the segment, in order, and queues what is large.
    fn finish(mut self) -> Result<()> {
        let mut segment = Segment::new();
        let mut stretches = Vec::new();
        let slots = std::mem::take(&mut self.slots);
        self.upload.count_scanned(slots.iter().filter_map(Slot::file_bytes));
        for (index, slot) in self.run.entries.clone().zip(slots) {
            stretches.extend(self.record(&mut segment, index, slot));
        }
        let next = self.node.fill(self.upload, self.run.segment, segment, self.scratch)?;
        self.upload.add_stretches(stretches);
        self.upload.deliver_all(next, self.scratch)
    }

    /// Puts one entry into the segment; gives what is left to be read of it.
    fn record(&self, segment: &mut Segment, index: usize, slot: Slot<'u>) -> Vec<Stretch<'a>> {
        let (upload, node) = (self.upload, self.node);
        let name = node.listing.name(index);
        match slot {
            Slot::Nothing | Slot::Waiting => {}
            Slot::Unchanged { raw, metadata, letter } => {
                upload.count_unchanged(letter, metadata.size);
                segment.add_json(&[raw]);
                segment.totals().add_entry(entry_type(letter), metadata.size, metadata.modified);
            }
            Slot::Stored { metadata, letter, object, size } => {
                Progress::add(&upload.progress.files_done, u64::from(letter == b'f'));
                let json = segment.json();
                write_head(name, letter, &metadata, size, json);
                write_object(&object, json);
                json.push(b',');
                segment.totals().add_entry(entry_type(letter), size, metadata.modified);
            }
            Slot::Placeholder(entry) => {
                let (json, totals) = super::placeholder::encode(&entry);
                segment.add_json(&[&json]);
                segment.totals().add(&totals);
            }
            Slot::Large { metadata, file } => {
                let place =
                    Place { node: Arc::clone(node), segment: self.run.segment, gap: segment.add_gap() };
                return upload.large_file(place, name, metadata, file);
            }
            Slot::Failed { error, ignored } => {
                segment.totals().add(&upload.failure(node.path_of(name), error, ignored));
            }
        }
        Vec::new()
    }

    fn placeholder(&self, index: usize) -> Slot<'u> {
        let name = self.node.listing.name(index);
        if self.node.listing.contains_real(name) {
            return self.failed("can't read placeholder", "the entry that it stands for exists too");
        }
        let directory = self.node.listing.kind(index) == Kind::PlaceholderDirectory;
        match super::placeholder::read(
            self.node.handle.as_fd(),
            self.node.listing.file_name(index),
            directory,
        ) {
            Ok(mut entry) => match super::placeholder::verify(self.upload.contents, &entry) {
                Ok(()) => {
                    entry.name = name.to_vec();
                    Slot::Placeholder(Box::new(entry))
                }
                Err(error) => {
                    self.failed("invalid placeholder contains foreign object ID", &error.to_string())
                }
            },
            Err(error) => self.failed("can't read placeholder", &error),
        }
    }
}

impl<'a> Upload<'a> {
    /// The length of a link's target is no data of a file; the manifest alone has it, as Kopia's has.
    fn count_unchanged(&self, letter: u8, size: u64) {
        let data = if letter == b'f' { size } else { 0 };
        self.stats.count_cached(1, size, data);
        Progress::add(&self.progress.files_cached, 1);
        Progress::add(&self.progress.bytes_cached, data);
        Progress::add(&self.progress.files_done, u64::from(letter == b'f'));
    }
    /// Files that were seen, by their sizes.
    pub(super) fn count_scanned(&self, sizes: impl Iterator<Item = u64>) {
        let (files, bytes) = sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size));
        Progress::add(&self.progress.files_scanned, files);
        Progress::add(&self.progress.bytes_scanned, bytes);
    }
    /// A large file and its stretches.
    fn large_file(&self, place: Place<'a>, name: &[u8], metadata: Metadata, file: File) -> Vec<Stretch<'a>> {
        let node = Arc::clone(&place.node);
        let segment = place.segment;
        let storing = self.storing(&node.rules, name, metadata.size);
        let above = self.parallel_above(&node.rules, name);
        let stretches =
            self.stretches_of(Destination::Directory(place), name.to_vec(), metadata, storing, above, file);
        for stretch in &stretches {
            node.note_part(segment, &stretch.part);
        }
        stretches
    }

    /// The stretches of a file: one, or one for each part.
    pub(super) fn stretches_of(
        &self,
        destination: Destination<'a>,
        name: Vec<u8>,
        metadata: Metadata,
        storing: Storing,
        parallel_above: Option<u64>,
        file: File,
    ) -> Vec<Stretch<'a>> {
        let part_bytes = parallel_above.filter(|above| metadata.size > *above && *above > 0);
        let part_bytes = part_bytes.map(|bytes| bytes.max(metadata.size / FILE_PARTS_MAX));
        let count = part_bytes.map_or(1, |bytes| metadata.size / bytes + 1);
        let large = Arc::new(LargeFile {
            destination,
            name,
            metadata,
            storing,
            parts: Mutex::new(vec![None; count as usize]),
            parts_left: AtomicUsize::new(count as usize),
            settled: AtomicBool::new(false),
        });
        let file = Arc::new(file);
        let regular = metadata.file_type == FileType::RegularFile;
        let stretch = |number: u64| {
            let part = Part::new(Arc::clone(&large), number as usize);
            let offset = part_bytes.map_or(0, |bytes| number * bytes);
            let end = part_bytes.filter(|_| number + 1 < count).map(|bytes| offset + bytes);
            let holes = if regular { Holes::unknown() } else { Holes::none() };
            Stretch::new(part, Input::File { file: Arc::clone(&file), offset, end, holes }, storing.splitter)
        };
        (0..count).map(stretch).collect()
    }
}

/// The letter of what can be stored.
fn letter_of(file_type: FileType) -> Option<u8> {
    match file_type {
        FileType::RegularFile => Some(b'f'),
        FileType::Symlink => Some(b's'),
        _ => None,
    }
}

fn entry_type(letter: u8) -> EntryType {
    if letter == b's' { EntryType::Symlink } else { EntryType::File }
}

/// Reads a whole file of about `expected` bytes; says `false` once it has `limit` bytes or more.
fn read_to_end(file: &File, data: &mut Vec<u8>, expected: usize, limit: usize) -> std::io::Result<bool> {
    data.clear();
    loop {
        let before = data.len();
        // One byte more than expected, so that a full buffer means that the file has grown.
        let room = if before == 0 { expected + 1 } else { before.max(512) };
        let filled = match kopia_kernels::append_at(file, before as u64, room, data) {
            Ok(filled) => filled,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if data.len() >= limit {
            return Ok(false);
        }
        if filled < room && (filled == 0 || data.len() == expected) {
            return Ok(true);
        }
    }
}
