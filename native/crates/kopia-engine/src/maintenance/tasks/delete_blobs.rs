//! Deleting packs that no index entry names, and old session markers (format document §8.7).
//!
//! The one task that cannot be undone. So it looks twice: candidates come from a fresh index, and
//! right before they go the index is read again, and once more whenever deleting takes long.

use super::super::cycle::{Cycle, Finished};
use super::super::report::{CountAndBytes, TaskDetails};
use super::Freshness;
use crate::blob::BlobMetadata;
use crate::content::frozen::NumberSet;
use crate::error::{Error, Result};
use kopia_format::Timestamp;
use kopia_format::session::decode_marker;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Blobs deleted between two looks at whether the index is fresh.
const BATCH_BLOBS: usize = 1000;
/// Deletions side by side.
const PARALLEL: usize = 8;
/// What is this much younger than the start is looked at all the same, as Kopia does.
const START_SLACK_NANOSECONDS: i128 = 1_000_000_000;

/// Deletes unreferenced blobs whose names begin with one of `prefixes`; `also_used` are packs to keep.
pub(in crate::maintenance) fn delete(
    cycle: &Cycle<'_>,
    prefixes: &[&str],
    also_used: Option<&NumberSet>,
) -> Result<Finished> {
    let mut freshness = Freshness::new(cycle)?;
    let mut used = cycle.repository.contents().packs_in_use()?;
    let sessions = active_sessions(cycle)?;
    let mut found = Found::default();
    let cutoff = cycle.start.plus_nanoseconds(START_SLACK_NANOSECONDS);
    for prefix in prefixes {
        cycle.repository.storage().list(prefix, &mut |blob| {
            if !is_used(cycle, &used, also_used, &blob) {
                found.add(cycle, blob, cutoff, &sessions);
            }
            Ok(())
        })?;
    }
    let mut deleted = CountAndBytes::default();
    if !cycle.dry_run && !found.to_delete.is_empty() {
        freshness = Freshness::new(cycle)?;
        used = cycle.repository.contents().packs_in_use()?;
    }
    for batch in found.to_delete.chunks(BATCH_BLOBS).filter(|_| !cycle.dry_run) {
        if freshness.keep(cycle)? {
            used = cycle.repository.contents().packs_in_use()?;
        }
        let batch: Vec<_> = batch.iter().filter(|blob| !is_used(cycle, &used, also_used, blob)).collect();
        delete_all(cycle, &batch, &mut deleted)?;
    }
    Ok(Finished::Done(found.details(deleted)))
}

fn is_used(cycle: &Cycle<'_>, used: &NumberSet, also_used: Option<&NumberSet>, blob: &BlobMetadata) -> bool {
    let contents = cycle.repository.contents();
    contents.has_pack(used, &blob.id) || also_used.is_some_and(|used| contents.has_pack(used, &blob.id))
}

fn delete_all(cycle: &Cycle<'_>, blobs: &[&BlobMetadata], deleted: &mut CountAndBytes) -> Result<()> {
    let next = AtomicUsize::new(0);
    let ended: Mutex<(&mut CountAndBytes, Option<Error>)> = Mutex::new((deleted, None));
    let work = || {
        while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match cycle.delete(&blob.id) {
                Ok(true) => ended.lock().0.add(blob.length),
                Ok(false) => {}
                Err(error) => {
                    ended.lock().1.get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..PARALLEL.min(blobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    ended.into_inner().1.map_or(Ok(()), Err)
}

/// When each session that has a marker was last known to be alive.
fn active_sessions(cycle: &Cycle<'_>) -> Result<HashMap<String, Timestamp>> {
    let mut markers = Vec::new();
    cycle.repository.storage().list("s", &mut |blob| {
        markers.push(blob);
        Ok(())
    })?;
    let mut sessions = HashMap::new();
    for blob in markers {
        let Some(session) = session_of(blob.id.as_str()) else { continue };
        let alive = match cycle.repository.contents().read_sealed_blob(&blob.id) {
            Ok(None) => continue,
            Ok(Some(json)) => decode_marker(&json).ok().map(|marker| marker.checkpoint_time),
            Err(error) if super::snapshot_gc::is_lost(&error) => None,
            Err(error) => return Err(error),
        };
        // A marker that cannot be read still says that there is a session, as of when it was written.
        let alive = alive.unwrap_or(blob.timestamp);
        let known = sessions.entry(session.to_owned()).or_insert(alive);
        *known = alive.max(*known);
    }
    Ok(sessions)
}

/// The session in the name of a pack or marker.
fn session_of(name: &str) -> Option<&str> {
    name.split_once('-').map(|(_, session)| session)
}

#[derive(Default)]
struct Found {
    to_delete: Vec<BlobMetadata>,
    unreferenced: CountAndBytes,
    retained: CountAndBytes,
    too_young: CountAndBytes,
    in_session: CountAndBytes,
    next_eligible: Option<Timestamp>,
}

impl Found {
    fn add(
        &mut self,
        cycle: &Cycle<'_>,
        blob: BlobMetadata,
        cutoff: Timestamp,
        sessions: &HashMap<String, Timestamp>,
    ) {
        let nanoseconds = |margin: Duration| margin.as_nanos() as i128;
        let min_age = nanoseconds(cycle.safety.pack_delete_min_age);
        if blob.timestamp > cutoff || cutoff.nanoseconds_since(blob.timestamp) < min_age {
            self.retained.add(blob.length);
            self.too_young.add(blob.length);
            let eligible = blob.timestamp.plus_nanoseconds(min_age);
            self.next_eligible = Some(self.next_eligible.map_or(eligible, |known| known.min(eligible)));
            return;
        }
        let alive = session_of(blob.id.as_str()).and_then(|session| sessions.get(session));
        let expiration = nanoseconds(cycle.safety.session_expiration_age);
        if alive.is_some_and(|alive| cutoff.nanoseconds_since(*alive) < expiration) {
            self.retained.add(blob.length);
            self.in_session.add(blob.length);
            return;
        }
        self.unreferenced.add(blob.length);
        self.to_delete.push(blob);
    }

    fn details(self, deleted: CountAndBytes) -> TaskDetails {
        TaskDetails::DeleteBlobs {
            unreferenced: self.unreferenced,
            deleted,
            retained: self.retained,
            too_young: self.too_young,
            in_session: self.in_session,
            next_eligible: self.next_eligible,
        }
    }
}
