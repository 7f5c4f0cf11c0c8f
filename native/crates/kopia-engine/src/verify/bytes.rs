//! Reads contents back: gathers, sorts by pack and offset, cuts into groups, gives groups to threads.

use super::report::{Findings, VerifyOptions};
use crate::cancel::CancelToken;
use crate::content::{ContentInfo, ContentManager, GroupReader};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crossbeam_channel::{Receiver, Sender, bounded};
use kopia_format::encryption::SEAL_OVERHEAD;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bounds of what is sorted at once.
const BATCH_CONTENTS_MAX: usize = 16_384;
const BATCH_BYTES: u64 = 256 << 20;
/// Most bytes of a group; large contents are grouped up to this for the sake of hashing.
const GROUP_BYTES_MAX: u64 = 18 << 20;
/// Threads for a storage that is far away.
const REMOTE_PARALLELISM: usize = 8;

/// Where a content was met, for the message if it is damaged.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) snapshot: Arc<str>,
    pub(super) path: Arc<[u8]>,
}

type Member = (ContentInfo, Option<Origin>);
type Group = Vec<Member>;

/// Takes contents to read.
pub(super) struct ReadQueue<'a> {
    batch: Group,
    bytes: u64,
    /// A group ends at this many bytes if it has enough contents to hash side by side.
    group_bytes: u64,
    group_bytes_max: u64,
    lanes: usize,
    groups: Sender<Group>,
    cancel: &'a CancelToken,
}

/// What is done with contents beside reading them.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    /// Hash what was opened, whatever the repository was opened with.
    pub(super) hashing: bool,
    /// Told of each content that was asked for, once, and what is wrong with it.
    pub(super) observe: &'a (dyn Fn(&ContentInfo, Option<&Error>) + Sync),
}

impl Reading<'_> {
    /// Nobody is told.
    pub(super) fn unobserved(hashing: bool) -> Self {
        Self { hashing, observe: &|_, _| () }
    }
}

/// Runs `plan` with a queue whose contents are read by threads beside it, and waits for all.
pub(super) fn run<T>(
    contents: &ContentManager,
    options: &VerifyOptions,
    findings: &Findings<'_>,
    cancel: &CancelToken,
    reading: Reading<'_>,
    plan: impl FnOnce(&mut ReadQueue<'_>) -> Result<T>,
) -> Result<T> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let usual = if contents.is_local() { cores } else { cores.max(REMOTE_PARALLELISM) };
    let workers = crate::content::parallel::workers(options.parallelism, usual);
    let share = options.memory_budget_bytes / workers as u64;
    let (groups, received) = bounded(workers);
    let planned = std::thread::scope(|scope| {
        for _ in 0..workers {
            let received = received.clone();
            scope.spawn(move || read_groups(contents, findings, cancel, reading, &received));
        }
        drop(received);
        let mut queue = ReadQueue {
            batch: Vec::new(),
            bytes: 0,
            // Each worker holds one group, so this keeps the budget.
            group_bytes: contents.read_group_bytes(),
            group_bytes_max: share.min(GROUP_BYTES_MAX),
            lanes: contents.read_lanes(reading.hashing),
            groups,
            cancel,
        };
        let planned = plan(&mut queue)?;
        queue.flush()?;
        Ok(planned)
    });
    // The readers passed over what was left: that is not to be taken for sound.
    planned.and_then(|planned| cancel.check().map(|()| planned))
}

impl ReadQueue<'_> {
    /// Reads a content, soon.
    pub(super) fn push(&mut self, info: ContentInfo, origin: Option<Origin>) -> Result<()> {
        self.bytes += u64::from(info.packed_length);
        self.batch.push((info, origin));
        if self.batch.len() >= BATCH_CONTENTS_MAX || self.bytes >= BATCH_BYTES {
            return self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.cancel.check()?;
        self.bytes = 0;
        let mut batch = std::mem::take(&mut self.batch);
        batch.sort_by(|(a, _), (b, _)| (a.pack.as_str(), a.offset).cmp(&(b.pack.as_str(), b.offset)));
        let (mut group, mut bytes) = (Group::new(), 0);
        for member in batch {
            let length = u64::from(member.0.packed_length.max(member.0.original_length));
            let enough = bytes >= self.group_bytes && group.len() >= self.lanes;
            if !group.is_empty() && (enough || bytes + length > self.group_bytes_max) {
                self.send(std::mem::take(&mut group))?;
                bytes = 0;
            }
            bytes += length;
            group.push(member);
        }
        if group.is_empty() { Ok(()) } else { self.send(group) }
    }

    fn send(&self, group: Group) -> Result<()> {
        self.groups.send(group).map_err(|_| Error::new(ErrorKind::Internal, "no thread reads any more"))
    }
}

fn read_groups(
    contents: &ContentManager,
    findings: &Findings<'_>,
    cancel: &CancelToken,
    reading: Reading<'_>,
    groups: &Receiver<Group>,
) {
    let mut reader = GroupReader::new(contents, &findings.traffic);
    reader.hashing |= reading.hashing;
    for group in groups {
        if cancel.is_canceled() {
            continue;
        }
        let (infos, origins): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        reader.read(&infos, &mut |index, read| {
            let (info, origin) = (&infos[index], &origins[index]);
            let stored = u64::from(info.packed_length);
            Progress::add(&findings.progress.bytes_downloaded, stored);
            findings.read.fetch_add(1, Ordering::Relaxed);
            findings.read_bytes.fetch_add(stored, Ordering::Relaxed);
            let judged = read.and_then(|plain| check_length(info, plain));
            (reading.observe)(info, judged.as_ref().err());
            if let Err(error) = judged {
                let (snapshot, path) = match origin {
                    Some(origin) => (Some(&*origin.snapshot), &*origin.path),
                    None => (None, &b""[..]),
                };
                findings.damage(snapshot, path, &error);
            }
        });
    }
}

/// The length in an index of version 1 is only a guess: the stored length less the usual seal.
fn check_length(info: &ContentInfo, plain: &[u8]) -> Result<()> {
    let (found, told) = (plain.len() as u64, u64::from(info.original_length));
    let guessed = info.packed_length.saturating_sub(SEAL_OVERHEAD as u32) == info.original_length;
    if found == told || guessed {
        return Ok(());
    }
    let message = format!("content {} has {found} bytes, the index says {told}", info.id);
    Err(Error::new(ErrorKind::Corrupted, message).with("content", info.id).with("pack", &info.pack))
}
