//! Forgetting contents that were deleted long enough ago (format document §8.6, step 2): with epochs
//! by a watermark that masks them, without by an index compaction that leaves them out.

use super::super::cycle::{Cycle, Finished};
use super::super::report::TaskDetails;
use super::{compact_index, epochs};
use crate::error::Result;
use kopia_format::Timestamp;
use kopia_format::maintenance::{MaintenanceTask, drop_deleted_before};

/// What was deleted before this may go; `None` if nothing may yet.
pub(in crate::maintenance) fn time(cycle: &Cycle<'_>) -> Result<Option<Timestamp>> {
    let schedule = cycle.schedule()?;
    let runs = schedule.runs_of(MaintenanceTask::SnapshotGc);
    Ok(drop_deleted_before(runs, &cycle.safety, cycle.now()))
}

pub(in crate::maintenance) fn drop(cycle: &Cycle<'_>, time: Timestamp) -> Result<Finished> {
    let dropped = if cycle.has_epochs() {
        epochs::set_watermark(cycle, time.seconds)?
    } else {
        compact_index::drop_deleted(cycle, time)?
    };
    match dropped {
        true => {
            cycle.repository.contents().refresh()?;
            Ok(Finished::Done(TaskDetails::DropDeleted { deleted_before: time }))
        }
        false => Ok(Finished::Nothing(format!("what was deleted before {time} is dropped already"))),
    }
}
