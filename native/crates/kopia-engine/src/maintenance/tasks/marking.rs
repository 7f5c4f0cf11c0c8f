//! Marking what snapshots use: from every root through all directories and index objects.
//!
//! Marks are bits by row of a frozen index, so that memory does not grow with the number of
//! files; directories that several snapshots share are walked once. The surprise: anything that
//! cannot be read ends the marking with an error, since what hangs below it would look unused.

use super::super::cycle::Cycle;
use crate::content::ContentManager;
use crate::content::frozen::{FrozenIndex, NumberSet};
use crate::error::{Error, ErrorKind, Result};
use crate::object::for_each_content;
use crate::tree;
use kopia_format::ObjectId;
use kopia_format::snapshot::{DirectoryEntry, EntryType};
use kopia_format::{ContentId, ManifestId};
use parking_lot::{Condvar, Mutex};

/// Threads that read directories.
const WALKERS_MAX: usize = 4;
/// Contents without an entry that an error names.
const MISSING_NAMED: usize = 3;

/// Which contents are in use.
pub(super) struct Marks {
    pub(super) index: FrozenIndex,
    used: NumberSet,
}

impl Marks {
    /// Whether a content is in use; `None` if it came after the marking began.
    pub(super) fn is_used(&self, content: &ContentId) -> Result<Option<bool>> {
        Ok(self.index.row_of(content)?.map(|row| self.used.contains(row)))
    }
}

/// Marks everything that the snapshots `ids` need.
///
/// # Errors
/// `ContentNotFound` if a snapshot needs a content that no index names; those of reading.
pub(super) fn mark(cycle: &Cycle<'_>, ids: &[ManifestId]) -> Result<Marks> {
    let contents = cycle.repository.contents();
    let index = contents.freeze()?;
    let walk = Walk {
        cycle,
        contents,
        used: index.no_rows(),
        directories: index.no_rows(),
        indirect_directories: index.no_rows(),
        index_objects: index.no_rows(),
        index,
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    for id in ids {
        let snapshot = crate::snapshots::load(cycle.repository, id)?;
        let root = snapshot.root_entry.ok_or_else(|| {
            Error::new(ErrorKind::Corrupted, format!("snapshot {id} has no root")).with("snapshot", id)
        })?;
        walk.entry(&root).map_err(|error| error.while_doing(format!("snapshot {id}")))?;
        walk.run()?;
    }
    walk.finish()
}

struct Walk<'a> {
    cycle: &'a Cycle<'a>,
    contents: &'a ContentManager,
    index: FrozenIndex,
    used: NumberSet,
    /// Rows whose content was walked as a directory of one content …
    directories: NumberSet,
    /// … as the index object of a larger directory …
    indirect_directories: NumberSet,
    /// … and as the index object of any object.
    index_objects: NumberSet,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Directories of one content, by row: four bytes each, for there may be millions.
    rows: Vec<u32>,
    /// All other directories.
    objects: Vec<ObjectId>,
    /// Threads that may still add to the above.
    busy: usize,
    failed: Option<Error>,
    missing_count: u64,
    missing: Vec<ContentId>,
}

impl Walk<'_> {
    /// Walks until nothing is left.
    fn run(&self) -> Result<()> {
        let walkers = std::thread::available_parallelism().map_or(1, usize::from).min(WALKERS_MAX);
        std::thread::scope(|scope| {
            for _ in 1..walkers {
                scope.spawn(|| self.work());
            }
            self.work();
        });
        self.state.lock().failed.take().map_or(Ok(()), Err)
    }

    fn work(&self) {
        while let Some(directory) = self.next() {
            let walked = directory.and_then(|object| self.directory(object));
            let mut state = self.state.lock();
            state.busy -= 1;
            if let Err(error) = walked {
                state.failed.get_or_insert(error);
            }
            self.changed.notify_all();
        }
    }

    /// The next directory; waits while another thread may still find one.
    fn next(&self) -> Option<Result<ObjectId>> {
        let mut state = self.state.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(object) = state.objects.pop() {
                state.busy += 1;
                return Some(Ok(object));
            }
            if let Some(row) = state.rows.pop() {
                state.busy += 1;
                return Some(self.index.content_at(row as usize).map(ObjectId::direct));
            }
            if state.busy == 0 {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn directory(&self, object: ObjectId) -> Result<()> {
        self.cycle.cancel.check()?;
        let mut entries = 0;
        tree::for_each_entry(self.contents, object, &mut |entry| {
            entries += 1;
            self.entry(&entry)
        })?;
        self.cycle.looked_at(entries);
        Ok(())
    }

    fn entry(&self, entry: &DirectoryEntry) -> Result<()> {
        let object = tree::object_of(entry)?;
        self.object(object)?;
        if entry.entry_type == EntryType::Directory { self.push(object) } else { Ok(()) }
    }

    fn push(&self, object: ObjectId) -> Result<()> {
        // A content without an entry was noted already; its directory cannot be read anyway.
        let Some(row) = self.index.row_of(&object.content)? else { return Ok(()) };
        let walked = match (object.indirection, object.compressed) {
            (0, false) => &self.directories,
            (1, false) => &self.indirect_directories,
            _ => {
                self.state.lock().objects.push(object);
                return Ok(());
            }
        };
        if !walked.add(row) {
            return Ok(());
        }
        let mut state = self.state.lock();
        match object.indirection {
            0 => state.rows.push(row as u32),
            _ => state.objects.push(object),
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Marks all contents of an object.
    fn object(&self, object: ObjectId) -> Result<()> {
        if object.indirection == 0 {
            return self.content(&object.content);
        }
        if object.indirection == 1 && !object.compressed {
            match self.index.row_of(&object.content)? {
                None => return self.content(&object.content),
                Some(row) if !self.index_objects.add(row) => return Ok(()),
                Some(_) => {}
            }
        }
        for_each_content(self.contents, object, &mut |content| {
            self.cycle.cancel.check()?;
            self.content(&content)
        })
    }

    fn content(&self, content: &ContentId) -> Result<()> {
        match self.index.row_of(content)? {
            Some(row) => {
                self.used.add(row);
            }
            None => {
                let mut state = self.state.lock();
                state.missing_count += 1;
                if state.missing.len() < MISSING_NAMED {
                    state.missing.push(*content);
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Marks> {
        let state = self.state.into_inner();
        if state.missing_count == 0 {
            return Ok(Marks { index: self.index, used: self.used });
        }
        let named: Vec<_> = state.missing.iter().map(ToString::to_string).collect();
        let message = format!(
            "snapshots use {} contents that no index names ({}, …): nothing is collected; repair the repository first",
            state.missing_count,
            named.join(", ")
        );
        Err(Error::new(ErrorKind::ContentNotFound, message))
    }
}
