//! Encodes entries as an index and stores index blobs so that no reader can miss them.
//!
//! With epochs, a blob must become visible while its epoch is the write epoch or the one before:
//! compaction looks at an epoch once it is two behind, and never again (format document §4.7.4).

use super::catalog::PackCatalog;
use super::context::ContentContext;
use super::location::{LOCATION_LENGTH, Location};
use crate::error::{Error, ErrorKind, Result};
use kopia_format::epoch::{epoch_of, uncompacted_prefix};
use kopia_format::index::{IndexSurvey, RawEntry};
use kopia_format::{BlobId, SessionId};
use std::time::Duration;

/// The write epoch is listed again before a put if it was listed longer ago than this: with the
/// default of 20 minutes it leaves three quarters of the state's validity for the put.
const EPOCH_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Encodes `rows`, which are sorted and have no key twice, as one index.
///
/// # Errors
/// What the index version cannot represent.
pub(crate) fn encode_index(
    version: u32,
    catalog: &PackCatalog,
    rows: &[&[u8]],
    key_length: usize,
    random_suffix: Option<[u8; 32]>,
) -> Result<Vec<u8>> {
    let mut survey = IndexSurvey::new(version)?;
    for_each_row(catalog, rows, key_length, &mut |entry, pack| Ok(survey.add(entry, pack)?))?;
    let mut writer = survey.finish()?;
    let suffix_length = random_suffix.map_or(0, |suffix| suffix.len());
    let mut out = Vec::with_capacity(writer.length() as usize + suffix_length);
    writer.write_header(&mut out);
    for_each_row(catalog, rows, key_length, &mut |entry, pack| {
        Ok(writer.write_entry(entry, pack, &mut out)?)
    })?;
    writer.write_tables(random_suffix, &mut out)?;
    Ok(out)
}

fn for_each_row(
    catalog: &PackCatalog,
    rows: &[&[u8]],
    key_length: usize,
    each: &mut dyn FnMut(&RawEntry, &str) -> Result<()>,
) -> Result<()> {
    let mut pack: Option<(u32, BlobId)> = None;
    for row in rows {
        debug_assert_eq!(row.len(), key_length + LOCATION_LENGTH);
        let location = Location::decode(&row[key_length..]);
        let name = match pack.take() {
            Some((number, name)) if number == location.pack => name,
            _ => catalog.name(location.pack)?,
        };
        each(&catalog.entry(&row[..key_length], &location)?, name.as_str())?;
        pack = Some((location.pack, name));
    }
    Ok(())
}

/// The write epoch as it was at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteEpoch {
    number: u64,
    listed_seconds: i64,
}

impl WriteEpoch {
    /// The current one, from the markers as the storage lists them now.
    pub(crate) fn list(context: &ContentContext) -> Result<Self> {
        let listed_seconds = context.clock.now().seconds;
        let mut number = 0;
        context.storage.list("xe", &mut |blob| {
            number = number.max(epoch_of(blob.id.as_str()).unwrap_or(0));
            Ok(())
        })?;
        let seconds = context.clock.now().seconds - listed_seconds;
        if seconds > EPOCH_AGE_MAX.as_secs() as i64 {
            let message = format!("listing epoch markers took {seconds} s: too slow to store indexes safely");
            return Err(Error::new(ErrorKind::Storage, message).temporary());
        }
        Ok(Self { number, listed_seconds })
    }

    /// Whether the epoch may by now be two behind. No epoch is shorter than the repository says, so that within half
    /// of this time at most one can have begun.
    fn may_be_settled(&self, context: &ContentContext) -> bool {
        let shortest = Duration::from_nanos(context.epochs.min_epoch_duration.max(0).cast_unsigned());
        let safe = EPOCH_AGE_MAX.min(shortest / 2);
        let age = context.clock.now().seconds - self.listed_seconds;
        !(0..safe.as_secs() as i64).contains(&age)
    }
}

/// Stores `index` as one index blob of the kind that the repository uses; `epoch` was listed before.
///
/// # Errors
/// A temporary `Storage` error if storing took so long that readers might miss the blob; it is
/// deleted again then.
pub(crate) fn store_index(
    context: &ContentContext,
    session: &SessionId,
    index: &[u8],
    epoch: Option<WriteEpoch>,
) -> Result<BlobId> {
    if !context.epochs.enabled {
        return context.put_sealed("n", Some(session.as_str()), index);
    }
    let epoch = match epoch.filter(|epoch| !epoch.may_be_settled(context)) {
        Some(epoch) => epoch,
        None => WriteEpoch::list(context)?,
    };
    let suffix = format!("{session}-c1");
    let id = context.put_sealed(&uncompacted_prefix(epoch.number), Some(&suffix), index)?;
    if epoch.may_be_settled(context) && WriteEpoch::list(context)?.number >= epoch.number + 2 {
        context.storage.delete(&id)?;
        let message = format!("storing index blob {id} took so long that its epoch is settled; try again");
        return Err(Error::new(ErrorKind::Storage, message).temporary().with("blob", id));
    }
    Ok(id)
}
