//! Restoring a device: every byte of it, in parallel; nothing of the target is touched before all sizes and all
//! pieces were found to be right.

use super::layout::{PIECE_BYTES, SIZE_TAG};
use super::options::{BlockRestoreOptions, BlockRestoreResult};
use super::pieces::{for_each_piece, only_file};
use super::target::Target;
use super::zero::zero_content;
use crate::cancel::CancelToken;
use crate::content::group::copy_of;
use crate::content::{ContentInfo, ContentManager, GroupReader, ReadTraffic};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::{snapshots, tree};
use crossbeam_channel::{Receiver, Sender, bounded};
use kopia_format::indirect::IndirectEntry;
use kopia_format::snapshot::SnapshotManifest;
use kopia_format::{ContentId, ManifestId, ObjectId, compression};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Threads for a storage that is far away: its latency, not the cores, is what is waited for.
const FAR_PARALLELISM: usize = 8;
/// Pieces sorted by where they are before they are read: a few packs of them.
const BATCH_PIECES: usize = 128;
/// Most bytes read together.
const GROUP_BYTES_MAX: u64 = 18 << 20;
/// Most bytes that a compressed piece may give (old formats compress objects).
const COMPRESSED_BYTES_MAX: usize = 1 << 28;

/// Restores the device of a snapshot to the block device, or image file, at `path`, and syncs it.
///
/// # Errors
/// `Canceled`; `ManifestNotFound`; `InvalidArgument` if the snapshot is of no device; `Corrupted` if its sizes
/// contradict one another; `ContentNotFound` if a piece is lost; `NoSpace` if the device is too small: all of them
/// before anything is written. Later: `Corrupted`, the storage's and the target's, naming the place.
///
/// Source: Velero `pkg/uploader/block`.
pub fn restore(
    repository: &Repository,
    snapshot: &ManifestId,
    path: &Path,
    options: &BlockRestoreOptions,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<BlockRestoreResult> {
    let snapshot = snapshots::load(repository, snapshot)?;
    let file = only_file(repository, &snapshot)?;
    let object = tree::object_of(&file)?;
    let contents = repository.contents();
    let length = check_pieces(contents, object, cancel)?;
    let device_bytes = device_bytes(&snapshot, file.size.max(0).cast_unsigned(), length)?;
    let target = Target::open(path, device_bytes, options.overwrite)?;
    progress.bytes_total.store(device_bytes, Ordering::Relaxed);
    progress.files_total.store(1, Ordering::Relaxed);
    let writing = Writing {
        contents,
        target: &target,
        device_bytes,
        progress,
        cancel,
        traffic: ReadTraffic::default(),
        stopped: AtomicBool::new(false),
        failure: Mutex::default(),
    };
    writing.run(object, options)?;
    target.sync()?;
    Progress::add(&progress.files_done, 1);
    Ok(BlockRestoreResult {
        device_bytes,
        bytes_written: target.bytes_written.load(Ordering::Relaxed),
        bytes_deallocated: target.bytes_deallocated.load(Ordering::Relaxed),
        storage_bytes: writing.traffic.bytes.load(Ordering::Relaxed),
    })
}

/// Reads the list through and looks every piece up; the length of the object.
fn check_pieces(contents: &ContentManager, object: ObjectId, cancel: &CancelToken) -> Result<u64> {
    for_each_piece(contents, object, &mut |piece| {
        cancel.check()?;
        locate(contents, &piece).map(drop)
    })
}

fn locate(contents: &ContentManager, piece: &IndirectEntry) -> Result<ContentInfo> {
    let content = &piece.object.content;
    contents.info(content)?.ok_or_else(|| {
        crate::content::manager::not_found(content).while_doing(format!("the piece at byte {}", piece.start))
    })
}

/// The real size of the device: what the tag says, else what the entry says.
fn device_bytes(snapshot: &SnapshotManifest, entry_bytes: u64, length: u64) -> Result<u64> {
    let wrong = |why: String| {
        let id = snapshot.id.as_ref().map_or("", |id| id.as_str());
        Error::new(ErrorKind::Corrupted, format!("snapshot {id}: {why}")).with("snapshot", id)
    };
    let told = match snapshot.tags.get(SIZE_TAG) {
        Some(text) => {
            text.parse().map_err(|_| wrong(format!("tag {SIZE_TAG} is {text:?}, which is no size")))?
        }
        None => entry_bytes,
    };
    if told > entry_bytes || told > length {
        return Err(wrong(format!(
            "its device has {told} bytes, its entry {entry_bytes}, and its list {length}: restore another snapshot"
        )));
    }
    Ok(told)
}

/// A piece to read, and where it goes.
struct Want {
    info: ContentInfo,
    piece: IndirectEntry,
}

/// What the threads of one restore share.
struct Writing<'a> {
    contents: &'a ContentManager,
    target: &'a Target,
    device_bytes: u64,
    progress: &'a Progress,
    cancel: &'a CancelToken,
    traffic: ReadTraffic,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Writing<'_> {
    fn run(&self, object: ObjectId, options: &BlockRestoreOptions) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let usual = if self.contents.is_local() { cores } else { cores.max(FAR_PARALLELISM) };
        let workers = options.parallelism.unwrap_or(usual).clamp(1, 64);
        let share = (options.memory_budget_bytes / workers) as u64;
        let group_bytes = share.clamp(PIECE_BYTES, GROUP_BYTES_MAX);
        let (groups, received) = bounded(workers);
        let planned = std::thread::scope(|scope| {
            for _ in 0..workers {
                let received = received.clone();
                scope.spawn(move || self.work(&received));
            }
            drop(received);
            self.plan(object, groups, group_bytes)
        });
        self.cancel.check()?;
        self.failure.lock().take().map_or(Ok(()), Err)?;
        planned
    }

    fn fail(&self, error: Error) {
        self.failure.lock().get_or_insert(error);
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// An error once there is nothing more to do.
    fn check(&self) -> Result<()> {
        self.cancel.check()?;
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Canceled, "stopped"));
        }
        Ok(())
    }

    /// Goes through the list: zeroes runs of zero pieces, hands the others out.
    fn plan(&self, object: ObjectId, groups: Sender<Vec<Want>>, group_bytes: u64) -> Result<()> {
        let zero = zero_content(self.contents)?;
        let mut planner =
            Planner { writing: self, zero, groups, group_bytes, batch: Vec::new(), zeroes: 0..0 };
        for_each_piece(self.contents, object, &mut |piece| planner.piece(piece))?;
        planner.flush_zeroes()?;
        planner.flush()
    }

    /// Reads groups and writes their pieces.
    fn work(&self, groups: &Receiver<Vec<Want>>) {
        let mut reader = GroupReader::new(self.contents, &self.traffic);
        let mut inflated = Vec::new();
        for group in groups {
            if self.check().is_err() {
                continue;
            }
            let mut infos: Vec<ContentInfo> = group.iter().map(|want| want.info.clone()).collect();
            infos.dedup_by(|one, other| one.id == other.id);
            let mut wants = group.into_iter().peekable();
            let mut time = Instant::now();
            reader.read(&infos, &mut |index, read| {
                time = Progress::add_time(&self.progress.nanoseconds_reading, time);
                Progress::add(&self.progress.bytes_downloaded, u64::from(infos[index].packed_length));
                while let Some(want) = wants.next_if(|want| want.info.id == infos[index].id) {
                    let stored = read.as_ref().map(|data| *data).map_err(copy_of);
                    if let Err(error) =
                        stored.and_then(|stored| self.write(&want.piece, stored, &mut inflated))
                    {
                        self.fail(error.while_doing(format!("the piece at byte {}", want.piece.start)));
                    }
                }
                time = Progress::add_time(&self.progress.nanoseconds_storing, time);
            });
        }
    }

    fn write(&self, piece: &IndirectEntry, stored: &[u8], inflated: &mut Vec<u8>) -> Result<()> {
        let data = if piece.object.compressed {
            compression::decompress(None, stored, COMPRESSED_BYTES_MAX, inflated)?;
            inflated.as_slice()
        } else {
            stored
        };
        if data.len() as u64 != piece.length {
            let (object, length) = (piece.object, piece.length);
            let message = format!("object {object} has {} bytes where its list says {length}", data.len());
            return Err(Error::new(ErrorKind::Corrupted, message).with("object", object));
        }
        // The padding of the last piece is not the device's.
        let length = self.device_bytes.saturating_sub(piece.start).min(piece.length);
        self.target.write(&data[..length as usize], piece.start)?;
        Progress::add(&self.progress.bytes_written, length);
        Ok(())
    }
}

/// Where planning is.
struct Planner<'p, 'a> {
    writing: &'p Writing<'a>,
    zero: ContentId,
    groups: Sender<Vec<Want>>,
    group_bytes: u64,
    batch: Vec<Want>,
    /// A run of zeroes that is not zeroed yet.
    zeroes: std::ops::Range<u64>,
}

impl Planner<'_, '_> {
    fn piece(&mut self, piece: IndirectEntry) -> Result<()> {
        self.writing.check()?;
        if piece.start >= self.writing.device_bytes {
            return Ok(());
        }
        if piece.object == ObjectId::direct(self.zero) && piece.length == PIECE_BYTES {
            if self.zeroes.end != piece.start {
                self.flush_zeroes()?;
                self.zeroes = piece.start..piece.start;
            }
            self.zeroes.end = (piece.start + piece.length).min(self.writing.device_bytes);
            return Ok(());
        }
        self.batch.push(Want { info: locate(self.writing.contents, &piece)?, piece });
        if self.batch.len() < BATCH_PIECES { Ok(()) } else { self.flush() }
    }

    fn flush_zeroes(&mut self) -> Result<()> {
        let run = std::mem::replace(&mut self.zeroes, 0..0);
        let writing = self.writing;
        writing.target.zero_all(run.start, run.end, &|| writing.check())?;
        Progress::add(&writing.progress.bytes_written, run.end - run.start);
        Ok(())
    }

    /// Sorts the batch by place and hands it out in groups.
    fn flush(&mut self) -> Result<()> {
        self.batch.sort_by(|a, b| {
            let place = |want: &Want| (want.info.offset, want.info.id, want.piece.start);
            a.info.pack.as_str().cmp(b.info.pack.as_str()).then_with(|| place(a).cmp(&place(b)))
        });
        let (mut group, mut bytes) = (Vec::new(), 0);
        for want in self.batch.drain(..) {
            let repeated = group.last().is_some_and(|last: &Want| last.info.id == want.info.id);
            let more =
                if repeated { 0 } else { u64::from(want.info.packed_length.max(want.info.original_length)) };
            if bytes + more > self.group_bytes && !group.is_empty() {
                send(&self.groups, std::mem::take(&mut group))?;
                bytes = 0;
            }
            bytes += more;
            group.push(want);
        }
        if group.is_empty() { Ok(()) } else { send(&self.groups, group) }
    }
}

fn send(groups: &Sender<Vec<Want>>, group: Vec<Want>) -> Result<()> {
    groups.send(group).map_err(|_| Error::new(ErrorKind::Internal, "no threads are left to restore"))
}
