//! Rewriting the contents of short packs into full ones (format document §8.6, step 1).
//!
//! The old packs become orphans, which a later deletion takes. Contents are read pack by pack,
//! in the order in which they lie there. Unlike Kopia's, this leaves deleted contents where they are:
//! a rewrite makes an entry younger, and what is rewritten every other day is never forgotten. That a rewrite has begun is recorded before anything is
//! written: should it be killed, deletion still waits its hour.

use super::super::cycle::{Cycle, Finished};
use super::super::report::{CountAndBytes, TaskDetails};
use super::super::schedule;
use super::Freshness;
use super::snapshot_gc::is_lost;
use crate::content::frozen::{FrozenIndex, PackedPlace};
use crate::content::{ContentInfo, WriteScratch};
use crate::error::{Error, Result};
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
const STRETCH_PLACES: usize = 64;

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
    let rewriting = Rewriting { cycle, index: &index, counts: &shared, freshness: Mutex::new(freshness) };
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
}

impl Rewriting<'_> {
    /// Rewrites what is in `batch` and empties it.
    fn batch(&self, batch: &mut Vec<PackedPlace>) -> Result<()> {
        batch.sort_unstable();
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            let mut scratch = WriteScratch::default();
            while failed.lock().is_none() {
                let from = next.fetch_add(STRETCH_PLACES, Ordering::Relaxed);
                let Some(rest) = batch.get(from..).filter(|rest| !rest.is_empty()) else { return };
                let stretch = &rest[..rest.len().min(STRETCH_PLACES)];
                if let Err(error) = stretch.iter().try_for_each(|place| self.place(place, &mut scratch)) {
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

    fn place(&self, place: &PackedPlace, scratch: &mut WriteScratch) -> Result<()> {
        self.freshness.lock().keep(self.cycle)?;
        let contents = self.cycle.repository.contents();
        let id = self.index.content_at(place.row as usize)?;
        let pack = contents.pack_name(place.pack)?;
        // Another client may have moved or deleted it since: then it is not our business any more.
        let Some(info) = contents.info(&id)?.filter(|info| info.pack == pack && !info.deleted) else {
            return Ok(());
        };
        let written = Timestamp::from_unix_seconds(info.timestamp_seconds);
        let age = self.cycle.now().nanoseconds_since(written);
        if age < self.cycle.safety.rewrite_min_age.as_nanos() as i128 {
            self.counts.lock().retained.add(info.packed_length.into());
            return Ok(());
        }
        self.counts.lock().to_rewrite.add(info.packed_length.into());
        if self.cycle.dry_run { Ok(()) } else { self.content(&info, scratch) }
    }

    fn content(&self, info: &ContentInfo, scratch: &mut WriteScratch) -> Result<()> {
        let rewritten = self.cycle.repository.contents().rewrite(&info.id, scratch);
        let mut counts = self.counts.lock();
        match rewritten {
            Ok(()) => counts.rewritten.add(info.packed_length.into()),
            Err(error) if is_lost(&error) => {
                counts.unreadable += 1;
                counts.first_unreadable.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
