//! Output in order (a stream, an archive) from several threads.
//!
//! The planner cuts the output into groups and queues each twice: for the workers, which read it in
//! any order, and for the writer, which waits for the groups one after the other.

use super::errors::target_error;
use super::job::Job;
use super::worker::inflate;
use crate::content::group::copy_of;
use crate::content::manager::not_found;
use crate::content::{ContentInfo, GroupReader};
use crate::error::{Error, ErrorKind, Result};
use crate::object::extents;
use crate::progress::Progress;
use crate::tree;
use crossbeam_channel::{Receiver, Sender, bounded};
use kopia_format::ObjectId;
use kopia_format::snapshot::DirectoryEntry;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;

/// A group ends at this many bytes, if it then has enough contents to hash side by side …
const GROUP_BYTES: u64 = 2 << 20;
/// … and at this many in any case.
const GROUP_BYTES_MAX: u64 = 8 << 20;
const GROUP_PIECES_MAX: usize = 1024;

/// Members of an archive are filled up to a multiple of this.
pub(super) const BLOCK_BYTES: usize = 512;

/// A piece of the output.
pub(super) enum Piece {
    /// These bytes.
    Literal(Vec<u8>),
    /// A content of the group; `length` is what the index object says.
    Content { index: usize, compressed: bool, length: Option<u64> },
    /// A member of an archive begins: its header, and the bytes of data that it announces.
    Begin { header: Vec<u8>, length: u64 },
    /// The member ends: it is filled up to its length and to whole blocks.
    End,
}

struct Group {
    contents: Vec<ContentInfo>,
    bytes: u64,
    done: Sender<Result<Vec<Vec<u8>>>>,
}

type Announced = (Vec<Piece>, Receiver<Result<Vec<Vec<u8>>>>);

/// Takes the pieces of the output, in order.
pub(super) struct OrderedOutput<'job> {
    pub(super) job: &'job Job<'job>,
    pieces: Vec<Piece>,
    contents: Vec<ContentInfo>,
    bytes: u64,
    lanes: usize,
    work: Sender<Group>,
    order: Sender<Announced>,
}

/// Runs `plan` beside the workers and writes what it asks for to `out`.
pub(super) fn run<'job>(
    job: &'job Job<'job>,
    out: &mut (dyn Write + Send),
    plan: impl FnOnce(&mut OrderedOutput<'job>) -> Result<()> + Send,
) -> Result<()> {
    let (work, work_received) = bounded::<Group>(2 * job.workers);
    let (order, ordered) = bounded::<Announced>(2 * job.workers);
    std::thread::scope(|scope| {
        for _ in 0..job.workers {
            let received = work_received.clone();
            scope.spawn(move || work_on(job, &received));
        }
        drop(work_received);
        let lanes = job.contents.read_lanes(false);
        let thread = std::thread::Builder::new().stack_size(tree::WALK_STACK_BYTES);
        let planning = thread.spawn_scoped(scope, move || {
            let (pieces, contents) = (Vec::new(), Vec::new());
            let mut output = OrderedOutput { job, pieces, contents, bytes: 0, lanes, work, order };
            plan(&mut output).and_then(|()| output.flush())
        });
        let planning = planning.map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot start a thread for the restore").caused_by(error)
        })?;
        let written = write_all(job, out, ordered);
        let planned =
            planning.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "planning panicked")));
        // Without a writer the planner only knows that it must stop.
        written.and(planned)
    })
}

impl OrderedOutput<'_> {
    /// Appends a piece.
    pub(super) fn push(&mut self, piece: Piece) -> Result<()> {
        self.pieces.push(piece);
        let enough = self.bytes >= GROUP_BYTES && self.contents.len() >= self.lanes;
        if enough || self.bytes >= GROUP_BYTES_MAX || self.pieces.len() >= GROUP_PIECES_MAX {
            return self.flush();
        }
        Ok(())
    }

    /// Appends the bytes of an object.
    pub(super) fn push_object(&mut self, object: ObjectId) -> Result<()> {
        if object.indirection == 0 {
            return self.push_direct(object, None);
        }
        let contents = self.job.contents;
        extents(contents, object, &mut |extent| self.push_direct(extent.object, Some(extent.length)))
            .map(drop)
    }

    fn push_direct(&mut self, object: ObjectId, length: Option<u64>) -> Result<()> {
        let found = self.job.contents.info(&object.content)?;
        let info = found.ok_or_else(|| not_found(&object.content))?;
        self.bytes += u64::from(info.packed_length.max(info.original_length));
        self.contents.push(info);
        let index = self.contents.len() - 1;
        self.push(Piece::Content { index, compressed: object.compressed, length })
    }

    fn flush(&mut self) -> Result<()> {
        let gone = || Error::new(ErrorKind::Canceled, "stopped");
        if self.job.is_stopped() {
            return Err(gone());
        }
        let (done, waited_for) = bounded(1);
        let (pieces, contents) = (std::mem::take(&mut self.pieces), std::mem::take(&mut self.contents));
        let bytes = std::mem::take(&mut self.bytes);
        self.order.send((pieces, waited_for)).map_err(|_| gone())?;
        let group = Group { contents, bytes, done };
        self.work.send(group).map_err(|_| gone())
    }
}

fn work_on(job: &Job<'_>, groups: &Receiver<Group>) {
    let mut reader = GroupReader::new(job.contents, &job.traffic);
    for mut group in groups {
        let mut order: Vec<usize> = (0..group.contents.len()).collect();
        order.sort_by(|&a, &b| {
            let place = |index: usize| (group.contents[index].pack.as_str(), group.contents[index].offset);
            place(a).cmp(&place(b))
        });
        group.contents.sort_by(|a, b| (a.pack.as_str(), a.offset).cmp(&(b.pack.as_str(), b.offset)));
        let mut plain = vec![Vec::new(); order.len()];
        let mut failed = None;
        reader.read(&group.contents, &mut |index, read| match read {
            Ok(bytes) => plain[order[index]] = bytes.to_vec(),
            Err(error) => failed = Some(error),
        });
        Progress::add(&job.progress.bytes_downloaded, group.bytes);
        // The writer may have given up.
        let _ = group.done.send(failed.map_or(Ok(plain), Err));
    }
}

/// The member of an archive that is being written.
#[derive(Default)]
struct Member {
    announced: u64,
    written: u64,
}

fn write_all(job: &Job<'_>, out: &mut (dyn Write + Send), groups: Receiver<Announced>) -> Result<()> {
    let mut member = None;
    let mut inflated = Vec::new();
    for (pieces, waited_for) in groups {
        let lost = |_| Error::new(ErrorKind::Canceled, "stopped");
        let plain = waited_for.recv().map_err(lost)??;
        for piece in pieces {
            if job.is_stopped() {
                return Err(Error::new(ErrorKind::Canceled, "stopped"));
            }
            write_piece(job, out, piece, &plain, &mut member, &mut inflated)?;
        }
    }
    out.flush().map_err(|error| target_error("cannot write the output".into(), error))
}

fn write_piece(
    job: &Job<'_>,
    out: &mut (dyn Write + Send),
    piece: Piece,
    plain: &[Vec<u8>],
    member: &mut Option<Member>,
    inflated: &mut Vec<u8>,
) -> Result<()> {
    let failed = |error| target_error("cannot write the output".into(), error);
    match piece {
        Piece::Literal(bytes) => out.write_all(&bytes).map_err(failed),
        Piece::Begin { header, length } => {
            *member = Some(Member { announced: length, written: 0 });
            out.write_all(&header).map_err(failed)
        }
        Piece::Content { index, compressed, length } => {
            let bytes = if compressed { inflate(&plain[index], inflated)? } else { &plain[index] };
            check_length(bytes, length, member.as_mut())?;
            Progress::add(&job.progress.bytes_written, bytes.len() as u64);
            job.file_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            out.write_all(bytes).map_err(failed)
        }
        Piece::End => {
            let Member { announced, written } = member.take().unwrap_or_default();
            write_padding(out, announced, written).map_err(failed)?;
            job.files.fetch_add(1, Ordering::Relaxed);
            Progress::add(&job.progress.files_done, 1);
            Ok(())
        }
    }
}

fn check_length(bytes: &[u8], expected: Option<u64>, member: Option<&mut Member>) -> Result<()> {
    let found = bytes.len() as u64;
    if let Some(expected) = expected
        && expected != found
    {
        let message = format!("a chunk has {found} bytes where its index object says {expected}");
        return Err(Error::new(ErrorKind::Corrupted, message));
    }
    if let Some(member) = member {
        member.written += found;
        if member.written > member.announced {
            let message = format!("a file has more bytes than the {} of its entry", member.announced);
            return Err(Error::new(ErrorKind::Corrupted, message));
        }
    }
    Ok(())
}

/// Writes the bytes of one file.
pub(super) fn to_stream(job: &Job<'_>, root: &DirectoryEntry, out: &mut (dyn Write + Send)) -> Result<()> {
    let entry = super::single_file(job, root.clone())?;
    let object = tree::object_of(&entry)?;
    let written = run(job, out, |output| output.push_object(object));
    let name = String::from_utf8_lossy(&entry.name);
    written.map_err(|error| copy_of(&error).while_doing(format!("file {name:?}")))?;
    job.files.fetch_add(1, Ordering::Relaxed);
    Progress::add(&job.progress.files_done, 1);
    Ok(())
}

/// Fills a member up: zeros for what its object lacks, and to whole blocks.
fn write_padding(out: &mut (dyn Write + Send), announced: u64, written: u64) -> io::Result<()> {
    let missing = announced.next_multiple_of(BLOCK_BYTES as u64).saturating_sub(written);
    io::copy(&mut io::repeat(0).take(missing), out).map(drop)
}
