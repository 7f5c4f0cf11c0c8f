//! Joins index blobs into fewer: read all, merge by the winner rule, write in parts that fit in
//! memory. Which blobs are joined, and what becomes of them, is decided in `maintenance`.
//!
//! Parts are consecutive stretches of keys. Kopia shards by a hash of the content ID; readers take
//! the union of a set's blobs either way.

use super::entry_table::EntryTable;
use super::index_set::{read_log, read_tables};
use super::index_writer::encode_index;
use super::location::{KEY_LENGTH_MAX, LOCATION_LENGTH, Location};
use super::manager::ContentManager;
use crate::error::Result;
use kopia_format::epoch::compaction_suffix;
use kopia_format::index::SHARD_ENTRIES_MAX;
use kopia_format::index_blob::{self, CompactionLog};
use kopia_format::{BlobId, Timestamp};
use std::sync::Arc;

/// Share of the memory limit for encoding one part; each row is there about four times.
const PART_MEMORY_SHARE: u64 = 4;
const ROW_COPIES: u64 = 4;
const PART_ROWS_MIN: u64 = 10_000;

/// Merged entries of some index blobs.
pub(crate) struct JoinedIndexes {
    table: Arc<EntryTable>,
}

impl JoinedIndexes {
    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

impl ContentManager {
    /// Reads and merges `blobs`; entries deleted before `drop_before` are left out at the end.
    ///
    /// # Errors
    /// `BlobNotFound` if another client compacted them meanwhile; `Corrupted`, naming the blob.
    pub(crate) fn join_indexes(
        &self,
        blobs: &[BlobId],
        drop_before: Option<Timestamp>,
    ) -> Result<JoinedIndexes> {
        let tables = read_tables(&self.context, &self.catalog, &self.committed, blobs, None)?;
        let merged = match tables.as_slice() {
            [] => Arc::new(self.committed.table_builder(0).finish()?),
            tables => self.committed.merge(tables)?,
        };
        // Only after the merge: a deletion that is left out too early brings back what it deleted.
        let table = match drop_before {
            Some(time) => Arc::new(self.without_deleted(&merged, time)?),
            None => merged,
        };
        Ok(JoinedIndexes { table })
    }

    fn without_deleted(&self, table: &EntryTable, before: Timestamp) -> Result<EntryTable> {
        let mut builder = self.committed.table_builder(table.len());
        table.walk(&[], None, &mut |key, location| {
            let deleted_at = Timestamp::from_unix_seconds(i64::from(location.timestamp_seconds));
            if location.deleted && deleted_at < before { Ok(()) } else { builder.push(key, &location) }
        })?;
        builder.finish()
    }

    /// Writes the entries as the set of blobs that replaces some epochs: `<prefix><hash>-s<set>-c<N>`.
    pub(crate) fn store_epoch_compaction(&self, joined: &JoinedIndexes, prefix: &str) -> Result<Vec<BlobId>> {
        let mut random = [0; 8];
        super::context::fill_random(&mut random)?;
        let rows_max = self.part_rows_max();
        let suffix = compaction_suffix(random, joined.len().div_ceil(rows_max));
        let mut stored = Vec::new();
        self.for_each_part(joined, rows_max, &mut |rows| {
            let index = self.encode_rows(rows, None)?;
            stored.push(self.context.put_sealed(prefix, Some(&suffix), &index)?);
            Ok(())
        })?;
        self.context.storage.sync()?;
        Ok(stored)
    }

    /// Writes the entries as legacy index blobs `n<hash>` without a session.
    pub(crate) fn store_legacy_compaction(&self, joined: &JoinedIndexes) -> Result<Vec<BlobId>> {
        let mut stored = Vec::new();
        self.for_each_part(joined, self.part_rows_max(), &mut |rows| {
            let mut random = [0; 32];
            super::context::fill_random(&mut random)?;
            let index = self.encode_rows(rows, Some(random))?;
            stored.push(self.context.put_sealed("n", None, &index)?);
            Ok(())
        })?;
        self.context.storage.sync()?;
        Ok(stored)
    }

    /// A legacy compaction log; `None` if it vanished meanwhile.
    pub(crate) fn read_compaction_log(&self, id: &BlobId) -> Result<Option<CompactionLog>> {
        read_log(&self.context, id)
    }

    /// Reads a whole sealed blob; `None` if it does not exist.
    pub(crate) fn read_sealed_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>> {
        let mut sealed = Vec::new();
        match self.context.storage.get(id, &mut sealed) {
            Err(error) if error.kind == crate::ErrorKind::BlobNotFound => return Ok(None),
            result => result?,
        }
        Ok(Some(index_blob::open_blob(&self.context.sealer, id, &mut sealed)?.to_vec()))
    }

    fn part_rows_max(&self) -> usize {
        let row_bytes = (KEY_LENGTH_MAX + LOCATION_LENGTH) as u64 * ROW_COPIES;
        let rows = self.context.memory_limit_bytes / PART_MEMORY_SHARE / row_bytes;
        rows.clamp(PART_ROWS_MIN, SHARD_ENTRIES_MAX) as usize
    }

    fn for_each_part(
        &self,
        joined: &JoinedIndexes,
        rows_max: usize,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let bytes_max = rows_max.saturating_mul(self.context.key_length() + LOCATION_LENGTH);
        let mut rows = Vec::new();
        joined.table.walk(&[], None, &mut |key, location| {
            rows.extend_from_slice(key);
            rows.extend_from_slice(&Location::encode(&location));
            if rows.len() >= bytes_max {
                each(&rows)?;
                rows.clear();
            }
            Ok(())
        })?;
        if rows.is_empty() { Ok(()) } else { each(&rows) }
    }

    fn encode_rows(&self, rows: &[u8], random_suffix: Option<[u8; 32]>) -> Result<Vec<u8>> {
        let key_length = self.context.key_length();
        let rows: Vec<_> = rows.chunks_exact(key_length + LOCATION_LENGTH).collect();
        encode_index(self.context.index_version, &self.catalog, &rows, key_length, random_suffix)
    }
}
