//! What the stored indexes say: a few sorted tables that are asked one after the other.
//!
//! A new table is merged with the smaller ones before it, so that there are never more than a
//! handful and each entry is copied a logarithmic number of times, not at every flush.

use super::catalog::PackCatalog;
use super::entry_table::{Cursor, EntryTable, TableBuilder};
use super::location::{Key, Location};
use crate::error::Result;
use kopia_format::BlobId;
use parking_lot::RwLock;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

/// A table stays apart from a newer one while it is this many times larger.
pub(super) const GROWTH: usize = 4;

/// The merged view of all stored indexes.
pub(crate) struct CommittedIndex {
    catalog: Arc<PackCatalog>,
    key_length: usize,
    table_memory_bytes_max: usize,
    state: RwLock<Arc<State>>,
}

#[derive(Clone, Default)]
struct State {
    tables: Vec<Arc<EntryTable>>,
    blobs: HashSet<BlobId>,
    /// Deleted entries up to this Unix second are absent (§4.4.3).
    watermark_seconds: i64,
}

impl CommittedIndex {
    /// An empty index; tables above `table_memory_bytes_max` live in temporary files.
    pub(crate) fn new(catalog: Arc<PackCatalog>, key_length: usize, table_memory_bytes_max: usize) -> Self {
        Self { catalog, key_length, table_memory_bytes_max, state: RwLock::default() }
    }

    /// A builder for a table of about `count` rows that fits in here.
    pub(crate) fn table_builder(&self, count: usize) -> TableBuilder {
        TableBuilder::new(self.key_length, count, self.table_memory_bytes_max)
    }

    /// Index blobs whose entries are in here.
    pub(crate) fn blobs(&self) -> HashSet<BlobId> {
        self.state.read().blobs.clone()
    }

    /// The winning entry of a content that the watermark does not mask.
    pub(crate) fn find(&self, key: &Key) -> Result<Option<Location>> {
        let state = self.state.read();
        Ok(self.find_in(&state, key)?.filter(|location| !state.masks(location)))
    }

    /// The winning entry of a content, masked or not.
    pub(crate) fn find_unmasked(&self, key: &Key) -> Result<Option<Location>> {
        self.find_in(&self.state.read(), key)
    }

    fn find_in(&self, state: &State, key: &Key) -> Result<Option<Location>> {
        let mut winner: Option<Location> = None;
        for table in &state.tables {
            if let Some(found) = table.find(key)?
                && winner.is_none_or(|winner| self.catalog.supersedes(&found, &winner))
            {
                winner = Some(found);
            }
        }
        Ok(winner)
    }

    /// Adds entries that `blobs` hold.
    pub(crate) fn add(&self, table: Arc<EntryTable>, blobs: impl IntoIterator<Item = BlobId>) -> Result<()> {
        let mut state = State::clone(&**self.state.read());
        state.blobs.extend(blobs);
        if table.len() > 0 {
            state.tables.push(table);
            self.merge_small(&mut state.tables)?;
        }
        self.publish(state);
        Ok(())
    }

    /// Forgets everything and takes over `tables`, and `apart` as they are, which `blobs` hold.
    pub(crate) fn replace(
        &self,
        tables: Vec<Arc<EntryTable>>,
        apart: Vec<Arc<EntryTable>>,
        blobs: HashSet<BlobId>,
        watermark_seconds: i64,
    ) -> Result<()> {
        let mut tables = self.join_alike(tables)?;
        tables.extend(apart);
        tables.sort_by_key(|table| Reverse(table.len()));
        self.publish(State { tables, blobs, watermark_seconds });
        Ok(())
    }

    /// Joins tables with those of about their size, each row once: a large table is not copied for the
    /// sake of small ones, and few are left to be asked.
    fn join_alike(&self, mut tables: Vec<Arc<EntryTable>>) -> Result<Vec<Arc<EntryTable>>> {
        tables.retain(|table| table.len() > 0);
        tables.sort_unstable_by_key(|table| table.len());
        let mut joined = Vec::new();
        let mut rest = tables.as_slice();
        while let [smallest, others @ ..] = rest {
            let mut rows = smallest.len();
            let mut is_alike = |table: &&Arc<EntryTable>| {
                let alike = table.len() < GROWTH * rows;
                rows += table.len();
                alike
            };
            let count = 1 + others.iter().take_while(&mut is_alike).count();
            joined.push(self.merge(&rest[..count])?);
            rest = &rest[count..];
        }
        joined.reverse();
        Ok(joined)
    }

    /// Takes note of which blobs the tables come from, and of the deletion watermark.
    pub(crate) fn adopt(&self, blobs: HashSet<BlobId>, watermark_seconds: i64) {
        let tables = self.state.read().tables.clone();
        self.publish(State { tables, blobs, watermark_seconds });
    }

    fn publish(&self, state: State) {
        *self.state.write() = Arc::new(state);
    }

    fn merge_small(&self, tables: &mut Vec<Arc<EntryTable>>) -> Result<()> {
        let mut first = tables.len() - 1;
        let mut rows = tables[first].len();
        while first > 0 && tables[first - 1].len() < GROWTH * rows {
            first -= 1;
            rows += tables[first].len();
        }
        let merged = self.merge(&tables[first..])?;
        tables.truncate(first);
        tables.push(merged);
        Ok(())
    }

    /// One table out of several.
    pub(crate) fn merge(&self, tables: &[Arc<EntryTable>]) -> Result<Arc<EntryTable>> {
        if let [only] = tables {
            return Ok(Arc::clone(only));
        }
        let count = tables.iter().map(|table| table.len()).sum();
        let mut builder = self.table_builder(count);
        merge_walk(&self.catalog, tables, &[], None, &mut |key, location| builder.push(key, &location))?;
        Ok(Arc::new(builder.finish()?))
    }

    /// Everything as one table that later changes do not touch, and the deletion watermark.
    pub(crate) fn frozen(&self) -> Result<(Arc<EntryTable>, i64)> {
        let state = Arc::clone(&self.state.read());
        let table = match state.tables.as_slice() {
            [] => Arc::new(self.table_builder(0).finish()?),
            tables => self.merge(tables)?,
        };
        Ok((table, state.watermark_seconds))
    }

    /// Bytes of rows that may be in memory in one table.
    pub(crate) fn table_memory_bytes_max(&self) -> usize {
        self.table_memory_bytes_max
    }

    /// Calls `each` for the winning entry of every content between two keys, in key order, masked
    /// ones left out; `pending` is asked as well.
    pub(crate) fn walk(
        &self,
        pending: Option<EntryTable>,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Location) -> Result<()>,
    ) -> Result<()> {
        let state = Arc::clone(&self.state.read());
        let tables: Vec<_> = state.tables.iter().cloned().chain(pending.map(Arc::new)).collect();
        merge_walk(&self.catalog, &tables, from, to, &mut |key, location| {
            if state.masks(&location) { Ok(()) } else { each(key, location) }
        })
    }
}

impl State {
    fn masks(&self, location: &Location) -> bool {
        location.deleted && i64::from(location.timestamp_seconds) <= self.watermark_seconds
    }
}

type Row = (Key, Location);

/// Walks `tables` as one: each key once, with the entry that wins.
fn merge_walk(
    catalog: &PackCatalog,
    tables: &[Arc<EntryTable>],
    from: &[u8],
    to: Option<&[u8]>,
    each: &mut dyn FnMut(&[u8], Location) -> Result<()>,
) -> Result<()> {
    if let [only] = tables {
        return only.walk(from, to, each);
    }
    let mut cursors: Vec<_> = tables.iter().map(|table| Cursor::from_key(table, from)).collect();
    let mut locations = vec![None; cursors.len()];
    let mut heap = BinaryHeap::new();
    for index in 0..cursors.len() {
        advance(&mut cursors, &mut locations, &mut heap, index)?;
    }
    let mut pending: Option<Row> = None;
    while let Some(Reverse((key, index))) = heap.pop() {
        if to.is_some_and(|to| key.as_bytes() >= to) {
            break;
        }
        if let Some(location) = locations[index]
            && key.as_bytes() >= from
        {
            pending = Some(offer(catalog, pending, (key, location), each)?);
        }
        advance(&mut cursors, &mut locations, &mut heap, index)?;
    }
    pending.map_or(Ok(()), |(key, location)| each(key.as_bytes(), location))
}

/// Keeps the winner of equal keys; gives away the row before once a greater key comes.
fn offer(
    catalog: &PackCatalog,
    pending: Option<Row>,
    row: Row,
    each: &mut dyn FnMut(&[u8], Location) -> Result<()>,
) -> Result<Row> {
    match pending {
        Some(before) if before.0 == row.0 => {
            Ok(if catalog.supersedes(&row.1, &before.1) { row } else { before })
        }
        Some((key, location)) => each(key.as_bytes(), location).map(|()| row),
        None => Ok(row),
    }
}

fn advance(
    cursors: &mut [Cursor<'_>],
    locations: &mut [Option<Location>],
    heap: &mut BinaryHeap<Reverse<(Key, usize)>>,
    index: usize,
) -> Result<()> {
    if let Some((key, location)) = cursors[index].next()? {
        heap.push(Reverse((Key::from_bytes(key), index)));
        locations[index] = Some(location);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(number: u16) -> Key {
        let mut bytes = [0; 17];
        bytes[1..3].copy_from_slice(&number.to_be_bytes());
        Key::from_bytes(&bytes)
    }

    fn location(timestamp_seconds: u32, deleted: bool) -> Location {
        Location {
            timestamp_seconds,
            offset: 0,
            deleted,
            packed_length: 0,
            original_length: 0,
            pack: 0,
            format: 0,
        }
    }

    fn index() -> CommittedIndex {
        CommittedIndex::new(Arc::new(PackCatalog::default()), 17, 500)
    }

    fn table(index: &CommittedIndex, rows: &BTreeMap<u16, (u32, bool)>) -> EntryTable {
        let mut builder = index.table_builder(rows.len());
        for (&number, &(time, deleted)) in rows {
            builder.push(key(number).as_bytes(), &location(time, deleted)).expect("in order");
        }
        builder.finish().expect("built")
    }

    proptest! {
        #[test]
        fn the_latest_entry_wins_over_all_tables(
            tables in prop::collection::vec(
                prop::collection::btree_map(0u16..60, (0u32..9, any::<bool>()), 0..40), 0..8),
            watermark in 0i64..9,
        ) {
            let (added, replaced) = (index(), index());
            let mut expected: BTreeMap<u16, (u32, bool)> = BTreeMap::new();
            for rows in &tables {
                added.add(Arc::new(table(&added, rows)), []).expect("added");
                for (&number, &row) in rows {
                    let known = expected.entry(number).or_insert(row);
                    if (row.0, !row.1) > (known.0, !known.1) { *known = row; }
                }
            }
            added.adopt(HashSet::new(), watermark);
            let all = tables.iter().map(|rows| Arc::new(table(&replaced, rows))).collect();
            replaced.replace(all, Vec::new(), HashSet::new(), watermark).expect("replaced");
            expected.retain(|_, row| !(row.1 && i64::from(row.0) <= watermark));
            for index in [added, replaced] {
                let mut walked = Vec::new();
                index.walk(None, &[], None, &mut |key, found| {
                    walked.push((u16::from_be_bytes([key[1], key[2]]), (found.timestamp_seconds, found.deleted)));
                    Ok(())
                }).expect("walked");
                prop_assert!(walked.iter().copied().eq(expected.clone()));
                for number in 0..60 {
                    let found = index.find(&key(number)).expect("found").map(|l| (l.timestamp_seconds, l.deleted));
                    prop_assert_eq!(found, expected.get(&number).copied());
                }
            }
        }
    }
}
