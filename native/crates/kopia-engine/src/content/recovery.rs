//! Entries out of the packs themselves: every pack ends with an index of its own contents (format
//! document §4.3), which nobody reads until the index blobs are lost.

use super::index_set::pack_number;
use super::location::{Key, Location};
use super::manager::ContentManager;
use crate::error::{Error, Result};
use kopia_format::BlobId;
use kopia_format::index::IndexReader;
use kopia_format::pack::Postamble;

/// Bytes at the end of a pack that surely hold its postamble.
const TAIL_BYTES: u64 = 8192;

/// An entry that a pack holds of itself.
pub(crate) struct RecoveredEntry {
    key: Key,
    location: Location,
}

impl RecoveredEntry {
    /// Stored length of the content.
    pub(crate) fn packed_length(&self) -> u64 {
        self.location.packed_length.into()
    }
}

impl ContentManager {
    /// The entries in the local index of a pack of `length` bytes: two small reads.
    ///
    /// # Errors
    /// `Corrupted` if the pack has no local index that opens; the storage's.
    pub(crate) fn read_local_index(&self, pack: &BlobId, length: u64) -> Result<Vec<RecoveredEntry>> {
        let named =
            |error: Error| error.while_doing(format!("local index of pack {pack}")).with("pack", pack);
        let storage = &self.context.storage;
        let tail_length = length.min(TAIL_BYTES);
        let mut bytes = Vec::new();
        storage.get_range(pack, length - tail_length, tail_length, &mut bytes).map_err(named)?;
        let postamble = Postamble::decode(&bytes).map_err(|error| named(error.into()))?;
        let (offset, index_length) = (postamble.local_index_offset, postamble.local_index_length);
        storage.get_range(pack, offset.into(), index_length.into(), &mut bytes).map_err(named)?;
        let plain = self.context.sealer.open_in_place(&postamble.local_index_iv, &mut bytes);
        let plain = plain.map_err(|error| named(error.into()))?;
        self.entries_of(plain).map_err(named)
    }

    fn entries_of(&self, index: &[u8]) -> Result<Vec<RecoveredEntry>> {
        let reader = IndexReader::open(index)?;
        let mut packs = vec![None; reader.pack_count()];
        let mut entries = Vec::with_capacity(reader.len());
        for position in 0..reader.len() {
            let entry = reader.raw_entry(position)?;
            let pack = pack_number(&self.catalog, &reader, &entry, &mut packs)?;
            let location = self.catalog.location(&entry, pack)?;
            entries.push(RecoveredEntry { key: Key::of(&entry.content), location });
        }
        Ok(entries)
    }

    /// Whether no index blob knows this entry or a later one, those that the watermark masks included.
    pub(crate) fn is_missing(&self, entry: &RecoveredEntry) -> Result<bool> {
        let known = self.committed.find_unmasked(&entry.key)?;
        Ok(known.is_none_or(|known| self.catalog.supersedes(&entry.location, &known)))
    }

    /// Takes an entry in; the next flush stores it.
    pub(crate) fn take_in(&self, entry: &RecoveredEntry) {
        let reserved = self.pending.reserve_anyway(entry.key);
        let pending = reserved.previous();
        if pending.is_none_or(|pending| self.catalog.supersedes(&entry.location, &pending)) {
            reserved.commit(entry.location);
        }
    }
}
