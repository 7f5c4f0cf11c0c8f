//! Packs that index entries name and the storage does not have: exactly which files of which snapshots
//! they take along.
//!
//! Their contents are marked as deleted, so that the next backup of the same data stores them again and
//! heals the snapshots. Sub-trees without a loss are walked once, whatever the number of
//! snapshots that share them.

use super::RepairOptions;
use crate::content::ContentManager;
use crate::content::frozen::{FrozenIndex, NumberSet};
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::CountAndBytes;
use crate::manifest::Labels;
use crate::object::for_each_content;
use crate::repository::Repository;
use crate::{snapshots, tree};
use kopia_format::snapshot::{DirectoryEntry, EntryType};
use kopia_format::{ContentId, ManifestId, ObjectId};
use serde::Serialize;

/// Entries that a report names; the others are counted.
const ENTRIES_NAMED_MAX: usize = 100_000;

/// An entry of a snapshot that cannot be read whole any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AffectedEntry {
    /// The snapshot.
    pub snapshot: String,
    /// Path below its root, empty for the root itself; for a directory nothing below it can be seen.
    pub path: String,
    /// Whether it is a directory.
    pub directory: bool,
}

/// What is lost with packs that are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LostPacks {
    /// Their names.
    pub packs: Vec<String>,
    /// Contents in them.
    pub contents: CountAndBytes,
    /// Of these, newly marked as deleted.
    pub marked: u64,
    /// Entries that need them, the first 100,000.
    pub affected: Vec<AffectedEntry>,
    /// How many entries need them.
    pub affected_count: u64,
}

pub(super) fn repair(repository: &Repository, options: &RepairOptions) -> Result<LostPacks> {
    let contents = repository.contents();
    contents.refresh()?;
    let mut report = LostPacks::default();
    let index = contents.freeze()?;
    let lost = lost_rows(repository, &index, &mut report)?;
    if report.packs.is_empty() {
        return Ok(report);
    }
    let mut search =
        Search { contents, lost: &lost, sound: index.no_rows(), index: &index, options, report: &mut report };
    let labels = Labels::from([("type".to_owned(), "snapshot".to_owned())]);
    let snapshots = repository.manifests().find(&labels)?;
    tree::on_walk_stack(|| snapshots.iter().try_for_each(|found| search.snapshot(repository, &found.id)))?;
    if !options.dry_run {
        mark(contents, &index, &lost, &mut report)?;
        repository.flush()?;
    }
    Ok(report)
}

/// Rows whose pack is not in the storage.
fn lost_rows(repository: &Repository, index: &FrozenIndex, report: &mut LostPacks) -> Result<NumberSet> {
    let contents = repository.contents();
    let used = contents.packs_in_use()?;
    let missing = contents.missing_of(&used, repository.storage().as_ref())?;
    let rows = index.no_rows();
    contents.for_each_place(index, &mut |content| {
        if missing.contains(&content.place.pack) {
            rows.add(content.place.row as usize);
            report.contents.add(content.length.into());
        }
        Ok(())
    })?;
    for number in missing {
        report.packs.push(contents.pack_name(number)?.as_str().to_owned());
    }
    Ok(rows)
}

fn mark(
    contents: &ContentManager,
    index: &FrozenIndex,
    lost: &NumberSet,
    report: &mut LostPacks,
) -> Result<()> {
    for row in lost.numbers() {
        let id = index.content_at(row)?;
        if contents.contains_live(&id)? {
            contents.delete(&id)?;
            report.marked += 1;
        }
    }
    Ok(())
}

struct Search<'a> {
    contents: &'a ContentManager,
    index: &'a FrozenIndex,
    lost: &'a NumberSet,
    /// Rows of directories below which nothing is lost.
    sound: NumberSet,
    options: &'a RepairOptions,
    report: &'a mut LostPacks,
}

impl Search<'_> {
    fn snapshot(&mut self, repository: &Repository, id: &ManifestId) -> Result<()> {
        let Some(root) = snapshots::load(repository, id)?.root_entry else { return Ok(()) };
        self.entry(id, &mut Vec::new(), &root).map(|_| ())
    }

    /// Whether an entry and all below it can be read.
    fn entry(&mut self, snapshot: &ManifestId, path: &mut Vec<u8>, entry: &DirectoryEntry) -> Result<bool> {
        self.options.cancel.check()?;
        let object = tree::object_of(entry)?;
        let directory = entry.entry_type == EntryType::Directory;
        if !self.object(object)? {
            self.affected(snapshot, path, directory);
            return Ok(false);
        }
        if directory { self.directory(snapshot, path, object) } else { Ok(true) }
    }

    fn directory(&mut self, snapshot: &ManifestId, path: &mut Vec<u8>, object: ObjectId) -> Result<bool> {
        let direct = object.indirection == 0 && !object.compressed;
        let row = if direct { self.index.row_of(&object.content)? } else { None };
        if row.is_some_and(|row| self.sound.contains(row)) {
            return Ok(true);
        }
        let mut sound = true;
        let contents = self.contents;
        tree::for_each_entry(contents, object, &mut |child| {
            let length = path.len();
            tree::push_name(path, &child.name);
            sound &= self.entry(snapshot, path, &child)?;
            path.truncate(length);
            Ok(())
        })?;
        if let Some(row) = row.filter(|_| sound) {
            self.sound.add(row);
        }
        Ok(sound)
    }

    /// Whether all contents of an object are there.
    fn object(&self, object: ObjectId) -> Result<bool> {
        if object.indirection == 0 {
            return self.content(&object.content);
        }
        let mut sound = true;
        let read = for_each_content(self.contents, object, &mut |content| {
            sound &= self.content(&content)?;
            if sound { Ok(()) } else { Err(Error::new(ErrorKind::ContentNotFound, "lost")) }
        });
        match read {
            Err(error) if !sound || is_loss(&error) => Ok(false),
            result => result.map(|()| sound),
        }
    }

    fn content(&self, content: &ContentId) -> Result<bool> {
        Ok(self.index.row_of(content)?.is_some_and(|row| !self.lost.contains(row)))
    }

    fn affected(&mut self, snapshot: &ManifestId, path: &[u8], directory: bool) {
        self.report.affected_count += 1;
        if self.report.affected.len() < ENTRIES_NAMED_MAX {
            let path = String::from_utf8_lossy(path).into_owned();
            let snapshot = snapshot.as_str().to_owned();
            self.report.affected.push(AffectedEntry { snapshot, path, directory });
        }
    }
}

/// An index object in a lost pack cannot be read.
fn is_loss(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::BlobNotFound | ErrorKind::ContentNotFound)
}
