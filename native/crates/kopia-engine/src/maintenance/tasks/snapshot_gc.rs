//! Garbage collection of contents (format document §8.4): what no snapshot uses is marked as deleted,
//! what is in use and marked is stored anew. Nothing is forgotten here; that takes two
//! collections hours apart.

use super::super::cycle::{Cycle, Finished};
use super::super::report::{CountAndBytes, TaskDetails};
use super::Freshness;
use super::marking::{Marks, mark};
use crate::content::{ContentInfo, WriteScratch};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Labels;
use kopia_format::{ManifestId, Timestamp};

/// Prefix of manifest contents, which only manifest compaction deletes.
const MANIFEST_PREFIX: u8 = b'm';

pub(in crate::maintenance) fn collect(cycle: &Cycle<'_>) -> Result<Finished> {
    let ids = snapshot_ids(cycle)?;
    let marks = mark(cycle, &ids)?;
    let mut sweep = Sweep {
        cycle,
        marks,
        freshness: Freshness::new(cycle)?,
        scratch: WriteScratch::default(),
        counts: Counts::default(),
        unreadable: None,
        unreadable_count: 0,
    };
    cycle.repository.contents().for_each(true, &mut |info| sweep.content(&info))?;
    if !cycle.dry_run {
        cycle.repository.flush()?;
    }
    Ok(sweep.finish(ids.len() as u64))
}

fn snapshot_ids(cycle: &Cycle<'_>) -> Result<Vec<ManifestId>> {
    let labels = Labels::from([("type".to_owned(), "snapshot".to_owned())]);
    let found = cycle.repository.manifests().find(&labels)?;
    Ok(found.into_iter().map(|metadata| metadata.id).collect())
}

#[derive(Default)]
struct Counts {
    in_use: CountAndBytes,
    system: CountAndBytes,
    unused: CountAndBytes,
    deleted: CountAndBytes,
    too_recent: CountAndBytes,
    undeleted: CountAndBytes,
}

struct Sweep<'a> {
    cycle: &'a Cycle<'a>,
    marks: Marks,
    freshness: Freshness,
    scratch: WriteScratch,
    counts: Counts,
    /// The first content in use that could not be stored anew, and how many there are.
    unreadable: Option<Error>,
    unreadable_count: u64,
}

impl Sweep<'_> {
    fn content(&mut self, info: &ContentInfo) -> Result<()> {
        self.freshness.keep(self.cycle)?;
        self.cycle.looked_at(1);
        let bytes = u64::from(info.packed_length);
        if info.id.prefix() == Some(MANIFEST_PREFIX) {
            self.counts.system.add(bytes);
            return Ok(());
        }
        match self.marks.is_used(&info.id)? {
            Some(true) => {
                self.counts.in_use.add(bytes);
                if info.deleted { self.undelete(info) } else { Ok(()) }
            }
            Some(false) if !self.is_recent(info) => self.delete(info),
            // What came after the marking may be in use by a snapshot that is not saved yet.
            _ => {
                self.counts.too_recent.add(bytes);
                Ok(())
            }
        }
    }

    fn is_recent(&self, info: &ContentInfo) -> bool {
        let written = Timestamp::from_unix_seconds(info.timestamp_seconds);
        let margin = self.cycle.safety.min_content_age_subject_to_gc.as_nanos() as i128;
        self.cycle.start.nanoseconds_since(written) < margin
    }

    fn delete(&mut self, info: &ContentInfo) -> Result<()> {
        let bytes = u64::from(info.packed_length);
        self.counts.unused.add(bytes);
        if info.deleted || self.cycle.dry_run {
            return Ok(());
        }
        self.counts.deleted.add(bytes);
        self.cycle.repository.contents().delete(&info.id)
    }

    fn undelete(&mut self, info: &ContentInfo) -> Result<()> {
        if self.cycle.dry_run {
            self.counts.undeleted.add(info.packed_length.into());
            return Ok(());
        }
        match self.cycle.repository.contents().undelete(&info.id, &mut self.scratch) {
            Ok(()) => self.counts.undeleted.add(info.packed_length.into()),
            // It is lost, whatever we do; the others are not.
            Err(error) if is_lost(&error) => {
                self.unreadable_count += 1;
                self.unreadable.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn finish(self, snapshots: u64) -> Finished {
        let Counts { in_use, system, unused, deleted, too_recent, undeleted } = self.counts;
        let unreadable = self.unreadable_count;
        let details = TaskDetails::SnapshotGc {
            snapshots,
            in_use,
            system,
            unused,
            deleted,
            too_recent,
            undeleted,
            unreadable,
        };
        match self.unreadable {
            None => Finished::Done(details),
            // Not a success: nothing may be forgotten on the word of this collection.
            Some(first) => {
                let error = format!("{unreadable} contents that snapshots use are lost: {first}");
                Finished::Partly { details, error, counts: false }
            }
        }
    }
}

/// Whether bytes are gone, as against a storage that does not answer.
pub(super) fn is_lost(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::BlobNotFound | ErrorKind::InvalidRange | ErrorKind::Corrupted)
}
