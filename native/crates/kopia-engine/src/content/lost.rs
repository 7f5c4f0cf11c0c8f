//! Packs that index entries name and the storage does not have: a content in one of them counts as not stored, so
//! that who has its bytes stores it again.
//!
//! Nothing is looked for by itself, since it takes a listing of all packs; who has a reason asks.

use super::location::Location;
use super::manager::ContentManager;
use crate::error::Result;
use hashbrown::HashSet;
use std::sync::atomic::Ordering;

/// Prefixes of packs.
const PACK_PREFIXES: [&str; 2] = ["p", "q"];

impl ContentManager {
    /// Looks which packs are gone, and gives how many. From now on contents in them are not known.
    ///
    /// # Errors
    /// Those of listing.
    pub fn find_lost_packs(&self) -> Result<usize> {
        // Asked for first: what is stored meanwhile is in no listing.
        let mut left: HashSet<u32> = self.catalog.stored().into_iter().collect();
        for prefix in PACK_PREFIXES {
            self.context.storage.list(prefix, &mut |blob| {
                if let Some(number) = self.catalog.known_number(&blob.id) {
                    left.remove(&number);
                }
                Ok(())
            })?;
        }
        let mut lost = 0;
        for number in left {
            if self.catalog.name(number)?.as_str().starts_with(['p', 'q']) {
                self.catalog.mark_lost(number);
                lost += 1;
            }
        }
        self.has_lost_packs.store(lost > 0, Ordering::Release);
        Ok(lost)
    }

    /// Whether it is known that packs are gone.
    pub fn has_lost_packs(&self) -> bool {
        self.has_lost_packs.load(Ordering::Acquire)
    }

    /// Whether an entry stands for a content that is there, as far as is known.
    pub(super) fn is_sound(&self, location: &Location) -> bool {
        let is_lost = self.has_lost_packs() && self.catalog.is_lost(location.pack);
        !location.deleted && !is_lost
    }
}
