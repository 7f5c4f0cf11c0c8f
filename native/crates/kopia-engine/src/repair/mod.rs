//! Repair of a damaged repository: the format blob, the index blobs, and what lost or damaged packs take along.
//!
//! `run` does all in this order, because each needs the one before. Looking comes first: a dry run
//! changes nothing and tells the same. Nothing is ever thrown away: damaged blobs are kept under
//! another name, contents that are lost are marked so that the next backup stores them again.

mod damaged;
mod format;
mod hiding;
mod indexes;
mod losses;
mod lost_contents;

pub use damaged::DamagedBlob;
pub use format::{FormatRepair, FormatState};
pub use indexes::IndexRepair;
pub use lost_contents::{AffectedEntry, LostContents};

use crate::blob::Storage;
use crate::cancel::CancelToken;
use crate::error::Result;
use crate::progress::Progress;
use crate::repository::{OpenOptions, Repository};
use hiding::HidingStorage;
use serde::Serialize;
use std::sync::Arc;

/// What to repair.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// Change nothing: say what would be done.
    pub dry_run: bool,
    /// Take in entries of packs though no index blob is damaged (index blobs were deleted). What
    /// maintenance dropped a while ago comes back too, until it collects it again.
    pub all_packs: bool,
    /// Read all packs: contents that do not read back are lost too.
    pub read_packs: bool,
    /// Counts what is read.
    pub progress: Arc<Progress>,
    /// Asks for the end.
    pub cancel: CancelToken,
}

/// What was found and done.
#[derive(Debug, Serialize)]
pub struct RepairReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The format blob.
    pub format: FormatRepair,
    /// Index blobs and entries; absent if the format blob cannot be had.
    pub indexes: Option<IndexRepair>,
    /// Contents that cannot be read any more; absent as above.
    pub lost: Option<LostContents>,
}

impl RepairReport {
    /// Whether nothing was wrong.
    pub fn is_sound(&self) -> bool {
        self.format.state == FormatState::Sound
            && self
                .indexes
                .as_ref()
                .is_some_and(|indexes| indexes.damaged.is_empty() && indexes.recovered.count == 0)
            && self.lost.as_ref().is_some_and(LostContents::is_settled)
    }
}

/// Looks for damage of every kind and, unless it is a dry run, repairs it.
///
/// # Errors
/// `InvalidPassword` if no format blob opens with it; the storage's.
pub fn run(
    storage: &Arc<dyn Storage>,
    password: impl AsRef<[u8]>,
    open: &OpenOptions,
    options: &RepairOptions,
) -> Result<RepairReport> {
    let password = password.as_ref();
    let format = format::repair(storage.as_ref(), password, options)?;
    let mut report = RepairReport { dry_run: options.dry_run, format, indexes: None, lost: None };
    let readable = report.format.state == FormatState::Sound || report.format.restored;
    if !readable {
        return Ok(report);
    }
    let damaged = damaged::find(storage.as_ref(), password, &options.cancel)?;
    // Without the damaged ones it opens; what they held comes out of the packs.
    let hidden = damaged.iter().map(|blob| blob.id()).collect();
    let visible: Arc<dyn Storage> = Arc::new(HidingStorage::new(Arc::clone(storage), hidden));
    // What the cache holds says nothing about the storage.
    let open = OpenOptions { read_only: options.dry_run, index_cache: None, ..open.clone() };
    let repository = Repository::open(visible, password, open)?;
    report.indexes = Some(indexes::repair(storage.as_ref(), &repository, damaged, options)?);
    report.lost = Some(lost_contents::repair(&repository, options)?);
    Ok(report)
}
