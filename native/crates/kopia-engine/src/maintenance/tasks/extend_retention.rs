//! Extending object locks, so that blobs in use stay locked (format document §8.6, step 4).

use super::super::cycle::{Cycle, Finished};
use super::super::report::TaskDetails;
use crate::blob::retention::LOCKED_PREFIXES;
use crate::error::Result;

pub(in crate::maintenance) fn extend(cycle: &Cycle<'_>) -> Result<Finished> {
    let Some((mode, period)) = cycle.repository.contents().context().retention.0 else {
        return Ok(Finished::Nothing("the repository has no object locks".into()));
    };
    let storage = cycle.repository.storage();
    let (mut blobs, mut extended) = (0, 0);
    for prefix in LOCKED_PREFIXES {
        storage.list(prefix, &mut |blob| {
            blobs += 1;
            if !cycle.dry_run {
                cycle.cancel.check()?;
                storage.extend_retention(&blob.id, mode, period)?;
                extended += 1;
            }
            Ok(())
        })?;
    }
    Ok(Finished::Done(TaskDetails::ExtendRetention { blobs, extended }))
}
