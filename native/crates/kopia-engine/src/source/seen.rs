//! Metadata of many entries, compactly: 32 bytes each, and what files mostly share once.
//!
//! Entries without metadata have their place too, so that places are those of the listing.

use super::metadata::Metadata;
use kopia_format::Timestamp;
use rustix::fs::FileType;

/// Metadata of the first entries of a listing.
#[derive(Debug, Default)]
pub(super) struct Seen {
    entries: Vec<Entry>,
    shared: Vec<Shared>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    seconds: i64,
    nanoseconds: u32,
    /// Which of `shared`; none if there is no metadata.
    shared: u32,
    size: u64,
    inode: u64,
}

/// What neighbours often have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shared {
    file_type: FileType,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    device: u64,
}

const NOT_SEEN: Entry = Entry { seconds: 0, nanoseconds: 0, shared: u32::MAX, size: 0, inode: 0 };

impl Seen {
    /// Makes room for `count` entries, or as many as take `bytes_max`; gives for how many.
    pub(super) fn reserve(&mut self, count: usize, bytes_max: usize) -> usize {
        let count = count.min(bytes_max / size_of::<Entry>());
        self.entries.reserve_exact(count);
        count
    }
    /// Appends metadata, or a place without.
    pub(super) fn push(&mut self, metadata: Option<&Metadata>) {
        let entry = metadata.map_or(NOT_SEEN, |metadata| self.entry(metadata));
        self.entries.push(entry);
    }
    fn entry(&mut self, metadata: &Metadata) -> Entry {
        let &Metadata { file_type, mode, size, modified, uid, gid, device, inode, links, .. } = metadata;
        let shared = Shared { file_type, mode, uid, gid, links, device };
        if self.shared.last() != Some(&shared) {
            self.shared.push(shared);
        }
        let Timestamp { seconds, nanoseconds } = modified;
        Entry { seconds, nanoseconds, shared: (self.shared.len() - 1) as u32, size, inode }
    }
    /// The metadata at a place.
    pub(super) fn get(&self, index: usize) -> Option<Metadata> {
        let entry = self.entries.get(index)?;
        let &Shared { file_type, mode, uid, gid, links, device } = self.shared.get(entry.shared as usize)?;
        let modified = Timestamp { seconds: entry.seconds, nanoseconds: entry.nanoseconds };
        let (size, inode, changed) = (entry.size, entry.inode, Timestamp::default());
        Some(Metadata { file_type, mode, size, modified, changed, uid, gid, device, inode, links })
    }
    /// Moves an entry to an earlier place.
    pub(super) fn shift(&mut self, from: usize, to: usize) {
        if let Some(entry) = self.entries.get(from) {
            self.entries[to] = *entry;
        }
    }
    /// Leaves only so many places.
    pub(super) fn truncate(&mut self, count: usize) {
        self.entries.truncate(count);
    }
    /// Bytes that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.shared.len() * size_of::<Shared>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(number: u64) -> Metadata {
        Metadata {
            file_type: if number.is_multiple_of(3) { FileType::Symlink } else { FileType::RegularFile },
            mode: 0o644,
            size: number << 33,
            modified: Timestamp { seconds: -1 - number.cast_signed(), nanoseconds: 999_999_999 },
            changed: Timestamp::default(),
            uid: number as u32 / 4,
            gid: 7,
            device: 1 << 40,
            inode: u64::MAX - number,
            links: 1,
        }
    }

    #[test]
    fn what_was_seen_is_given_at_its_place_also_after_others_were_taken_out() {
        let mut seen = Seen::default();
        for number in 0..10 {
            seen.push((number != 5).then(|| metadata(number)).as_ref());
        }
        assert_eq!(seen.get(5), None);
        assert_eq!(seen.get(10), None);
        for number in [0, 1, 4, 6, 9] {
            assert_eq!(seen.get(number as usize), Some(metadata(number)));
        }
        for (to, from) in [2, 5, 9].into_iter().enumerate() {
            seen.shift(from, to);
        }
        seen.truncate(3);
        assert_eq!([0, 1, 2, 3].map(|at| seen.get(at)), [Some(metadata(2)), None, Some(metadata(9)), None]);
    }
}
