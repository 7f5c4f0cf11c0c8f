//! What is lost: exactly which files of which snapshots need contents that cannot be read any more.
//!
//! Lost contents are marked as deleted, so that the next backup of the same data stores them again and
//! heals the snapshots. Sub-trees without a loss are walked once, whatever the number of
//! snapshots that share them.

use super::RepairOptions;
use super::losses::{self, ListedPacks, is_loss};
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

/// Contents that cannot be read any more, and what needs them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LostContents {
    /// Packs that are gone.
    pub packs: Vec<String>,
    /// Packs that are cut off: some of their contents lie behind the end.
    pub short_packs: Vec<String>,
    /// Contents of the packs that are gone, and those behind the end of the others.
    pub contents: CountAndBytes,
    /// Contents whose bytes do not open or do not match their hash. Those of manifests and directories are always
    /// found, others if all packs are read.
    pub damaged: CountAndBytes,
    /// Of all these, contents with manifests: snapshots and policies that stand nowhere else are gone.
    pub manifest_contents: u64,
    /// Of all these, not marked as deleted when they were found.
    pub unmarked: u64,
    /// Newly marked as deleted.
    pub marked: u64,
    /// Entries that need them, the first 100,000.
    pub affected: Vec<AffectedEntry>,
    /// How many entries need them.
    pub affected_count: u64,
}

impl LostContents {
    /// Whether nothing is lost that anything needs, and nothing has to be marked.
    pub fn is_settled(&self) -> bool {
        self.unmarked == 0 && self.affected_count == 0
    }
}

pub(super) fn repair(repository: &Repository, options: &RepairOptions) -> Result<LostContents> {
    let contents = repository.contents();
    contents.refresh()?;
    let mut report = LostContents::default();
    let index = contents.freeze()?;
    let packs = ListedPacks::list(repository)?;
    let lost = losses::find(repository, &index, &packs, options, &mut report)?;
    let mut search =
        Search { contents, lost: &lost, sound: index.no_rows(), index: &index, options, report: &mut report };
    let labels = Labels::from([("type".to_owned(), "snapshot".to_owned())]);
    let snapshots = repository.manifests().find(&labels)?;
    tree::on_walk_stack(|| snapshots.iter().try_for_each(|found| search.snapshot(repository, &found.id)))?;
    mark(contents, &index, &lost, options.dry_run, &mut report)?;
    if report.marked > 0 {
        repository.flush()?;
    }
    Ok(report)
}

fn mark(
    contents: &ContentManager,
    index: &FrozenIndex,
    lost: &NumberSet,
    dry_run: bool,
    report: &mut LostContents,
) -> Result<()> {
    for row in lost.numbers() {
        let id = index.content_at(row)?;
        if !contents.contains_live(&id)? {
            continue;
        }
        report.unmarked += 1;
        if !dry_run {
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
    report: &'a mut LostContents,
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
        let length = path.len();
        let walked = tree::for_each_entry(contents, object, &mut |child| {
            tree::push_name(path, &child.name);
            sound &= self.entry(snapshot, path, &child)?;
            path.truncate(length);
            Ok(())
        });
        match walked {
            Err(error) if is_loss(&error) => {
                path.truncate(length);
                self.damaged(&error)?;
                self.affected(snapshot, path, true);
                return Ok(false);
            }
            walked => drop(walked?),
        }
        if let Some(row) = row.filter(|_| sound) {
            self.sound.add(row);
        }
        Ok(sound)
    }

    /// Whether all contents of an object are there.
    fn object(&mut self, object: ObjectId) -> Result<bool> {
        if object.indirection == 0 {
            return self.content(&object.content);
        }
        let mut sound = true;
        let read = for_each_content(self.contents, object, &mut |content| {
            self.options.cancel.check()?;
            sound &= self.content(&content)?;
            if sound { Ok(()) } else { Err(Error::new(ErrorKind::ContentNotFound, "lost")) }
        });
        match read {
            Err(_) if !sound => Ok(false),
            Err(error) if is_loss(&error) => self.damaged(&error).map(|()| false),
            result => result.map(|()| sound),
        }
    }

    fn content(&self, content: &ContentId) -> Result<bool> {
        Ok(self.index.row_of(content)?.is_some_and(|row| !self.lost.contains(row)))
    }

    /// A content that an error names is lost, though nobody had read it before.
    fn damaged(&mut self, error: &Error) -> Result<()> {
        let named = error.context.iter().find(|(key, _)| *key == "content");
        let Some(content) = named.and_then(|(_, id)| ContentId::parse(id).ok()) else { return Ok(()) };
        let Some(row) = self.index.row_of(&content)? else { return Ok(()) };
        if self.lost.add(row) {
            let length = self.contents.info_at(self.index, row)?.packed_length;
            self.report.damaged.add(length.into());
        }
        Ok(())
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
