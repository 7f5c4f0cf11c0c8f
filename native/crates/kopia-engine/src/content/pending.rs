//! Entries that no stored index names yet, sharded so that writing threads seldom meet.
//!
//! An entry is reserved before its bytes are written, so that two threads that put the same content
//! store it once: the second waits the moment until the first has written (or failed, and then
//! takes over).

use super::catalog::PACK_NUMBER_LIMIT;
use super::location::{Key, LOCATION_LENGTH, Location};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::atomic::{AtomicUsize, Ordering};

const SHARDS: usize = 64;
/// Rows by which a shard grows at least.
const GROW_ROWS_MIN: usize = 32;

/// All pending entries.
pub(crate) struct PendingEntries {
    key_length: usize,
    shards: Vec<Shard>,
    count: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    rows: Mutex<Rows>,
    settled: Condvar,
}

/// Rows of one shard; the table holds row numbers, so an entry costs its row and five bytes.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    by_key: HashTable<u32>,
    free: Vec<u32>,
}

/// What `reserve` found.
pub(crate) enum Reservation<'a> {
    /// Nobody else has it: the caller must write it, then `commit`.
    Mine(Reserved<'a>),
    /// It is there, live.
    Present,
}

/// A reserved entry; given back when dropped without `commit`.
pub(crate) struct Reserved<'a> {
    entries: &'a PendingEntries,
    key: Key,
    /// The pending deleted entry that is being replaced.
    previous: Option<Location>,
}

/// Stands in a row while its content is being written.
const RESERVED: Location = Location {
    timestamp_seconds: 0,
    offset: 0,
    deleted: false,
    packed_length: 0,
    original_length: 0,
    pack: PACK_NUMBER_LIMIT,
    format: 0,
};

impl Rows {
    fn key(bytes: &[u8], row: u32, key_length: usize) -> &[u8] {
        &bytes[row as usize * (key_length + LOCATION_LENGTH)..][..key_length]
    }

    fn location(&self, row: u32, key_length: usize) -> Location {
        Location::decode(
            &self.bytes[row as usize * (key_length + LOCATION_LENGTH) + key_length..][..LOCATION_LENGTH],
        )
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let wanted = key.as_bytes();
        self.by_key.find(key.number(), |&row| Self::key(&self.bytes, row, wanted.len()) == wanted).copied()
    }

    fn set(&mut self, key: &Key, location: &Location) {
        let wanted = key.as_bytes();
        let key_length = wanted.len();
        let bytes = &self.bytes;
        let number = |row: &u32| Key::from_bytes(Self::key(bytes, *row, key_length)).number();
        let row =
            match self.by_key.entry(key.number(), |&row| Self::key(bytes, row, key_length) == wanted, number)
            {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    let next = (bytes.len() / (key_length + LOCATION_LENGTH)) as u32;
                    let row = self.free.pop().unwrap_or(next);
                    entry.insert(row);
                    row
                }
            };
        self.write_row(row, wanted, location);
    }

    fn write_row(&mut self, row: u32, key: &[u8], location: &Location) {
        let length = key.len() + LOCATION_LENGTH;
        let at = row as usize * length;
        if at == self.bytes.len() {
            if self.bytes.capacity() == at {
                self.bytes.reserve_exact((at / 4).max(GROW_ROWS_MIN * length));
            }
            self.bytes.resize(at + length, 0);
        }
        self.bytes[at..at + key.len()].copy_from_slice(key);
        self.bytes[at + key.len()..at + length].copy_from_slice(&location.encode());
    }

    fn remove(&mut self, key: &Key) {
        let wanted = key.as_bytes();
        let bytes = &self.bytes;
        let found =
            self.by_key.find_entry(key.number(), |&row| Self::key(bytes, row, wanted.len()) == wanted);
        if let Ok(entry) = found {
            let (row, _) = entry.remove();
            self.free.push(row);
        }
        if self.by_key.is_empty() {
            *self = Self::default();
        }
    }
}

impl PendingEntries {
    /// An empty map for keys of `key_length`.
    pub(crate) fn new(key_length: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { key_length, shards, count: AtomicUsize::new(0) }
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &Key) -> &Shard {
        &self.shards[(key.number() >> 32) as usize % SHARDS]
    }

    /// Locks the shard of `key` once the entry is not being written by another thread.
    fn settled(&self, key: &Key) -> (MutexGuard<'_, Rows>, Option<Location>) {
        let shard = self.shard(key);
        let mut rows = shard.rows.lock();
        loop {
            let found = rows.find(key).map(|row| rows.location(row, self.key_length));
            if found != Some(RESERVED) {
                return (rows, found);
            }
            shard.settled.wait(&mut rows);
        }
    }

    /// The entry of `key`.
    pub(crate) fn find(&self, key: &Key) -> Option<Location> {
        self.settled(key).1
    }

    /// Reserves `key`, unless a live entry is there.
    pub(crate) fn reserve(&self, key: Key) -> Reservation<'_> {
        let (mut rows, previous) = self.settled(&key);
        if previous.is_some_and(|location| !location.deleted) {
            return Reservation::Present;
        }
        Reservation::Mine(self.take(&mut rows, key, previous))
    }

    /// Reserves `key` whatever is there (rewriting).
    pub(crate) fn reserve_anyway(&self, key: Key) -> Reserved<'_> {
        let (mut rows, previous) = self.settled(&key);
        self.take(&mut rows, key, previous)
    }

    fn take(&self, rows: &mut Rows, key: Key, previous: Option<Location>) -> Reserved<'_> {
        rows.set(&key, &RESERVED);
        if previous.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Reserved { entries: self, key, previous }
    }

    /// A buffer that takes all rows without growing.
    pub(crate) fn row_buffer(&self) -> Vec<u8> {
        Vec::with_capacity(self.len() * (self.key_length + LOCATION_LENGTH))
    }

    /// Appends the rows (key, location) that `wanted` accepts to `out`, in no order.
    pub(crate) fn collect(&self, wanted: &dyn Fn(&Location) -> bool, out: &mut Vec<u8>) {
        for shard in &self.shards {
            let rows = shard.rows.lock();
            for &row in &rows.by_key {
                let location = rows.location(row, self.key_length);
                if location != RESERVED && wanted(&location) {
                    out.extend_from_slice(Rows::key(&rows.bytes, row, self.key_length));
                    out.extend_from_slice(&location.encode());
                }
            }
        }
    }

    /// Removes entries that are still as given: an index now names them.
    pub(crate) fn remove_unchanged<'a>(&self, rows: impl Iterator<Item = (&'a [u8], Location)>) {
        for (key, location) in rows {
            let key = Key::from_bytes(key);
            let mut rows = self.shard(&key).rows.lock();
            if rows.find(&key).is_some_and(|row| rows.location(row, self.key_length) == location) {
                rows.remove(&key);
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Reserved<'_> {
    /// Its key.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The pending deleted (or rewritten) entry that this one replaces.
    pub(crate) fn previous(&self) -> Option<Location> {
        self.previous
    }

    /// The content is written at `location`.
    pub(crate) fn commit(mut self, location: Location) {
        self.previous = Some(location);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let shard = self.entries.shard(&self.key);
        let mut rows = shard.rows.lock();
        match self.previous {
            Some(location) => rows.set(&self.key, &location),
            None => {
                rows.remove(&self.key);
                self.entries.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        drop(rows);
        shard.settled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn key(number: u32) -> Key {
        let mut bytes = [0; 17];
        bytes[1..9].copy_from_slice(&u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        Key::from_bytes(&bytes)
    }

    fn location(offset: u32, deleted: bool) -> Location {
        Location {
            timestamp_seconds: 1,
            offset,
            deleted,
            packed_length: 1,
            original_length: 1,
            pack: 0,
            format: 0,
        }
    }

    #[test]
    fn each_key_is_reserved_by_one_thread_only() {
        let entries = PendingEntries::new(17);
        let won = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..5000 {
                        if let Reservation::Mine(mine) = entries.reserve(key(number)) {
                            won.fetch_add(1, Ordering::Relaxed);
                            mine.commit(location(number, false));
                        }
                    }
                });
            }
        });
        assert_eq!(won.into_inner(), 5000);
        assert_eq!(entries.len(), 5000);
        assert!((0..5000).all(|number| entries.find(&key(number)) == Some(location(number, false))));
    }

    #[test]
    fn a_reservation_that_is_dropped_leaves_what_was_there() {
        let entries = PendingEntries::new(17);
        drop(entries.reserve_anyway(key(1)));
        assert_eq!((entries.len(), entries.find(&key(1))), (0, None));
        entries.reserve_anyway(key(1)).commit(location(7, true));
        assert!(matches!(entries.reserve(key(1)), Reservation::Mine(_)));
        assert_eq!((entries.len(), entries.find(&key(1))), (1, Some(location(7, true))));
    }

    #[test]
    fn entries_that_changed_meanwhile_are_not_removed() {
        let entries = PendingEntries::new(17);
        entries.reserve_anyway(key(1)).commit(location(1, false));
        entries.reserve_anyway(key(2)).commit(location(2, false));
        let mut rows = Vec::new();
        entries.collect(&|_| true, &mut rows);
        entries.reserve_anyway(key(2)).commit(location(2, true));
        let unchanged = rows.chunks_exact(17 + LOCATION_LENGTH).map(|row| row.split_at(17));
        entries.remove_unchanged(unchanged.map(|(key, location)| (key, Location::decode(location))));
        assert_eq!((entries.find(&key(1)), entries.find(&key(2))), (None, Some(location(2, true))));
        assert_eq!(entries.len(), 1);
    }
}
