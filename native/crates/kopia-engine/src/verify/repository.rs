//! All contents of a repository, pack by pack, with a memory of what was read back when.
//!
//! First every live index entry against the pack that it names (present, long enough, no two contents in one
//! place), then packs are read whole, the longest unread first. The index is walked once for each stretch of packs that
//! fits into the memory budget: twenty million contents are never sorted at once.

use super::bytes::{self, ReadQueue, Reading};
use super::choice::Choice;
use super::ledger::{Ledger, PackKey, Record, pack_key};
use super::pack_plan::{PackState, Wanted, coverage, packs_to_read, passes};
use super::report::{Damage, Findings, VerifyOptions};
use crate::cancel::CancelToken;
use crate::content::frozen::{FrozenIndex, NumberSet};
use crate::content::{ContentInfo, ContentManager};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repository::Repository;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// What is known is stored this often, so that a killed process loses no more.
const CHECKPOINT_SECONDS: i64 = 30;
/// Part of the memory budget for contents that are sorted together; at least so many of them.
const SORTED_SHARE: u64 = 4;
const SORTED_CONTENTS_MIN: usize = 10_000;

/// How a repository is verified.
#[derive(Debug, Clone, Default)]
pub struct RepositoryVerifyOptions {
    /// Share of the packs (`percent`, `seed`), threads, memory.
    pub read: VerifyOptions,
    /// Read about so many bytes.
    pub budget_bytes: Option<u64>,
    /// Read only what was not read back at or after this Unix second.
    pub unread_since_seconds: Option<u32>,
    /// Spans for which the result says how much was read back within them.
    pub windows_seconds: Vec<u64>,
    /// Where the ledger is; without one nothing is remembered.
    pub ledger: Option<PathBuf>,
}

/// What was found, and what may be said now.
#[derive(Debug)]
pub struct RepositoryVerifyResult {
    /// Live contents, all checked against their packs.
    pub content_count: u64,
    /// Packs that they are in.
    pub pack_count: u64,
    /// Packs read back whole.
    pub read_packs: u64,
    /// Contents read back, and their stored bytes.
    pub read_count: u64,
    /// Their stored bytes.
    pub read_bytes: u64,
    /// Bytes of packs that were to be read and were not: the work was canceled, or they are damaged.
    pub left_bytes: u64,
    /// Damages found.
    pub damage_count: u64,
    /// The first of them.
    pub damages: Vec<Damage>,
    /// Whether the work was ended early.
    pub canceled: bool,
    /// How much was read back when, earlier verifications included.
    pub coverage: Coverage,
}

/// How much of the live bytes was read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Coverage {
    /// All live bytes, as stored.
    pub bytes: u64,
    /// Of these never read back whole.
    pub never_bytes: u64,
    /// When the pack was read back that was not read for the longest time; `None` if some never was.
    pub oldest_seconds: Option<u32>,
    /// For each span that was asked for.
    pub within: Vec<WithinWindow>,
}

/// Bytes read back within a span of time.
#[derive(Debug, Clone, PartialEq)]
pub struct WithinWindow {
    /// The span.
    pub seconds: u64,
    /// Bytes read back within it.
    pub bytes: u64,
    /// Their share, rounded down.
    pub percent: f64,
}

/// Checks all indexes against all packs and reads back, and hashes, the packs that `options` choose.
///
/// A canceled verification is a result as well: what was read back is in the ledger.
///
/// # Errors
/// Those of listing the storage and of reading indexes; `Filesystem` of the ledger. Damage is in the result.
pub fn verify_repository(
    repository: &Repository,
    options: &RepositoryVerifyOptions,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<RepositoryVerifyResult> {
    let findings = Findings::new(&options.read, progress);
    let mut verification = Verification::survey(repository, options, cancel)?;
    verification.checkpoint()?;
    let worked = verification.check_and_read(&findings);
    let canceled = match worked {
        Err(error) if error.kind == ErrorKind::Canceled => true,
        worked => worked.map(|()| cancel.is_canceled())?,
    };
    verification.checkpoint()?;
    Ok(verification.result(findings, canceled))
}

struct Verification<'a> {
    repository: &'a Repository,
    options: &'a RepositoryVerifyOptions,
    cancel: &'a CancelToken,
    index: FrozenIndex,
    /// By pack number.
    packs: Vec<PackState>,
    /// Packs to read, then all others.
    order: Vec<u32>,
    read_count: usize,
    reads: PackReads,
    recorded: NumberSet,
    checkpoint_seconds: i64,
    refreshed: bool,
}

/// How far reading is; shared with the threads that read.
struct PackReads {
    /// Contents not read yet, by pack number.
    outstanding: Vec<AtomicU32>,
    damaged: NumberSet,
    /// Packs of which every content is whole.
    whole: NumberSet,
}

impl PackReads {
    fn new(packs: &[PackState]) -> Self {
        Self {
            outstanding: packs.iter().map(|pack| AtomicU32::new(pack.contents)).collect(),
            damaged: NumberSet::below(packs.len()),
            whole: NumberSet::below(packs.len()),
        }
    }

    /// Notes that a content of the pack was read; whether all of the pack is read back now.
    fn observe(&self, pack: u32, is_whole: bool) -> bool {
        let number = pack as usize;
        if !is_whole {
            self.damaged.add(number);
        }
        let Some(outstanding) = self.outstanding.get(number) else { return false };
        // Who takes the last one sees what all others have noted before.
        let was_last = outstanding.fetch_sub(1, Ordering::AcqRel) == 1;
        was_last && !self.damaged.contains(number) && self.whole.add(number)
    }
}

/// A content of the packs that are looked at together, in 16 bytes; sorted as it is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    /// Place of the pack in the order.
    rank: u32,
    offset: u32,
    length: u32,
    /// Row in the frozen index.
    row: u32,
}

impl<'a> Verification<'a> {
    /// Looks at all entries, lists all packs and decides what is to be read.
    fn survey(
        repository: &'a Repository,
        options: &'a RepositoryVerifyOptions,
        cancel: &'a CancelToken,
    ) -> Result<Self> {
        let contents = repository.contents();
        let index = contents.freeze()?;
        let mut packs = vec![PackState::default(); contents.pack_count()];
        contents.for_each_place(&index, &mut |content| {
            cancel.check()?;
            let live = packs.get_mut(content.place.pack as usize).filter(|_| !content.deleted);
            if let Some(pack) = live {
                pack.contents += 1;
                pack.live_bytes += u64::from(content.length);
            }
            Ok(())
        })?;
        list_lengths(repository, &mut packs)?;
        let read = &options.read;
        remember(repository, options, &mut packs, Choice::new(read.percent, read.seed))?;
        let wanted =
            Wanted { unread_since_seconds: options.unread_since_seconds, budget_bytes: options.budget_bytes };
        let mut order = packs_to_read(&packs, &wanted);
        let read_count = order.len();
        order.extend(others(&packs, &order));
        let (reads, recorded) = (PackReads::new(&packs), NumberSet::below(packs.len()));
        let checkpoint_seconds = repository.clock().now().seconds;
        let refreshed = false;
        Ok(Self {
            repository,
            options,
            cancel,
            index,
            packs,
            order,
            read_count,
            reads,
            recorded,
            checkpoint_seconds,
            refreshed,
        })
    }

    fn contents(&self) -> &'a ContentManager {
        self.repository.contents()
    }

    fn check_and_read(&mut self, findings: &Findings<'_>) -> Result<()> {
        let wanted = &self.order[..self.read_count];
        let bytes = wanted.iter().map(|&number| self.packs[number as usize].live_bytes).sum();
        Progress::add(&findings.progress.bytes_total, bytes);
        let reads = std::mem::replace(&mut self.reads, PackReads::new(&[]));
        let contents = self.contents();
        let observe = |info: &ContentInfo, wrong: Option<&Error>| {
            let pack = contents.pack_number(&info.pack);
            if pack.is_some_and(|pack| reads.observe(pack, wrong.is_none())) {
                Progress::add(&findings.progress.files_done, 1);
            }
        };
        let reading = Reading { hashing: true, observe: &observe };
        let worked = bytes::run(contents, &self.options.read, findings, self.cancel, reading, |queue| {
            self.walk(queue, findings, &reads)
        });
        self.reads = reads;
        worked
    }

    fn walk(&mut self, queue: &mut ReadQueue<'_>, findings: &Findings<'_>, reads: &PackReads) -> Result<()> {
        let share = self.options.read.memory_budget_bytes / SORTED_SHARE;
        let most = (share as usize / size_of::<Placed>()).max(SORTED_CONTENTS_MIN);
        let mut ranks = vec![u32::MAX; self.packs.len()];
        for (rank, &number) in (0u32..).zip(&self.order) {
            ranks[number as usize] = rank;
        }
        let mut start = 0;
        for end in passes(&self.packs, &self.order, most) {
            let placed = self.placed(start as u32..end as u32, &ranks)?;
            self.stretch(&placed, queue, findings, reads)?;
            start = end;
        }
        Ok(())
    }

    /// The live contents of the packs of these ranks, in order of rank and offset.
    fn placed(&self, wanted: Range<u32>, ranks: &[u32]) -> Result<Vec<Placed>> {
        let mut found = Vec::new();
        self.contents().for_each_place(&self.index, &mut |content| {
            self.cancel.check()?;
            let place = content.place;
            let rank = ranks.get(place.pack as usize).copied().unwrap_or(u32::MAX);
            if !content.deleted && wanted.contains(&rank) {
                found.push(Placed { rank, offset: place.offset, length: content.length, row: place.row });
            }
            Ok(())
        })?;
        found.sort_unstable();
        Ok(found)
    }

    fn stretch(
        &mut self,
        placed: &[Placed],
        queue: &mut ReadQueue<'_>,
        findings: &Findings<'_>,
        reads: &PackReads,
    ) -> Result<()> {
        let mut before: Option<Placed> = None;
        for one in placed {
            if before.is_none_or(|before| before.rank != one.rank) {
                self.checkpoint_if_due(reads)?;
            }
            findings.contents.fetch_add(1, Ordering::Relaxed);
            let number = self.order[one.rank as usize];
            let wrong = wrong_place(&self.packs[number as usize], before.as_ref(), one);
            before = Some(*one);
            if let Some((kind, why)) = wrong {
                self.damaged(number, one, (kind, why), findings, reads)?;
            } else if (one.rank as usize) < self.read_count {
                queue.push(self.contents().info_at(&self.index, one.row as usize)?, None)?;
            }
        }
        Ok(())
    }

    fn damaged(
        &mut self,
        number: u32,
        placed: &Placed,
        (kind, why): (ErrorKind, String),
        findings: &Findings<'_>,
        reads: &PackReads,
    ) -> Result<()> {
        let info = self.contents().info_at(&self.index, placed.row as usize)?;
        if kind == ErrorKind::BlobNotFound && self.has_moved(&info)? {
            return Ok(());
        }
        reads.damaged.add(number as usize);
        let what = format!("content {} in pack {} at offset {}", info.id, info.pack, info.offset);
        let error = Error::new(kind, why).while_doing(what).with("content", info.id).with("pack", &info.pack);
        findings.damage(None, b"", &error);
        Ok(())
    }

    /// Whether the content was stored elsewhere, or deleted, since the index was read: maintenance runs beside.
    fn has_moved(&mut self, info: &ContentInfo) -> Result<bool> {
        if !self.refreshed {
            self.repository.refresh()?;
            self.refreshed = true;
        }
        let now = self.contents().info(&info.id)?;
        Ok(now.is_none_or(|now| now.deleted || now.pack != info.pack))
    }

    fn checkpoint_if_due(&mut self, reads: &PackReads) -> Result<()> {
        let now = self.repository.clock().now().seconds;
        if now - self.checkpoint_seconds < CHECKPOINT_SECONDS {
            return Ok(());
        }
        note(&mut self.packs, reads, &self.recorded, self.checkpoint_seconds);
        self.checkpoint_seconds = now;
        self.save(reads)
    }

    fn checkpoint(&mut self) -> Result<()> {
        note(&mut self.packs, &self.reads, &self.recorded, self.checkpoint_seconds);
        self.checkpoint_seconds = self.repository.clock().now().seconds;
        self.save(&self.reads)
    }

    /// Stores the ledger; what another verification has stored since is kept where it is newer.
    fn save(&self, reads: &PackReads) -> Result<()> {
        let Some(path) = &self.options.ledger else { return Ok(()) };
        let unique_id = self.repository.unique_id();
        let stored = Ledger::load(path, unique_id).unwrap_or_default();
        let mut rows: Vec<(PackKey, Record)> = Vec::new();
        for (number, pack) in (0u32..).zip(&self.packs) {
            let key = pack_key(&self.contents().pack_name(number)?);
            let is_damaged = reads.damaged.contains(number as usize);
            let record = if is_damaged { pack.record } else { pack.record.max(stored.record(&key)) };
            if record.at_seconds > 0 {
                rows.push((key, record));
            }
        }
        Ledger::new(rows).save(path, unique_id)
    }

    fn result(self, findings: Findings<'_>, canceled: bool) -> RepositoryVerifyResult {
        let now = self.repository.clock().now().seconds;
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        let wanted = &self.order[..self.read_count];
        let left = wanted.iter().filter(|&&number| !self.reads.whole.contains(number as usize));
        let left_bytes = left.map(|&number| self.packs[number as usize].live_bytes).sum();
        let coverage = coverage(&self.packs, now, &self.options.windows_seconds);
        let found = findings.finish();
        RepositoryVerifyResult {
            content_count: found.content_count,
            pack_count: self.order.len() as u64,
            read_packs: self.reads.whole.numbers().count() as u64,
            read_count: found.read_count,
            read_bytes: found.read_bytes,
            left_bytes,
            damage_count: found.damage_count,
            damages: found.damages,
            canceled,
            coverage,
        }
    }
}

/// Takes over what was read: whole packs were read back after `since_seconds`, damaged ones never.
fn note(packs: &mut [PackState], reads: &PackReads, recorded: &NumberSet, since_seconds: i64) {
    let at_seconds = u32::try_from(since_seconds).unwrap_or(u32::MAX);
    for number in reads.whole.numbers().filter(|&number| recorded.add(number)) {
        packs[number].record = Record { at_seconds, bytes: packs[number].live_bytes };
    }
    for number in reads.damaged.numbers() {
        packs[number].record = Record::default();
    }
}

fn list_lengths(repository: &Repository, packs: &mut [PackState]) -> Result<()> {
    for prefix in ["p", "q"] {
        repository.storage().list(prefix, &mut |blob| {
            let number = repository.contents().pack_number(&blob.id);
            if let Some(pack) = number.and_then(|number| packs.get_mut(number as usize)) {
                pack.length = Some(blob.length);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Takes over what the ledger says, and which packs are in the random share.
fn remember(
    repository: &Repository,
    options: &RepositoryVerifyOptions,
    packs: &mut [PackState],
    choice: Choice,
) -> Result<()> {
    let ledger = match &options.ledger {
        None => Ledger::default(),
        Some(path) => match Ledger::load(path, repository.unique_id()) {
            Err(error) if error.kind == ErrorKind::Corrupted => {
                tracing::warn!("{error}: nothing counts as read back, and a new one is begun");
                Ledger::default()
            }
            loaded => loaded?,
        },
    };
    for (number, pack) in (0u32..).zip(packs) {
        let key = pack_key(&repository.contents().pack_name(number)?);
        pack.record = ledger.record(&key);
        pack.chosen = choice.is_number_chosen(u64::from_le_bytes([
            key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7],
        ]));
    }
    Ok(())
}

/// Packs with live contents that are not to be read.
fn others(packs: &[PackState], to_read: &[u32]) -> Vec<u32> {
    let wanted = NumberSet::below(packs.len());
    for &number in to_read {
        wanted.add(number as usize);
    }
    let is_other = |number: &u32| packs[*number as usize].contents > 0 && !wanted.contains(*number as usize);
    (0..packs.len() as u32).filter(is_other).collect()
}

/// What is wrong with the place that the index gives for a content.
fn wrong_place(pack: &PackState, before: Option<&Placed>, one: &Placed) -> Option<(ErrorKind, String)> {
    let end = u64::from(one.offset) + u64::from(one.length);
    let Some(length) = pack.length else {
        return Some((ErrorKind::BlobNotFound, "the pack is not in the storage".to_owned()));
    };
    if end > length {
        let why = format!("the pack has only {length} bytes, {end} are needed");
        return Some((ErrorKind::Corrupted, why));
    }
    let before = before.filter(|before| before.rank == one.rank)?;
    let free_from = u64::from(before.offset) + u64::from(before.length);
    let why = || format!("another content is in the same place, up to offset {free_from}");
    (free_from > u64::from(one.offset)).then(|| (ErrorKind::Corrupted, why()))
}
