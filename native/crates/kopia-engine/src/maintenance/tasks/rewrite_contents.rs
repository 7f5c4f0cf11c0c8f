//! Rewriting the contents of short packs into full ones (format document §8.6, step 1).
//!
//! The old packs become orphans, which a later deletion takes. Contents are read pack by pack, in the order in which
//! they lie there and many at once. Unlike Kopia's, this leaves deleted contents where they are: a rewrite makes an entry
//! younger, and what is rewritten every other day is never forgotten. That a rewrite has begun is recorded before
//! anything is written: should it be killed, deletion still waits its hour.

use super::super::cycle::{Cycle, Finished};
use super::super::report::{CountAndBytes, TaskDetails};
use super::super::schedule;
use super::Freshness;
use super::snapshot_gc::is_lost;
use crate::content::frozen::{FrozenIndex, PackedPlace};
use crate::content::{ContentInfo, GroupReader, ReadTraffic, WriteScratch};
use crate::error::{Error, Result};
use crate::progress::Progress;
use kopia_format::Timestamp;
use kopia_format::maintenance::{MaintenanceRun, MaintenanceTask};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Packs with less than this share of a full one are short.
const SHORT_PERCENT: u64 = 60;
/// Places gathered before they are rewritten: 12 MB.
const BATCH_PLACES: usize = 1 << 20;
/// Threads that rewrite, and neighbours that each takes at once.
const REWRITERS_MAX: usize = 4;
const STRETCH_PLACES: usize = 1024;

/// Rewrites short packs whose names begin with one of `prefixes`.
pub(in crate::maintenance) fn rewrite(cycle: &Cycle<'_>, prefixes: &[&str]) -> Result<Finished> {
    let contents = cycle.repository.contents();
    let freshness = Freshness::new(cycle)?;
    let index = contents.freeze()?;
    let short = short_packs(cycle, &index, prefixes)?;
    let short_packs = short.iter().filter(|is_short| **is_short).count() as u64;
    if short_packs == 0 {
        return Ok(Finished::Nothing("fewer than two short packs of a kind".into()));
    }
    if !cycle.dry_run {
        record_intention(cycle, prefixes)?;
    }
    let shared = Mutex::new(Counts::default());
    let rewriting = Rewriting {
        cycle,
        index: &index,
        counts: &shared,
        freshness: Mutex::new(freshness),
        traffic: ReadTraffic::default(),
    };
    let mut batch = Vec::new();
    contents.for_each_place(&index, &mut |content| {
        if !content.deleted && short.get(content.place.pack as usize).copied().unwrap_or(false) {
            batch.push(content.place);
        }
        if batch.len() < BATCH_PLACES { Ok(()) } else { rewriting.batch(&mut batch) }
    })?;
    rewriting.batch(&mut batch)?;
    if !cycle.dry_run {
        cycle.repository.flush()?;
    }
    Ok(shared.into_inner().finish(short_packs))
}

/// Which packs, by number, are short; none of a prefix that has only one.
fn short_packs(cycle: &Cycle<'_>, index: &FrozenIndex, prefixes: &[&str]) -> Result<Vec<bool>> {
    let contents = cycle.repository.contents();
    let threshold = contents.max_pack_size_bytes() * SHORT_PERCENT / 100;
    let bytes = contents.bytes_in_packs(index)?;
    let mut short = vec![false; bytes.len()];
    for prefix in prefixes {
        let mut found = Vec::new();
        for (number, pack) in bytes.iter().enumerate() {
            let is_candidate = pack.live > 0 && pack.all < threshold;
            if is_candidate && contents.pack_name(number as u32)?.as_str().starts_with(prefix) {
                found.push(number);
            }
        }
        if found.len() >= 2 {
            found.into_iter().for_each(|number| short[number] = true);
        }
    }
    Ok(short)
}

fn record_intention(cycle: &Cycle<'_>, prefixes: &[&str]) -> Result<()> {
    let task = match prefixes {
        ["q"] => MaintenanceTask::QuickRewriteContents,
        _ => MaintenanceTask::FullRewriteContents,
    };
    // The run's own record, with the same start, takes its place.
    let start = cycle.task_started;
    let run = MaintenanceRun { start, end: cycle.now(), success: true, ..MaintenanceRun::default() };
    schedule::record(cycle.repository, task, run)
}

#[derive(Default)]
struct Counts {
    to_rewrite: CountAndBytes,
    rewritten: CountAndBytes,
    retained: CountAndBytes,
    unreadable: u64,
    first_unreadable: Option<Error>,
}

impl Counts {
    fn finish(self, short_packs: u64) -> Finished {
        let Self { to_rewrite, rewritten, retained, unreadable, first_unreadable } = self;
        let details = TaskDetails::Rewrite { short_packs, to_rewrite, rewritten, retained, unreadable };
        match first_unreadable {
            None => Finished::Done(details),
            // It counts: other packs were rewritten, and their deletion must wait.
            Some(first) => {
                let error = format!("{unreadable} contents cannot be read and stay where they are: {first}");
                Finished::Partly { details, error, counts: true }
            }
        }
    }
}

struct Rewriting<'a> {
    cycle: &'a Cycle<'a>,
    index: &'a FrozenIndex,
    counts: &'a Mutex<Counts>,
    freshness: Mutex<Freshness>,
    traffic: ReadTraffic,
}

impl Rewriting<'_> {
    /// Rewrites what is in `batch` and empties it.
    fn batch(&self, batch: &mut Vec<PackedPlace>) -> Result<()> {
        batch.sort_unstable();
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            let mut worker = Worker::new(self);
            while failed.lock().is_none() {
                let from = next.fetch_add(STRETCH_PLACES, Ordering::Relaxed);
                let Some(rest) = batch.get(from..).filter(|rest| !rest.is_empty()) else { return };
                if let Err(error) = worker.stretch(&rest[..rest.len().min(STRETCH_PLACES)]) {
                    failed.lock().get_or_insert(error);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(REWRITERS_MAX);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        batch.clear();
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// The content at a place, if it is to be rewritten.
    fn wanted(&self, place: &PackedPlace) -> Result<Option<ContentInfo>> {
        let contents = self.cycle.repository.contents();
        let id = self.index.content_at(place.row as usize)?;
        let pack = contents.pack_name(place.pack)?;
        // Another client may have moved or deleted it since: then it is not our business any more.
        let Some(info) = contents.info(&id)?.filter(|info| info.pack == pack && !info.deleted) else {
            return Ok(None);
        };
        let written = Timestamp::from_unix_seconds(info.timestamp_seconds);
        let age = self.cycle.now().nanoseconds_since(written);
        if age < self.cycle.safety.rewrite_min_age.as_nanos() as i128 {
            self.counts.lock().retained.add(info.packed_length.into());
            return Ok(None);
        }
        self.counts.lock().to_rewrite.add(info.packed_length.into());
        Ok(Some(info))
    }
}

/// One thread that rewrites: neighbours are read together, and hashed side by side.
struct Worker<'a> {
    rewriting: &'a Rewriting<'a>,
    reader: GroupReader<'a>,
    scratch: WriteScratch,
    data: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(rewriting: &'a Rewriting<'a>) -> Self {
        let mut reader = GroupReader::new(rewriting.cycle.repository.contents(), &rewriting.traffic);
        reader.hashing = true;
        Self { rewriting, reader, scratch: WriteScratch::default(), data: Vec::new() }
    }

    fn stretch(&mut self, places: &[PackedPlace]) -> Result<()> {
        let group_bytes = self.rewriting.cycle.repository.contents().read_group_bytes();
        let (mut group, mut bytes) = (Vec::new(), 0);
        for place in places {
            let Some(info) = self.rewriting.wanted(place)? else { continue };
            bytes += u64::from(info.packed_length);
            group.push(info);
            if bytes >= group_bytes {
                self.group(&group)?;
                group.clear();
                bytes = 0;
            }
        }
        self.group(&group)
    }

    fn group(&mut self, infos: &[ContentInfo]) -> Result<()> {
        let Self { rewriting, reader, scratch, data } = self;
        rewriting.freshness.lock().keep(rewriting.cycle)?;
        if rewriting.cycle.dry_run {
            return Ok(());
        }
        let mut outcome = Ok(());
        reader.read(infos, &mut |index, plain| {
            if outcome.is_ok() {
                outcome = rewriting.content(&infos[index], plain, data, scratch);
            }
        });
        outcome
    }
}

impl Rewriting<'_> {
    fn content(
        &self,
        info: &ContentInfo,
        plain: Result<&[u8]>,
        data: &mut Vec<u8>,
        scratch: &mut WriteScratch,
    ) -> Result<()> {
        let plain = match plain {
            Err(error) if is_lost(&error) => {
                let mut counts = self.counts.lock();
                counts.unreadable += 1;
                counts.first_unreadable.get_or_insert(error);
                return Ok(());
            }
            plain => plain?,
        };
        data.clear();
        data.extend_from_slice(plain);
        self.cycle.repository.contents().rewrite_from(info, data, scratch)?;
        self.counts.lock().rewritten.add(info.packed_length.into());
        self.cycle.looked_at(1);
        Progress::add(&self.cycle.progress.bytes_uploaded, info.packed_length.into());
        Ok(())
    }
}
