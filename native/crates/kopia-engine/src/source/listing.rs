//! Names of one directory in Kopia's order, compactly: one arena and 8 bytes an entry.
//!
//! A directory of a million entries costs its names and 8 MB; metadata is fetched later, in
//! order, and never held for all (what was gathered ahead is bounded there). Directories come first,
//! then everything else, each by bytes.

use super::metadata::{Kind, Metadata};
use super::seen::Seen;
use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes that one `getdents64` call may fill.
const LISTING_BUFFER_BYTES: usize = 32 << 10;

/// Where a name lies in the arena.
#[derive(Debug, Clone, Copy)]
struct NameRef {
    offset: u32,
    length: u16,
    kind: Kind,
}

/// A sorted listing.
#[derive(Debug, Default)]
pub struct Listing {
    arena: Vec<u8>,
    names: Vec<NameRef>,
    /// Metadata of the first of `names`, gathered ahead.
    seen: Seen,
    /// Entries that vanished while it was read.
    vanished: u64,
}

impl Listing {
    /// Reads the directory. Kinds that the file system does not tell are asked for one by one;
    /// entries that vanish meanwhile are left out and counted.
    ///
    /// # Errors
    /// What the system says; `EOVERFLOW` for a directory with more than 4 GiB of names.
    pub fn read(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        Self::read_within(directory, usize::MAX).map(Option::unwrap_or_default)
    }
    /// As [`Self::read`]; `None` if the names take more than `bytes_max`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_within(directory: BorrowedFd<'_>, bytes_max: usize) -> Result<Option<Self>, Errno> {
        let mut listing = Self::default();
        let mut buffer = [MaybeUninit::<u8>::uninit(); LISTING_BUFFER_BYTES];
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match kind_of(directory, name, entry.file_type())? {
                Some(kind) => listing.push(name, kind)?,
                None => listing.vanished += 1,
            }
            if listing.memory_bytes() > bytes_max {
                return Ok(None);
            }
        }
        listing.sort();
        Ok(Some(listing))
    }
    /// Bytes that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.arena.len() + self.names.len() * size_of::<NameRef>() + self.seen.memory_bytes()
    }
    /// Makes room for metadata within so many bytes; gives for how many entries.
    pub(super) fn reserve_seen(&mut self, bytes_max: usize) -> usize {
        self.seen.reserve(self.names.len(), bytes_max)
    }
    /// Notes metadata of the entries in order, beginning with the first.
    pub(super) fn note_seen(&mut self, metadata: Option<&Metadata>) {
        self.seen.push(metadata);
    }
    /// Metadata of an entry that was gathered ahead.
    pub fn seen(&self, index: usize) -> Option<Metadata> {
        self.seen.get(index)
    }
    /// Adds a name, out of order until `sort`.
    fn push(&mut self, name: &CStr, kind: Kind) -> Result<(), Errno> {
        let offset = u32::try_from(self.arena.len()).map_err(|_| Errno::OVERFLOW)?;
        let length = u16::try_from(name.count_bytes()).map_err(|_| Errno::NAMETOOLONG)?;
        self.arena.extend_from_slice(name.to_bytes_with_nul());
        self.names.push(NameRef { offset, length, kind });
        Ok(())
    }
    fn sort(&mut self) {
        let arena = &self.arena;
        let key = |name: &NameRef| (!name.kind.sorts_as_directory(), entry_name(arena, name));
        self.names.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        self.names.shrink_to_fit();
        self.arena.shrink_to_fit();
    }
    /// Leaves only the entries that `keep` accepts, given recorded name, name as it is, and kind.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &CStr, Kind) -> bool) {
        let arena = &self.arena;
        let mut kept = 0;
        for index in 0..self.names.len() {
            let name = self.names[index];
            if keep(entry_name(arena, &name), whole_name(arena, &name), name.kind) {
                self.names[kept] = name;
                self.seen.shift(index, kept);
                kept += 1;
            }
        }
        self.names.truncate(kept);
        self.seen.truncate(kept);
    }
    /// The name of an entry of this kind, which is not a directory, if it is there.
    pub fn find_file(&self, name: &[u8], kind: Kind) -> Option<&CStr> {
        let key = (true, name);
        let compared = |at: &NameRef| (!at.kind.sorts_as_directory(), entry_name(&self.arena, at)).cmp(&key);
        let found = self.names.binary_search_by(compared).ok()?;
        (self.names[found].kind == kind).then(|| self.file_name(found))
    }
    /// Names that are not UTF-8.
    pub fn not_utf8(&self) -> usize {
        (0..self.len()).filter(|&index| std::str::from_utf8(self.name(index)).is_err()).count()
    }
    /// Entries that vanished while the directory was listed.
    pub fn vanished(&self) -> u64 {
        self.vanished
    }
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.names.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
    /// Kind of an entry.
    pub fn kind(&self, index: usize) -> Kind {
        self.names[index].kind
    }
    /// Name under which an entry is recorded (without the suffix of placeholders).
    pub fn name(&self, index: usize) -> &[u8] {
        entry_name(&self.arena, &self.names[index])
    }
    /// Name of an entry as the file system has it.
    pub fn file_name(&self, index: usize) -> &CStr {
        whole_name(&self.arena, &self.names[index])
    }
    /// Whether an entry of this recorded name, other than a placeholder, is there.
    pub fn contains_real(&self, recorded: &[u8]) -> bool {
        let is = |name: &NameRef| {
            !matches!(name.kind, Kind::PlaceholderFile | Kind::PlaceholderDirectory)
                && entry_name(&self.arena, name) == recorded
        };
        self.names.iter().any(is)
    }
}

/// Name as the file system has it.
fn whole_name<'a>(arena: &'a [u8], name: &NameRef) -> &'a CStr {
    let start = name.offset as usize;
    CStr::from_bytes_with_nul(&arena[start..=start + usize::from(name.length)]).unwrap_or_default()
}

/// Recorded name: placeholders lose their suffix.
fn entry_name<'a>(arena: &'a [u8], name: &NameRef) -> &'a [u8] {
    let start = name.offset as usize;
    let whole = &arena[start..start + usize::from(name.length)];
    match name.kind {
        Kind::PlaceholderFile | Kind::PlaceholderDirectory => {
            &whole[..whole.len() - super::metadata::PLACEHOLDER_SUFFIX.len()]
        }
        _ => whole,
    }
}

/// The kind of an entry, or `None` if it vanished.
fn kind_of(directory: BorrowedFd<'_>, name: &CStr, told: FileType) -> Result<Option<Kind>, Errno> {
    if told != FileType::Unknown {
        return Ok(Some(Kind::of(told, name.to_bytes())));
    }
    match Metadata::of_name(directory.as_fd(), name) {
        Ok(metadata) => Ok(Some(Kind::of(metadata.file_type, name.to_bytes()))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(entries: &[(&CStr, Kind)]) -> Listing {
        let mut listing = Listing::default();
        for (name, kind) in entries {
            listing.push(name, *kind).expect("fits");
        }
        listing.sort();
        listing
    }

    #[test]
    fn directories_come_first_then_bytes_decide() {
        let listing = listing(&[
            (c"b", Kind::File),
            (c"a.b", Kind::Symlink),
            (c"z", Kind::Directory),
            (c"A", Kind::File),
            (c"y", Kind::Directory),
        ]);
        let names: Vec<_> = (0..listing.len()).map(|i| listing.name(i).to_vec()).collect();
        assert_eq!(names, [b"y".to_vec(), b"z".to_vec(), b"A".to_vec(), b"a.b".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn placeholders_are_recorded_without_their_suffix() {
        let listing = listing(&[(c"x.kopia-entry", Kind::PlaceholderFile), (c"x", Kind::File)]);
        assert_eq!(listing.name(0), b"x");
        assert_eq!(listing.name(1), b"x");
        assert!(listing.contains_real(b"x"));
        assert!((0..2).any(|i| listing.file_name(i) == c"x.kopia-entry"));
    }
}
