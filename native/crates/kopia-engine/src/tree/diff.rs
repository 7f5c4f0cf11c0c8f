//! What changed between two trees.
//!
//! Directories are merged by their stored order, entry by entry, so that two of a million entries
//! fit in memory; sub-trees with the same object are not read. Both sides of one directory are read by a
//! thread of their own, which only ever is a batch ahead.

use super::{directory_object, for_each_entry, push_name};
use crate::content::ContentManager;
use crate::error::{Error, ErrorKind, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use kopia_format::ObjectId;
use kopia_format::snapshot::{DirectoryEntry, EntryType};
use std::cmp::Ordering;
use std::thread;

/// Entries handed over at once.
const BATCH_ENTRIES: usize = 256;

/// How an entry changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Removed,
    /// Both have it, with other bytes or attributes (of a directory: its own, or anything below).
    Modified,
}

/// One changed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Path below the roots, `/` between names; empty for the roots themselves.
    pub path: Vec<u8>,
    /// What happened.
    pub change: Change,
    /// The entry in the first tree.
    pub before: Option<DirectoryEntry>,
    /// The entry in the second tree.
    pub after: Option<DirectoryEntry>,
}

/// Calls `each` for every entry that differs, a directory before what it holds. Of an added or
/// removed directory everything below is told too.
///
/// # Errors
/// Those of reading directories; those of `each`.
pub fn diff(
    contents: &ContentManager,
    before: DirectoryEntry,
    after: DirectoryEntry,
    each: &mut dyn FnMut(Difference) -> Result<()>,
) -> Result<()> {
    Comparison { contents, each }.pair(Vec::new(), Some(before), Some(after))
}

struct Comparison<'a> {
    contents: &'a ContentManager,
    each: &'a mut dyn FnMut(Difference) -> Result<()>,
}

/// Both sides of one name.
type Pair = (Option<DirectoryEntry>, Option<DirectoryEntry>);

impl Comparison<'_> {
    fn pair(
        &mut self,
        path: Vec<u8>,
        before: Option<DirectoryEntry>,
        after: Option<DirectoryEntry>,
    ) -> Result<()> {
        let change = match (&before, &after) {
            (Some(before), Some(after)) if equal(before, after) => None,
            (Some(_), Some(_)) => Some(Change::Modified),
            (None, _) => Some(Change::Added),
            (_, None) => Some(Change::Removed),
        };
        let objects = (directory_of(before.as_ref())?, directory_of(after.as_ref())?);
        if let Some(change) = change {
            (self.each)(Difference { path: path.clone(), change, before, after })?;
        }
        if objects.0 == objects.1 { Ok(()) } else { self.directories(&path, objects) }
    }

    /// Compares entry by entry; goes down only after both listings are closed.
    fn directories(&mut self, path: &[u8], objects: (Option<ObjectId>, Option<ObjectId>)) -> Result<()> {
        let mut below: Vec<(Vec<u8>, Pair)> = Vec::new();
        let contents = self.contents;
        thread::scope(|scope| {
            let mut sides = [objects.0, objects.1].map(|object| {
                let (sender, receiver) = bounded(1);
                scope.spawn(move || list(contents, object, &sender));
                Listing { receiver, batch: Vec::new().into_iter() }
            });
            let [before, after] = &mut sides;
            merge(before, after, &mut |name, pair: Pair| {
                let mut path = path.to_vec();
                push_name(&mut path, name);
                let directory = |side: &Option<DirectoryEntry>| {
                    side.as_ref().is_some_and(|entry| entry.entry_type == EntryType::Directory)
                };
                if directory(&pair.0) || directory(&pair.1) {
                    below.push((path, pair));
                    return Ok(());
                }
                self.pair(path, pair.0, pair.1)
            })
        })?;
        below.into_iter().try_for_each(|(path, (before, after))| self.pair(path, before, after))
    }
}

fn equal(a: &DirectoryEntry, b: &DirectoryEntry) -> bool {
    // A summary only repeats what is below; the root's name is that of the source, not of an entry.
    (a.entry_type, a.mode, a.size, a.modified, a.uid, a.gid, a.object)
        == (b.entry_type, b.mode, b.size, b.modified, b.uid, b.gid, b.object)
}

fn directory_of(entry: Option<&DirectoryEntry>) -> Result<Option<ObjectId>> {
    match entry {
        Some(entry) if entry.entry_type == EntryType::Directory => directory_object(entry).map(Some),
        _ => Ok(None),
    }
}

type Batch = Result<Vec<DirectoryEntry>>;

/// Sends the entries of a directory; ends early when nobody listens any more.
fn list(contents: &ContentManager, object: Option<ObjectId>, sender: &Sender<Batch>) {
    let Some(object) = object else { return };
    let mut batch = Vec::new();
    let read = for_each_entry(contents, object, &mut |entry| {
        batch.push(entry);
        if batch.len() < BATCH_ENTRIES {
            return Ok(());
        }
        let full = std::mem::take(&mut batch);
        sender.send(Ok(full)).map_err(|_| Error::new(ErrorKind::Canceled, "nobody listens"))
    });
    let rest = read.map(|_| batch);
    // A receiver that is gone has what it wanted.
    let _ = sender.send(rest);
}

struct Listing {
    receiver: Receiver<Batch>,
    batch: std::vec::IntoIter<DirectoryEntry>,
}

impl Listing {
    fn next(&mut self) -> Result<Option<DirectoryEntry>> {
        loop {
            if let Some(entry) = self.batch.next() {
                return Ok(Some(entry));
            }
            match self.receiver.recv() {
                Ok(batch) => self.batch = batch?.into_iter(),
                Err(_) => return Ok(None),
            }
        }
    }
}

/// Kopia's order of entries: directories first, then by name.
fn order(a: &DirectoryEntry, b: &DirectoryEntry) -> Ordering {
    let rank = |entry: &DirectoryEntry| entry.entry_type != EntryType::Directory;
    rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name))
}

/// Gives both sides of every name, as far as both keep Kopia's order. An entry that changed between
/// directory and file is given as removed and added.
fn merge(
    before: &mut Listing,
    after: &mut Listing,
    give: &mut dyn FnMut(&[u8], Pair) -> Result<()>,
) -> Result<()> {
    let (mut left, mut right) = (before.next()?, after.next()?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(a, b),
        };
        let mut pair = (None, None);
        if order.is_le() {
            pair.0 = std::mem::replace(&mut left, before.next()?);
        }
        if order.is_ge() {
            pair.1 = std::mem::replace(&mut right, after.next()?);
        }
        let name = pair.0.as_ref().or(pair.1.as_ref()).map(|entry| entry.name.clone()).unwrap_or_default();
        give(&name, pair)?;
    }
}
