//! Backing a device up: one thread plans, some read, as many as there are cores hash and store.
//!
//! The planner goes through the parent's list and decides of each piece whether it is taken over, known to be
//! zero, or read; readers keep several requests under way; hashers take what was read side by side. What bounds
//! memory is the number of piece buffers, and the window in which pieces become known out of order.

use super::changed::ChangedBlocks;
use super::device::{Device, PieceBuffer};
use super::layout::{self, PIECE_BYTES, piece_count, piece_length};
use super::options::{BlockBackupOptions, BlockBackupResult};
use super::order::Order;
use super::pieces::{for_each_piece, only_file};
use super::zero::ZeroPiece;
use crate::cancel::CancelToken;
use crate::content::{ContentManager, WriteScratch, Written};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::snapshots;
use crate::tree;
use crossbeam_channel::{Receiver, Sender, bounded};
use kopia_format::compression::CompressorId;
use kopia_format::{ContentId, ManifestId, ObjectId};
use kopia_kernels::is_zero;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Room behind a piece for what sealing adds, so that it never reallocates.
const SEALING_ROOM_BYTES: usize = 4 << 10;
const BUFFERS: std::ops::RangeInclusive<usize> = 4..=64;
const READS: std::ops::RangeInclusive<usize> = 1..=64;

/// Backs the device (or image file) at `path` up, saves its snapshot and flushes.
///
/// A parent that cannot be used is told in the result, and everything is read. After a cancel or a failure no
/// snapshot is saved; what was stored is known to the next backup.
///
/// # Errors
/// `Canceled`; `Filesystem` if the device cannot be read; `InvalidArgument` for a device without bytes, or if
/// `changed` is of a device of another size; whatever the repository says.
///
/// Source: Velero `pkg/uploader/block`.
pub fn backup(
    repository: &Repository,
    path: &Path,
    options: &BlockBackupOptions,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<BlockBackupResult> {
    let device = Device::open(path, options.direct)?;
    check_map(options.changed.as_ref(), device.size, path)?;
    let start_time = repository.clock().now();
    let (parent, parent_refused) = usable_parent(repository, options.parent.as_ref())?;
    // Ranges are those that changed since the parent: without it they say nothing.
    let changed = options.changed.as_ref().filter(|_| parent_refused.is_empty());
    repository.contents().expect_contents()?;
    progress.bytes_total.store(device.size, Ordering::Relaxed);
    progress.files_total.store(1, Ordering::Relaxed);
    let transfer = Transfer::new(repository.contents(), &device, changed, progress, cancel)?;
    let moved = transfer.run(parent.as_ref(), options);
    if moved.is_err() && cancel.is_canceled() {
        // The next backup finds what this one stored.
        repository.flush()?;
    }
    let (object, length) = moved?;
    let directory = layout::write_directory(repository.contents(), &options.source.path, object, length)?;
    let times = (start_time, repository.clock().now());
    let time = Instant::now();
    let mut manifest = layout::manifest(options, times, (directory, length), device.size);
    manifest.id = Some(snapshots::save(repository, &manifest)?);
    repository.flush()?;
    Progress::add_time(&progress.nanoseconds_flushing, time);
    Progress::add(&progress.files_done, 1);
    Ok(transfer.counts.result(manifest, device.size, parent.map(|parent| parent.id), parent_refused))
}

fn check_map(changed: Option<&ChangedBlocks>, device_bytes: u64, path: &Path) -> Result<()> {
    match changed.map(ChangedBlocks::device_bytes) {
        Some(told) if told != device_bytes => {
            let message =
                format!("{} has {device_bytes} bytes, its changed blocks are of {told}", path.display());
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
        _ => Ok(()),
    }
}

/// A snapshot whose list can be read piece by piece.
struct Parent {
    id: ManifestId,
    device: ObjectId,
    /// Whole pieces that it certainly holds: the last one may be padded.
    whole_pieces: u64,
}

/// The parent, or why it cannot be used. Its list is read through once before anything relies on it.
fn usable_parent(repository: &Repository, id: Option<&ManifestId>) -> Result<(Option<Parent>, String)> {
    let Some(id) = id else { return Ok((None, String::new())) };
    match open_parent(repository, id) {
        Ok(parent) => Ok((Some(parent), String::new())),
        Err(error) if error.temporary || error.kind == ErrorKind::AccessDenied => Err(error),
        Err(error) => Ok((None, format!("parent {id}: {error}"))),
    }
}

fn open_parent(repository: &Repository, id: &ManifestId) -> Result<Parent> {
    let snapshot = snapshots::load(repository, id)?;
    let device = tree::object_of(&only_file(repository, &snapshot)?)?;
    let mut count = 0;
    let length = for_each_piece(repository.contents(), device, &mut |piece| {
        if piece.start != count * PIECE_BYTES || piece.length != PIECE_BYTES || piece.object.compressed {
            let message = format!("piece {count} is not one of {PIECE_BYTES} bytes at its own offset");
            return Err(Error::new(ErrorKind::Corrupted, message));
        }
        count += 1;
        Ok(())
    })?;
    let told = snapshot.tags.get(layout::SIZE_TAG).and_then(|size| size.parse().ok());
    let whole_pieces = told.unwrap_or(length).min(length) / PIECE_BYTES;
    Ok(Parent { id: id.clone(), device, whole_pieces })
}

/// A piece to read; the parent's of the same place, if there is one.
struct Wanted {
    index: u64,
    parent: Option<ObjectId>,
}

/// A piece that was read, and is not zero.
struct Filled {
    wanted: Wanted,
    data: Vec<u8>,
}

/// What the threads of one backup share.
struct Transfer<'a> {
    contents: &'a ContentManager,
    device: &'a Device,
    changed: Option<&'a ChangedBlocks>,
    progress: &'a Progress,
    cancel: &'a CancelToken,
    zero: ZeroPiece<'a>,
    counts: Counts,
}

impl<'a> Transfer<'a> {
    fn new(
        contents: &'a ContentManager,
        device: &'a Device,
        changed: Option<&'a ChangedBlocks>,
        progress: &'a Progress,
        cancel: &'a CancelToken,
    ) -> Result<Self> {
        let (zero, counts) = (ZeroPiece::new(contents)?, Counts::default());
        Ok(Self { contents, device, changed, progress, cancel, zero, counts })
    }

    /// Moves all pieces; gives the object of the device and its length.
    fn run(&self, parent: Option<&Parent>, options: &BlockBackupOptions) -> Result<(ObjectId, u64)> {
        let order = &Order::new(self.contents)?;
        let budget = options.memory_budget_bytes.min(self.contents.upload_buffers_bytes_max());
        let reads = options.reads_under_way.clamp(*READS.start(), *READS.end());
        // Each reader has a buffer of its own beside those that are passed on.
        let buffers = (budget / (PIECE_BYTES as usize + SEALING_ROOM_BYTES)).saturating_sub(reads);
        let buffers = buffers.clamp(*BUFFERS.start(), *BUFFERS.end());
        let (wanted, to_read) = bounded(2 * reads);
        let (filled, to_hash) = bounded(buffers);
        let (free, to_fill) = bounded(buffers);
        for _ in 0..buffers {
            let room = Vec::with_capacity(PIECE_BYTES as usize + SEALING_ROOM_BYTES);
            free.send(room).map_err(|_| Error::new(ErrorKind::Internal, "no buffers"))?;
        }
        let planned = std::thread::scope(|scope| {
            for _ in 0..reads {
                let (to_read, to_fill, filled) = (to_read.clone(), to_fill.clone(), filled.clone());
                scope.spawn(move || self.read(order, &to_read, &to_fill, &filled));
            }
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                let (to_hash, free) = (to_hash.clone(), free.clone());
                scope.spawn(move || self.hash(order, &to_hash, &free));
            }
            drop((to_read, to_fill, filled, to_hash, free));
            self.plan(parent, order, wanted)
        });
        self.cancel.check()?;
        // What failed in another thread is why the planner was stopped.
        order.take_failure().map_or(Ok(()), Err)?;
        planned?;
        order.finish()
    }

    /// Decides of each piece in turn.
    fn plan(&self, parent: Option<&Parent>, order: &Order<'a>, wanted: Sender<Wanted>) -> Result<()> {
        let whole_pieces = parent.map(|parent| parent.whole_pieces);
        let mut planner = Planner { transfer: self, order, wanted, next: 0, data_from: 0, whole_pieces };
        let count = piece_count(self.device.size);
        if let Some(parent) = parent {
            let walked = for_each_piece(self.contents, parent.device, &mut |piece| {
                if planner.next == count {
                    return Err(Error::new(ErrorKind::InvalidRange, "the device became smaller"));
                }
                planner.piece(Some(piece.object))
            });
            match walked {
                Err(error) if planner.next < count || error.kind != ErrorKind::InvalidRange => {
                    return Err(error);
                }
                _ => {}
            }
        }
        while planner.next < count {
            planner.piece(None)?;
        }
        Ok(())
    }

    /// Reads pieces until no more are wanted.
    fn read(
        &self,
        order: &Order<'a>,
        to_read: &Receiver<Wanted>,
        to_fill: &Receiver<Vec<u8>>,
        filled: &Sender<Filled>,
    ) {
        let mut buffer = PieceBuffer::new();
        for wanted in to_read {
            if self.cancel.is_canceled() || order.is_failed() {
                continue;
            }
            let time = Instant::now();
            let read = self.device.read_piece(wanted.index, &mut buffer);
            Progress::add_time(&self.progress.nanoseconds_reading, time);
            if let Err(error) = read {
                order.resolve(wanted.index, Err(error));
                continue;
            }
            let length = piece_length(wanted.index, self.device.size);
            Progress::add(&self.progress.bytes_read, length);
            Counts::add(&self.counts.read, length);
            if is_zero(buffer.bytes()) {
                order.resolve(wanted.index, self.zero_piece(&wanted));
                continue;
            }
            let Ok(mut data) = to_fill.recv() else { continue };
            data.clear();
            data.extend_from_slice(buffer.bytes());
            // Hashers go only after this end is closed.
            let _ = filled.send(Filled { wanted, data });
        }
    }

    /// Hashes and stores what was read, side by side as far as it lies ready.
    fn hash(&self, order: &Order<'a>, to_hash: &Receiver<Filled>, free: &Sender<Vec<u8>>) {
        let lanes = self.contents.hasher().preferred_lanes().max(1);
        let mut scratch = WriteScratch::default();
        while let Ok(first) = to_hash.recv() {
            let mut ready = vec![first];
            ready.extend(to_hash.try_iter().take(lanes - 1));
            let time = Instant::now();
            let inputs: Vec<&[u8]> = ready.iter().map(|filled| filled.data.as_slice()).collect();
            let hashes =
                if order.is_failed() { Vec::new() } else { self.contents.hasher().hash_many(&inputs) };
            let time = Progress::add_time(&self.progress.nanoseconds_hashing, time);
            for (hash, filled) in hashes.into_iter().zip(&mut ready) {
                let stored = ContentId::new(None, hash).map_err(Error::from);
                let stored = stored.and_then(|content| self.store(content, filled, &mut scratch));
                order.resolve(filled.wanted.index, stored);
            }
            Progress::add_time(&self.progress.nanoseconds_storing, time);
            for filled in ready {
                // Readers may be gone already, and their end with them.
                let _ = free.try_send(filled.data);
            }
        }
    }

    fn store(&self, content: ContentId, filled: &mut Filled, scratch: &mut WriteScratch) -> Result<ObjectId> {
        let length = piece_length(filled.wanted.index, self.device.size);
        Progress::add(&self.progress.bytes_hashed, length);
        match self.contents.put_hashed(content, &mut filled.data, CompressorId::NONE, scratch)? {
            Written::New { packed_length } => self.uploaded(packed_length.into()),
            Written::Deduplicated => {
                Progress::add(&self.progress.bytes_deduplicated, length);
                Counts::add(&self.counts.deduplicated, length);
            }
        }
        let object = ObjectId::direct(content);
        self.compare(&filled.wanted, object);
        Ok(object)
    }

    fn zero_piece(&self, wanted: &Wanted) -> Result<ObjectId> {
        let (object, packed_length) = self.zero.used()?;
        self.uploaded(packed_length);
        Counts::add(&self.counts.zero, piece_length(wanted.index, self.device.size));
        self.compare(wanted, object);
        Ok(object)
    }

    fn uploaded(&self, packed_length: u64) {
        Progress::add(&self.progress.bytes_uploaded, packed_length);
        Counts::add(&self.counts.uploaded, packed_length);
    }

    /// Counts a piece as incremental if it is not the parent's; without one, if it is not zero.
    fn compare(&self, wanted: &Wanted, object: ObjectId) {
        if wanted.parent.unwrap_or(self.zero.object()) != object {
            Counts::add(&self.counts.incremental, piece_length(wanted.index, self.device.size));
        }
    }
}

/// Where planning is.
struct Planner<'p, 'a> {
    transfer: &'p Transfer<'a>,
    order: &'p Order<'a>,
    wanted: Sender<Wanted>,
    next: u64,
    /// Before this byte an image file has a hole from the next piece on.
    data_from: u64,
    /// Those of the parent, if there is one.
    whole_pieces: Option<u64>,
}

impl Planner<'_, '_> {
    /// The next piece: taken over, zero, or to be read.
    fn piece(&mut self, parent: Option<ObjectId>) -> Result<()> {
        let transfer = self.transfer;
        transfer.cancel.check()?;
        let index = self.next;
        self.next += 1;
        let length = piece_length(index, transfer.device.size);
        let wanted = Wanted { index, parent };
        if self.must_read(index, length, parent)? {
            if self.is_hole(index, length) {
                Progress::add(&transfer.progress.bytes_cached, length);
                return self.order.announce(Some(transfer.zero_piece(&wanted)?));
            }
            self.order.announce(None)?;
            let stopped = |_| Error::new(ErrorKind::Canceled, "stopped");
            return self.wanted.send(wanted).map_err(stopped);
        }
        Progress::add(&transfer.progress.bytes_cached, length);
        let Some(object) = parent else {
            return self.order.announce(Some(transfer.zero_piece(&wanted)?));
        };
        Counts::add(&transfer.counts.unread, length);
        self.order.announce(Some(object))
    }

    /// Whether a piece may have changed. Read in any case: the last one if it is short (upstream does so), what
    /// the parent had only a part of, and what the repository has lost.
    fn must_read(&self, index: u64, length: u64, parent: Option<ObjectId>) -> Result<bool> {
        let Some(changed) = self.transfer.changed else { return Ok(true) };
        if changed.is_marked(index) || length < PIECE_BYTES {
            return Ok(true);
        }
        let Some(whole_pieces) = self.whole_pieces else { return Ok(false) };
        let Some(object) = parent.filter(|_| index < whole_pieces) else { return Ok(true) };
        let held = self.transfer.contents.contains_live(&object.content)?;
        if !held {
            Counts::add(&self.transfer.counts.lost_pieces, 1);
        }
        Ok(!held)
    }

    fn is_hole(&mut self, index: u64, length: u64) -> bool {
        let offset = index * PIECE_BYTES;
        if self.data_from <= offset {
            self.data_from = self.transfer.device.data_from(offset);
        }
        self.data_from >= offset + length
    }
}

/// Counters of one backup, in bytes of the device unless they say otherwise.
#[derive(Debug, Default)]
struct Counts {
    incremental: AtomicU64,
    read: AtomicU64,
    unread: AtomicU64,
    zero: AtomicU64,
    uploaded: AtomicU64,
    deduplicated: AtomicU64,
    lost_pieces: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    fn result(
        self,
        manifest: kopia_format::snapshot::SnapshotManifest,
        device_bytes: u64,
        parent: Option<ManifestId>,
        parent_refused: String,
    ) -> BlockBackupResult {
        BlockBackupResult {
            manifest,
            device_bytes,
            incremental_bytes: self.incremental.into_inner(),
            bytes_read: self.read.into_inner(),
            bytes_unread: self.unread.into_inner(),
            bytes_zero: self.zero.into_inner(),
            bytes_uploaded: self.uploaded.into_inner(),
            bytes_deduplicated: self.deduplicated.into_inner(),
            lost_pieces: self.lost_pieces.into_inner(),
            parent,
            parent_refused,
        }
    }
}
